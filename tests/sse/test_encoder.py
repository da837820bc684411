"""Test the SSE encoder: each format to the last character, ends, ids, restarts, any text in any pieces."""

from __future__ import annotations

import html
import json
import re
from collections.abc import AsyncIterator
from dataclasses import fields
from decimal import Decimal
from itertools import groupby, pairwise
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from streamcore import (
    Chunk,
    Completion,
    ConfigError,
    NodeError,
    Opaque,
    PromptNotFound,
    RateLimitError,
    StreamInterrupted,
    ToolCall,
    ToolResult,
    Usage,
)
from streamcore.chunk import ChunkKind
from streamcore.completion import Attempt
from streamcore.cost import Cost
from streamcore.errors import ConnectionFailed, OutputValidationError, RelayError
from streamcore.sse import Format, Item, encode, public_message, sse_response
from streamcore.sse.event_id import EventId, parse_event_id
from streamcore.sse.public import described_in_log, interrupted
from tests.sse_support import HOSTILE, RETURNS, Event, parse

FORMATS: list[Format] = ["text", "json", "html"]
TEXTS = st.lists(st.one_of(st.text(min_size=1, max_size=6), st.sampled_from([*HOSTILE, *RETURNS])), max_size=12)


def encoded(fmt: Format, items: list[Any], *, ids: bool = False, together: bool = False) -> list[Event]:
    encoder = encode(fmt, ids=ids)
    pieces = [encoder.feed(items)] if together else [encoder.feed([item]) for item in items]
    return parse(b"".join([encoder.start(), *pieces, encoder.end()]))


def shown(fmt: Format, events: list[Event]) -> str:
    """Return what a page shows."""
    messages = [event.data for event in events if event.event == "message"]
    if fmt == "text":
        assert messages.count("[DONE]") == 1
        assert messages.pop() == "[DONE]"
        return "".join(messages)
    if fmt == "html":
        assert all(data.startswith("<span>") and data.endswith("</span>") for data in messages)
        inner = "".join(data.removeprefix("<span>").removesuffix("</span>") for data in messages)
        assert "<" not in inner
        assert ">" not in inner
        # `html.unescape` reads `&#13;` and `&#10;` as a browser does.
        return html.unescape(inner)
    return "".join(json.loads(data)["text"] for data in messages)


def kept(fmt: Format, text: str) -> str:
    """Return the text as a format can represent it."""
    if fmt == "text":
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\0", "\ufffd") if fmt == "html" else text


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("fmt", FORMATS)
def test_hostile_tokens_arrive(fmt: Format, together: bool) -> None:
    tokens = [*HOSTILE, *RETURNS]
    assert shown(fmt, encoded(fmt, tokens, together=together)) == kept(fmt, "".join(tokens))


@pytest.mark.parametrize("fmt", FORMATS)
@given(tokens=TEXTS)
def test_any_text_arrives(fmt: Format, tokens: list[str]) -> None:
    events = encoded(fmt, tokens)
    assert shown(fmt, events) == kept(fmt, "".join(tokens))
    assert [event.event for event in events if event.event != "message"] == ([] if fmt == "text" else ["done"])


@given(text=st.text(st.sampled_from("[DONE]\r\n \t"), max_size=40), cuts=st.sets(st.integers(0, 40)))
def test_no_token_is_mistaken_for_the_end(text: str, cuts: set[int]) -> None:
    bounds = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[a:b] for a, b in pairwise(bounds)]
    *messages, last = [event.data for event in encoded("text", pieces)]
    assert last == "[DONE]"
    assert not [data for data in messages if data.strip() == "[DONE]"]
    assert "".join(messages) == kept("text", text)


def test_text_is_the_seeds_shape() -> None:
    encoder = encode("text")
    assert encoder.start() == b""
    assert encoder.feed(["Hello", Chunk("text", ", World")]) == b"data: Hello\n\ndata: , World\n\n"
    assert encoder.feed(["a\nb"]) == b"data: a\ndata: b\n\n"
    assert encoder.end() == b"data: [DONE]\n\n"


def test_html_shape() -> None:
    encoder = encode("html")
    assert encoder.feed(["<b>\r\n"]) == b"data: <span>&lt;b&gt;&#13;&#10;</span>\n\n"
    assert encoder.end() == b"event: done\ndata: \n\n"


@pytest.mark.parametrize("fmt", ["text", "html"])
def test_surrogates_in_two_events(fmt: Format) -> None:
    assert shown(fmt, encoded(fmt, ["a\ud83d", "\ude00b", "\ude00", "\ud83dx", "\ud83d"])) == "a😀b��x�"


