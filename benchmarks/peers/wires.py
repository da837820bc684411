"""Define the simulator's URL of each wire; standard library only, since every peer's environment imports this file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

WIRES = ("openai", "openai-responses", "anthropic", "mistral")
PATHS = {
    "openai": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "mistral": "/mistral/v1/chat/completions",
}
MODEL = "m"
KEY = "benchmark-key"
MAX_TOKENS = 4096  # Anthropic wants one
TEMPERATURE = 0.7  # what streamcore sends for a prompt that sets none
QUESTION = "Count."  # as in the prompts
PROMPTS = Path(__file__).with_name("prompts")

Token = Callable[[Any], object]
"""Gets each piece of text as it comes; from a bare reader, the bytes of each read."""
Read = Callable[[Token], Awaitable[None]]
"""Ask once, and hand each token of the answer to the function that is given."""


def root(wire: str, url: str) -> str:
    """Return the base URL of a wire's host, without the version that some SDKs add themselves."""
    return url + "/mistral" if wire == "mistral" else url


def versioned(wire: str, url: str) -> str:
    """Return the base URL of a wire up to and including `/v1`."""
    return root(wire, url) + "/v1"


def body(wire: str) -> dict[str, Any]:
    """Return the body of a request that asks for a stream."""
    said = [{"role": "user", "content": QUESTION}]
    asked: dict[str, Any] = {
        "model": MODEL,
        "stream": True,
        "input" if wire == "openai-responses" else "messages": said,
    }
    return {**asked, "max_tokens": MAX_TOKENS} if wire == "anthropic" else asked
