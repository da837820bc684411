"""Test that items and ends survive encoding as bytes: of every recording, and of any JSON."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore import Chunk, Completion, Message, Request, StreamcoreError, Usage, get_provider, stream_request
from streamcore.chunk import ChunkKind, Opaque, ToolCall, ToolResult
from streamcore.errors import ConfigError
from streamcore.parts import Image, Text
from streamcore.relay.entries import decode_end, decode_items, encode_end, encode_items
from streamcore.sse import Format, encode
from streamcore.testing.suites.run_log import ITEMS
from tests.support import require
from tests.wire_adapter import PROVIDERS, client_for

SHARED = Path(__file__).resolve().parents[3] / "shared"
RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"
FORMATS: tuple[Format, ...] = get_args(Format)

TEXTS = st.text(st.characters(), max_size=8)  # half surrogate pairs included
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, PLAIN, max_size=3)
COUNTS = st.none() | st.integers(0, 2**60)
CALLS = st.builds(ToolCall, st.none() | TEXTS, st.none() | TEXTS, TEXTS, st.integers(0, 9), st.booleans())
USAGES = st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, raw=OBJECTS)
PARTS = st.builds(Text, TEXTS) | st.builds(Image, data=st.binary(min_size=1), media_type=st.just("image/png"))
RESULTS = st.builds(
    ToolResult,
    *(TEXTS, TEXTS, TEXTS, st.none() | TEXTS, st.floats(0, 9)),
    st.lists(PARTS, max_size=2).map(tuple),
)
CHUNKS = st.builds(
    Chunk,
    kind=st.sampled_from(get_args(ChunkKind)),
    text=TEXTS,
    index=st.integers(0, 9),
    choice=st.integers(0, 9),
    tool_call=st.none() | CALLS,
    usage=st.none() | USAGES,
    finish_reason=st.sampled_from([None, "stop", "other"]),
    raw_finish_reason=st.none() | TEXTS,
    finish_detail=st.none() | TEXTS | OBJECTS,
    opaque=st.none() | st.builds(Opaque, TEXTS, st.lists(OBJECTS, max_size=2).map(tuple)),
    data=st.none() | OBJECTS,
    id=st.none() | TEXTS,
    event=st.none() | TEXTS,
    path=st.lists(TEXTS, max_size=2).map(tuple),
    tool_result=st.none() | RESULTS,
    raw=st.none() | st.binary(max_size=8),
)


def event(more: dict[str, Any]) -> dict[str, Any]:
    return {"node": "n", **more, "type": "node_complete"}


EVENTS = st.builds(event, OBJECTS)


@given(st.lists(CHUNKS | TEXTS | EVENTS, max_size=5))
def test_any_json_survives_encoding(items: list[Any]) -> None:
    assert decode_items(encode_items(items)) == items


ANSWERS = st.builds(
    Completion,
    text=TEXTS,
    tool_calls=st.lists(CALLS, max_size=2).map(tuple),
    usage=st.none() | USAGES,
    parsed=PLAIN,
)


@given(ANSWERS)
def test_any_answer_survives_encoding(answer: Completion) -> None:
    assert decode_end(encode_end(None, answer)) == (None, answer)


def test_data_that_are_not_json() -> None:
    with pytest.raises(ConfigError, match="cannot be stored"):
        encode_items([{"type": "node_complete", "output": object()}])


def bodies() -> list[tuple[str, bytes]]:
    """Return the recorded and handmade bodies, with their wires."""
    path = SHARED / "wire" / "check.py"
    require(path.exists(), "the corpus of recordings is not next to the checkout")
    spec = importlib.util.spec_from_file_location("wire_check", path)
    assert spec is not None
    assert spec.loader is not None
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    metas = [meta for split in ("recordings", "handmade") for meta in check.load(split)]
    return [(meta["wire"], meta["_body"].read_bytes()) for meta in metas]


async def trip(wire: str, body: bytes) -> int:
    """Encode and decode the chunks of a body, and compare them and the events for browsers."""
    items: list[Any] = []
    failure: StreamcoreError | None = None
    async with client_for(body) as client:
        provider = get_provider(PROVIDERS[wire], http_client=client, api_key="test-key")
        stream = stream_request(Request([Message("user", "x")], model="m"), provider=provider, include_raw=True)
        try:
            async for chunk in stream:
                items.append(chunk)
        except StreamcoreError as error:
            failure = error
    again = decode_items(encode_items(items))
    assert repr(again) == repr(items)  # which NaN equals, too
    ended_in, partial = decode_end(encode_end(failure, stream.partial))
    assert repr(partial) == repr(stream.partial)
    for fmt in FORMATS:
        if fmt == "json" or not any(chunk.kind == "restart" for chunk in items):
            assert encode(fmt).feed(again) == encode(fmt).feed(items)
        if failure is None:
            assert encode(fmt).end(partial) == encode(fmt).end(stream.partial)
        else:
            assert ended_in is not None
            assert encode(fmt).error(ended_in) == encode(fmt).error(failure)
    return len(items)


@pytest.mark.long
@pytest.mark.real
def test_every_recording() -> None:
    async def all_of_them() -> list[int]:
        return [await trip(wire, body) for wire, body in bodies()]

    counts = anyio.run(all_of_them)
    assert len(counts) > 380
    assert sum(counts) > 10_000


def test_the_suites_items_have_every_field() -> None:
    """Check that the suite notices a log that loses a field."""
    chunks = [item for item in ITEMS if isinstance(item, Chunk)]
    for name in Chunk.__slots__:
        assert any(getattr(chunk, name) for chunk in chunks), name