def test_json_keeps_surrogates_apart() -> None:
    tokens = ["a\ud83d", "\ude00b"]
    assert [json.loads(event.data)["text"] for event in encoded("json", tokens)[:-1]] == tokens


CHUNKS = [
    Chunk("start", id="r1", model="m", request_id="q", usage=Usage(input_tokens=3, raw={"input_tokens": 3})),
    Chunk("text", "Hi\r\n"),
    Chunk("text", "second", index=1, choice=2),
    Chunk("text", ""),
    Chunk("reasoning", "hm", opaque=Opaque("w", ({"signature": "s"},))),
    Chunk("refusal", "no"),
    Chunk("tool_call", tool_call=ToolCall("c", "weather", '{"a"', position=1)),
    Chunk("citation", data={"url": "http://x"}),
    Chunk("usage", usage=Usage(1, 2, 3, 4, 5, raw={"n": {"m": None}})),
    Chunk("ping"),
    Chunk("restart"),
    Chunk("other", event="new.event", raw=b'{"x": [1, 1e400, "\xc3\xa9"]}'),
    Chunk("step", data={"step": 2}),
    Chunk("tool_progress", "half", tool_call=ToolCall("c", "weather"), path=("outer",)),
    Chunk("tool_result", tool_result=ToolResult("c", "weather", "Error: no", "ValueError: no", 0.5)),
    Chunk("finish", finish_reason="stop", raw_finish_reason="end_turn", finish_detail={"type": "x"}),
]


def chunk_of(data: str) -> Chunk:
    """Rebuild a chunk from its message."""
    found = json.loads(data)
    raw = found.pop("raw", None)
    chunk = msgspec.convert(found, Chunk)
    return Chunk(**{**{f.name: getattr(chunk, f.name) for f in fields(Chunk)}, "raw": raw and raw.encode()})


def test_json_loses_nothing_of_a_chunk() -> None:
    messages = [event.data for event in encoded("json", CHUNKS) if event.event == "message"]
    assert [chunk_of(data) for data in messages] == CHUNKS
    assert {chunk.kind for chunk in CHUNKS} == set(get_args(ChunkKind))


@pytest.mark.parametrize("fmt", ["text", "html"])
def test_only_what_the_functions_yield_is_sent(fmt: Format) -> None:
    chunks = [chunk for chunk in CHUNKS if chunk.kind != "restart"]
    assert shown(fmt, encoded(fmt, chunks)) == kept(fmt, "Hi\r\nno")


class Verdict(BaseModel):
    """What a node may put into the state."""

    score: float


GRAPH: list[Item] = [
    {"type": "node_start", "node": "a"},
    {"type": "token", "node": "a", "content": "Hi\n"},
    {"type": "node_complete", "node": "a", "output": {"answer": "Hi\n", "verdict": Verdict(score=0.5)}},
    {"type": "interrupt", "node": "b", "message": "Which\none?", "resume_key": "choice"},
    {"type": "token", "node": "c", "content": "<b>"},
    {"type": "graph_complete", "state": {"answer": "Hi\n"}},
]


def test_graph_events_as_json() -> None:
    messages = [json.loads(event.data) for event in encoded("json", GRAPH) if event.event == "message"]
    assert messages[2]["output"] == {"answer": "Hi\n", "verdict": {"score": 0.5}}
    assert messages[:2] + messages[3:] == [*GRAPH[:2], *GRAPH[3:]]


@pytest.mark.parametrize(("fmt", "question"), [("text", "Which\none?"), ("html", "<span>Which&#10;one?</span>")])
def test_graph_tokens_and_questions(fmt: Format, question: str) -> None:
    events = encoded(fmt, GRAPH)
    assert shown(fmt, events) == "Hi\n<b>"
    assert [event.data for event in events if event.event == "interrupt"] == [question]


def test_a_question_that_is_no_text() -> None:
    event = {"type": "interrupt", "node": "b", "message": {"pick": ["a", "b"]}, "resume_key": "choice"}
    assert encode("text").feed([event]) == b'event: interrupt\ndata: {"pick":["a","b"]}\n\n'


def test_values_that_json_cannot_represent() -> None:
    with pytest.raises(ConfigError, match=r"'node_complete'.*object"):
        encode("json").feed([{"type": "node_complete", "node": "a", "output": object()}])


@pytest.mark.parametrize("restart", [Chunk("restart"), {"type": "restart", "node": "a"}])
@pytest.mark.parametrize("fmt", ["text", "html"])
def test_restart_is_refused(fmt: Format, restart: Item) -> None:
    with pytest.raises(ConfigError, match="'json'"):
        encode(fmt).feed(["void", restart])


