"""Run the conformance suite on the documentation's own provider, and on providers that each break one promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamcore import Provider
from streamcore.testing.conformance import ProviderSuite
from tests.snippets import blocks, run_module

ROOT = Path(__file__).resolve().parent.parent
WALK_THROUGH = next(code for code in blocks(ROOT / "docs" / "providers.md", "python") if "class TypedProvider" in code)
TypedProvider: Any = run_module(WALK_THROUGH)["TypedProvider"]


# What the typed stream of the SDK costs, row by row.
WRAPPED = "the SDK wraps errors of a stream that has begun as if there had been no connection"
NO_STREAM = "the SDK takes any 200 for a stream"
LEAKS = "the SDK raises what its parser raises"
NO_LIMIT = "the SDK takes events of any size"
EVENTS = "the SDK raises its plain APIError, without status, for an error in a stream"
NO_HEADERS = "the example reads no Retry-After"
DEVIATIONS = {
    "rate-limited": NO_HEADERS,
    "retried-rate-limited": NO_HEADERS,
    "never-waits-past-total": NO_HEADERS,
    "https-to-http": "the example takes every lost connection for one that may come back",
    "reset-mid-stream": WRAPPED,
    "closed-mid-stream": WRAPPED,
    "broken-chunks": WRAPPED,
    "length-unmet": WRAPPED,
    "nothing-is-repeated-after-content": WRAPPED,
    "says-gzip": WRAPPED,
    "garbled-gzip": WRAPPED,
    "html-200": NO_STREAM,
    "json-200": NO_STREAM,
    "malformed-json": LEAKS,
    "invalid-utf8": LEAKS,
    "deep-json": LEAKS,
    "huge-event": NO_LIMIT,
    "endless-event": NO_LIMIT,
    "error-event": EVENTS,
    "error-event-final": EVENTS,
    "error-event-first": EVENTS,
    "retried-error-event-first": EVENTS,
    "secrets": "the example shows the vendor's words as they are",
    "reasoning": "the example passes text, tool calls, usage and the end",
    "tool-calls": "the example passes the fragments' names as the SDK gives them, which are None after the first",
}


class TestTypedProvider(ProviderSuite):
    """The provider of docs/providers.md, which stands on an SDK's typed stream."""

    wire = "openai-chat"
    backends = ("asyncio",)  # under trio the SDK leaves its generators to the garbage collector, which trio tells
    deviations = DEVIATIONS

    def provider(self, url: str) -> Provider:
        return TypedProvider(base_url=url + "/v1", api_key="docs-key-0123456789")
