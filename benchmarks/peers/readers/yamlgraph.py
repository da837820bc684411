"""Read through yamlgraph: `execute_prompt_streaming` of a prompt file, as its documentation shows."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from benchmarks.peers.wires import KEY, MODEL, PROMPTS, Read, Token, root, versioned

executor: Any = import_module("yamlgraph.executor_async")


def open_reader(variant: str, wire: str, url: str) -> Read:
    """Return the function that reads an answer of the wire; yamlgraph reads URLs and keys from the environment."""
    name = wire.upper()
    os.environ[f"{name}_API_KEY"] = f"{KEY} for {url}"  # its cache of clients knows the key, but not the address
    os.environ[f"{name}_BASE_URL"] = root(wire, url) if wire == "anthropic" else versioned(wire, url)

    async def read(token: Token) -> None:
        async for text in executor.execute_prompt_streaming(
            "count_for_yamlgraph", {}, provider=wire, model=MODEL, prompts_dir=PROMPTS
        ):
            token(text)

    return read