async def nothing() -> AsyncIterator[str]:
    return
    yield ""


def test_unknown_format() -> None:
    unknown: Any = "xml"
    with pytest.raises(ConfigError, match=r"'xml'.*'text', 'json', 'html'$"):
        encode(unknown)
    with pytest.raises(ConfigError, match=r"'xml'.*'text', 'json', 'html', 'ai-sdk', 'agui'$"):
        sse_response(nothing(), unknown)


@pytest.mark.parametrize("fmt", FORMATS)
def test_ids_count_items_and_end_in_end(fmt: Format) -> None:
    encoder = encode(fmt, ids=True)
    assert encoder.start() == b"id: 0\n\n"
    events = parse(encoder.feed(["a", "b"]) + encoder.feed([Chunk("text", "[DONE]")]) + encoder.end())
    third = ["3+444f4e455d", "3"] if fmt == "text" else ["3"]  # of [DONE] only the bracket has been sent
    assert [event.id for event in events] == ["1", "2", *third, "end"]
    later = encode(fmt, ids="r7", after=7)
    assert later.start() == b"id: r7.7\n\n"
    assert [event.id for event in parse(later.feed(["a"]) + later.end())] == ["r7.8", "r7.end"]


def joined(events: list[Event]) -> list[tuple[str, str]]:
    """Return the text between events with names, however it is divided into messages."""
    groups = groupby(events, key=lambda event: event.event)
    return [(name, "".join(event.data for event in group).replace("</span><span>", "")) for name, group in groups]


@pytest.mark.parametrize("fmt", FORMATS)
@given(tokens=TEXTS, data=st.data())
def test_a_client_that_reconnects_gets_the_rest(fmt: Format, tokens: list[str], data: st.DataObject) -> None:
    items: list[Item] = [Chunk("reasoning", "hm"), *tokens, Chunk("ping")]
    items.insert(data.draw(st.integers(0, len(items))), {"type": "interrupt", "node": "n", "message": "Why?"})
    whole = encode(fmt, ids="run")
    events = parse(whole.start() + whole.feed(items) + whole.end())
    assert parse_event_id(events[-1].id or "") == EventId("run", None)
    cut = data.draw(st.integers(0, len(events) - 1))
    event_id = parse_event_id(events[cut - 1].id or "") if cut else EventId("run")
    assert event_id is not None
    assert event_id.after is not None
    encoder = encode(fmt, ids="run", after=event_id)
    rest = parse(encoder.start() + encoder.feed(items[event_id.after :]) + encoder.end())
    assert joined(rest) == joined(events[cut:])
    assert rest[-1] == events[-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", EventId()),
        ("12+0d", EventId("", 12, "\r")),
        ("a~b.12+eda0bd", EventId("a~b", 12, "\ud83d")),
        ("end", EventId("", None)),
        ("r.end", EventId("r", None)),
        *((odd, None) for odd in ("", "x", "-1", "1+", "1+0", "1+ff", "1.2.3", "a b.1", "9" * 16, "end+0d", "١")),
    ],
)
def test_event_ids_are_parsed(text: str, expected: EventId | None) -> None:
    assert parse_event_id(text) == expected


@pytest.mark.parametrize("fmt", FORMATS)
def test_an_error_comes_before_the_end(fmt: Format) -> None:
    encoder = encode(fmt, describe=str)
    error = RateLimitError("too\nmuch <b>", provider="p", retry_after=2)
    error.partial = Completion(text="Hi", model="m")
    assert encoder.feed(["Hi\r"])  # the CR must come before the error
    *_, message, last = parse(encoder.error(error))
    assert message.event == "stream-error"
    if fmt == "json":
        reported = json.loads(message.data)
        assert reported == {"type": "RateLimitError", "message": str(error), "retryable": True, "retry_after": 2}
        assert json.loads(last.data) == {"complete": False, "model": "m"}
    elif fmt == "text":
        assert message.data == str(error)
    else:
        assert html.unescape(message.data) == f"<span>{error}</span>"
        assert "<b>" not in message.data
    assert last.event == ("message" if fmt == "text" else "done")


def test_withheld_text_comes_before_an_error() -> None:
    encoder = encode("text", ids=True, describe=str)
    assert encoder.feed(["a\r"])
    events = parse(encoder.error(StreamInterrupted("cut")))
    assert [(event.data, event.id) for event in events] == [("\n", "1"), ("cut", "1"), ("[DONE]", "end")]


