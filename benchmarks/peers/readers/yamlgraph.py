"""Read through yamlgraph: `execute_prompt_streaming` of a prompt file, as its documentation shows."""

from __future__ import annotations

import os
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.peers.wires import KEY, MODEL, QUESTION, Read, Token, root, versioned

executor: Any = import_module("yamlgraph.executor_async")
_PROMPT = f"system: You count.\nuser: {QUESTION}\n"


def open_reader(variant: str, wire: str, url: str) -> Read:
    """Return what reads the wire once; yamlgraph takes addresses and keys from the environment only."""
    name = wire.upper()
    os.environ[f"{name}_API_KEY"] = f"{KEY} for {url}"  # its cache of clients knows the key, but not the address
    os.environ[f"{name}_BASE_URL"] = root(wire, url) if wire == "anthropic" else versioned(wire, url)
    prompts = Path(tempfile.mkdtemp(prefix="streamcore-bench-"))
    (prompts / "count.yaml").write_text(_PROMPT, "utf-8")

    async def read(token: Token) -> None:
        async for text in executor.execute_prompt_streaming(
            "count", {}, provider=wire, model=MODEL, prompts_dir=prompts
        ):
            token(text)

    return read