def vendors_errors() -> list[Exception]:
    node = NodeError("node 'x' failed: VENDOR")
    node.__cause__ = RateLimitError("VENDOR")
    return [
        RateLimitError("VENDOR", code="VENDOR", request_id="VENDOR"),
        ConnectionFailed("VENDOR"),
        StreamInterrupted("VENDOR"),
        OutputValidationError("VENDOR"),
        RelayError("VENDOR"),
        node,
    ]


@pytest.mark.parametrize("error", vendors_errors(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("fmt", FORMATS)
def test_browsers_get_a_class_of_trouble_and_a_reference(fmt: Format, error: Exception) -> None:
    attempts = (Attempt("openai", "m", "RateLimitError: VENDOR"), Attempt("openai", "m", "VENDOR: VENDOR"))
    setattr(error, "partial", Completion(text="Hi", attempts=attempts))  # noqa: B010
    sent = encode(fmt).error(error)
    assert b"VENDOR" not in sent
    text, _ = described_in_log(error)
    found = re.search(rb"\(reference ([0-9a-f]{8})\)", sent)
    assert found is not None
    assert f"(reference {found[1].decode()})" in text  # the log has the same
    if not isinstance(error, OutputValidationError):
        assert "VENDOR" in text
    assert public_message(error) == public_message(error)
    assert found[1].decode() in public_message(error)


def test_messages_of_streamcore_itself_are_sent() -> None:
    assert public_message(interrupted("the server is being stopped")) == "the server is being stopped"


def hidden_cause() -> NodeError:
    error = NodeError("node 'x' failed: no prompt in /srv/secret")
    error.__cause__ = PromptNotFound("no prompt in /srv/secret")
    return error


@pytest.mark.parametrize("error", [PromptNotFound("tried /srv/secret"), ValueError("secret"), hidden_cause()])
@pytest.mark.parametrize("fmt", FORMATS)
def test_errors_of_the_service_are_hidden(fmt: Format, error: Exception) -> None:
    assert b"secret" not in encode(fmt).error(error)
    assert b"secret" in encode(fmt, describe=str).error(error)


def test_the_end_in_json_has_what_chunks_do_not() -> None:
    completion = Completion(text="Hi", finish_reason="stop", complete=True, parsed={"a": Verdict(score=1)})
    (done,) = parse(encode("json").end(completion))
    assert done.event == "done"
    assert json.loads(done.data) == {"complete": True, "finish_reason": "stop", "parsed": {"a": {"score": 1}}}


def test_the_end_in_json_has_the_cost_if_asked_for() -> None:
    completion = Completion(complete=True, reported_cost=Cost(Decimal("0.0012"), price="usage.cost"))
    expected = {"amount": "0.0012", "currency": "USD", "source": "vendor", "price": "usage.cost"}
    for cost, known in ((True, expected), (False, None)):
        (done,) = parse(encode("json", cost=cost).end(completion))
        assert json.loads(done.data).get("cost") == known
    (unknown,) = parse(encode("json", cost=True).end(Completion(complete=True)))
    assert json.loads(unknown.data) == {"complete": True}


def test_heartbeat_is_a_comment() -> None:
    assert parse(encode("text").heartbeat()) == []
    assert encode("text").heartbeat().endswith(b"\n\n")


TOOLS = [
    Chunk("step", data={"step": 1}),
    Chunk("tool_progress", "half", tool_call=ToolCall("a", "find")),
    Chunk("tool_progress", tool_call=ToolCall("a", "find"), data={"progress": {"percent": 50}}),
    Chunk("tool_result", tool_result=ToolResult("a", "find", "secret", "E: no", 0.5)),
    Chunk("text", "inner", path=("find",)),
    Chunk("text", "outer"),
]


def test_text_and_html_have_the_outer_text_only() -> None:
    assert encode("text").feed(TOOLS) == b"data: outer\n\n"
    assert encode("html").feed(TOOLS) == b"data: <span>outer</span>\n\n"


def test_json_has_the_kinds_of_agents() -> None:
    events = [
        json.loads(line.removeprefix("data: ")) for line in encode("json").feed(TOOLS).decode().split("\n") if line
    ]
    call = {"id": "a", "name": "find", "arguments": "", "position": 0, "custom": False}
    result: dict[str, Any] = {
        "call_id": "a",
        "name": "find",
        "content": "secret",
        "error": "E: no",
        "seconds": 0.5,
        "parts": [],
    }
    assert events == [
        {"kind": "step", "data": {"step": 1}},
        {"kind": "tool_progress", "text": "half", "tool_call": call},
        {"kind": "tool_progress", "tool_call": call, "data": {"progress": {"percent": 50}}},
        {"kind": "tool_result", "tool_result": result},
        {"kind": "text", "text": "inner", "path": ["find"]},
        {"kind": "text", "text": "outer"},
    ]
