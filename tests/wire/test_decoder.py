"""Test the contract of `StreamDecoder`: the received chunks are returned first, and `close` reports how it ended."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from streamcore.chunk import Chunk
from streamcore.errors import MalformedStream, RateLimitError, StreamcoreError, StreamInterrupted
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.decoder import StreamDecoder, Vocabulary, parse_json
from streamcore_anthropic.wire import AnthropicVocabulary
from streamcore_openai.responses_wire import ResponsesVocabulary

WIRES: list[Callable[[], Vocabulary]] = [ChatVocabulary, AnthropicVocabulary, ResponsesVocabulary]

DONE = b"data: [DONE]\n\n"
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
ERROR = b'data: {"error":{"type":"rate_limit_error","message":"slow down"}}\n\n'


def text(words: str) -> bytes:
    return b'data: {"id":"r","choices":[{"index":0,"delta":{"content":%s}}]}\n\n' % json.dumps(words).encode()


def decoder_for(body: bytes, **options: Any) -> tuple[StreamDecoder, list[Chunk]]:
    """Return a decoder that has read the whole chat body, and its chunks."""
    decoder = StreamDecoder(ChatVocabulary(), **options)
    return decoder, decoder.feed(body) + decoder.flush()


def words(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks if chunk.kind == "text")


def failure(body: bytes, **options: Any) -> StreamcoreError:
    """Return what `close` raises after the whole chat body."""
    decoder, _ = decoder_for(body, **options)
    with pytest.raises(StreamcoreError) as caught:
        decoder.close()
    return caught.value


# How a stream ends


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_chunks_before_an_error_are_handed_out_first(size: int) -> None:
    body = text("one ") + text("two") + ERROR + text("three") + DONE
    decoder = StreamDecoder(ChatVocabulary())
    chunks = [chunk for at in range(0, len(body), size) for chunk in decoder.feed(body[at : at + size])]
    assert words(chunks) == "one two"
    assert decoder.done
    assert decoder.flush() == []
    with pytest.raises(RateLimitError, match="slow down"):
        decoder.close()
    with pytest.raises(RateLimitError):
        decoder.close()


def test_close_returns_after_the_mark_of_the_end() -> None:
    decoder, chunks = decoder_for(text("Hello") + FINISH + DONE)
    assert [chunk.kind for chunk in chunks] == ["start", "text", "finish"]
    assert decoder.done
    decoder.close()


def test_reading_continues_until_the_vocabulary_is_done() -> None:
    decoder, _ = decoder_for(text("Hello") + FINISH)
    assert not decoder.done
    assert words(decoder.feed(text(" again"))) == " again"
    decoder.close()


def test_the_error_of_a_cut_stream_counts_events_and_bytes() -> None:
    body = text("one ") + text("two")
    error = failure(body)
    assert isinstance(error, StreamInterrupted)
    assert "openai-chat" in str(error)
    assert f"2 events and {len(body)} bytes" in str(error)


@pytest.mark.parametrize("cut", range(1, len(FINISH) - 3))
def test_a_cut_anywhere_in_the_last_event_is_an_interruption(cut: int) -> None:
    decoder, chunks = decoder_for(text("Hello") + FINISH[:cut])
    assert words(chunks) == "Hello"
    with pytest.raises(StreamInterrupted):
        decoder.close()


def test_a_cut_after_the_mark_is_none() -> None:
    decoder, chunks = decoder_for(text("Hello") + FINISH + b'data: {"choices":[],"usa')
    decoder.close()
    assert [chunk.kind for chunk in chunks] == ["start", "text", "finish"]


# What flush takes


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        pytest.param(b'data: {"choices":[{"delta":{"content":"!"}}]}', "Hello!", id="whole JSON, no line end"),
        pytest.param(b'data: {"choices":[{"delta":{"content":"!"}}]}\n', "Hello!", id="whole JSON, one line end"),
        pytest.param(b'data: {"choices":[{"delta":{"content":"!"}}]}\r', "Hello!", id="whole JSON, CR"),
        pytest.param(b'data: {"choices":[{"delta":{"content":"!"}}]', "Hello", id="half JSON"),
        pytest.param(b'data: {"choices":[{"delta":{"content":"\xc3', "Hello", id="half a character"),
        pytest.param(b"data: " + b"[" * 100_000, "Hello", id="JSON nested without end"),
        pytest.param(b"data: ", "Hello", id="no data yet"),
        pytest.param(b"da", "Hello", id="half a field name"),
        pytest.param(b": bye", "Hello", id="a comment"),
    ],
)
def test_flush_takes_an_event_only_if_it_is_whole(tail: bytes, expected: str) -> None:
    decoder, chunks = decoder_for(text("Hello") + tail)
    assert words(chunks) == expected
    with pytest.raises(StreamInterrupted):
        decoder.close()


@pytest.mark.parametrize("tail", [b"data: [DONE]", b"data:[DONE]\n", b"data:  [DONE] \r\n"])
def test_flush_takes_done(tail: bytes) -> None:
    decoder, chunks = decoder_for(text("Hello") + tail)
    assert chunks[-1].kind == "finish"
    assert decoder.done
    decoder.close()


def test_flush_takes_a_finish_reason() -> None:
    decoder, chunks = decoder_for(text("Hello") + FINISH.rstrip())
    assert chunks[-1].finish_reason == "stop"
    decoder.close()


def test_flush_takes_an_error() -> None:
    assert isinstance(failure(text("Hello") + ERROR.rstrip()), RateLimitError)


def test_a_cut_done_is_ignored() -> None:
    assert isinstance(failure(text("Hello") + b"data: [DON"), StreamInterrupted)


# Broken events


@pytest.mark.parametrize(
    ("event", "why"),
    [
        pytest.param(b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n', "UTF-8", id="a byte that is no UTF-8"),
        pytest.param(b'data: {"choices":[{"delta":{"content":"\xc3"}}]}\n\n', "UTF-8", id="half a character"),
        pytest.param(b'data: {"choices":[{"delta":{"content":"\xed\xa0\xbd"}}]}\n\n', "UTF-8", id="a raw surrogate"),
        pytest.param(b'data: {"\xff":1}\n\n', "UTF-8", id="in a key that nobody reads"),
        pytest.param(b'data: {"choices":[{"del\n\n', "not JSON", id="half JSON"),
        pytest.param(b"data: upstream went away\n\n", "upstream went away", id="plain text"),
        pytest.param(b"data: {'choices':[]}\n\n", "not JSON", id="Python"),
        pytest.param(b"data: {}{}\n\n", "not JSON", id="two objects"),
        pytest.param(b"data: [DONE]]\n\n", "not JSON", id="more than DONE"),
        pytest.param(b'data: {"choices":%s}\n\n' % (b"[" * 100_000), "nested", id="nested without end"),
        pytest.param(b'data: {"x":%s}\n\n' % (b'{"x":' * 100_000), "nested", id="nested where nobody reads"),
    ],
)
def test_a_broken_event_is_named(event: bytes, why: str) -> None:
    body = text("one ") + text("two") + event + text("three") + DONE
    decoder, chunks = decoder_for(body)
    assert words(chunks) == "one two"
    with pytest.raises(MalformedStream) as caught:
        decoder.close()
    assert "event 3 of the openai-chat stream" in str(caught.value)
    assert why in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError | RecursionError)


@pytest.mark.parametrize("make", WIRES)
@pytest.mark.parametrize("data", [b'{"type":', b'{"type":"\xff"}', b"nonsense", b"[" * 100_000])
def test_a_broken_event_is_malformed_on_every_wire(make: Callable[[], Vocabulary], data: bytes) -> None:
    decoder = StreamDecoder(make())
    assert decoder.feed(b"data: " + data + b"\n\n") == []
    with pytest.raises(MalformedStream, match="event 1"):
        decoder.close()


@pytest.mark.parametrize("size", [1, 50, 1000])
def test_an_event_over_the_limit_is_malformed(size: int) -> None:
    body = text("one") + text("x" * 400) + text("three")
    decoder = StreamDecoder(ChatVocabulary(), max_event_bytes=200)
    chunks = [chunk for at in range(0, len(body), size) for chunk in decoder.feed(body[at : at + size])]
    assert words(chunks + decoder.flush()) == "one"
    with pytest.raises(MalformedStream, match=r"event 2 .* longer than 200 bytes"):
        decoder.close()


def test_an_event_that_never_ends_is_given_up_at_the_limit() -> None:
    decoder = StreamDecoder(ChatVocabulary(), max_event_bytes=1000)
    for _ in range(100):
        decoder.feed(b"data: " + b"x" * 94)
        if decoder.done:
            break
    with pytest.raises(MalformedStream, match="longer than 1000 bytes"):
        decoder.close()
    assert decoder._sse.pending < 1200  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("size", [1, 50, 1000])
def test_an_event_at_the_limit_is_read(size: int) -> None:
    event = text("x" * 400).removesuffix(b"\n\n")
    body = event + b"\n\n" + DONE
    decoder = StreamDecoder(ChatVocabulary(), max_event_bytes=len(event) + 1)  # the end of its line counts, too
    chunks = [chunk for at in range(0, len(body), size) for chunk in decoder.feed(body[at : at + size])]
    decoder.close()
    assert words(chunks) == "x" * 400
    _, chunks = decoder_for(body, max_event_bytes=len(event) - len(b"data: "))
    assert words(chunks) == "x" * 400
    assert isinstance(failure(body, max_event_bytes=len(event) - len(b"data: ") - 1), MalformedStream)


def test_the_limit_counts_one_event_not_the_stream() -> None:
    decoder, chunks = decoder_for(text("word ") * 100 + DONE, max_event_bytes=200)
    assert words(chunks) == "word " * 100
    decoder.close()


def test_the_default_limit_is_8_mib() -> None:
    mib = 1024 * 1024
    decoder, chunks = decoder_for(text("x" * (7 * mib)) + DONE)
    decoder.close()
    assert len(words(chunks)) == 7 * mib
    assert isinstance(failure(text("x" * (8 * mib)) + DONE), MalformedStream)


# What follows the end


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(text("more"), id="an event"),
        pytest.param(ERROR, id="an error"),
        pytest.param(b"data: {broken\n\n", id="no JSON"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b"data: unended", id="an unended event"),
    ],
)
@pytest.mark.parametrize("same_read", [True, False])
def test_what_follows_the_end_is_ignored_and_logged(
    more: bytes, same_read: bool, caplog: pytest.LogCaptureFixture
) -> None:
    decoder = StreamDecoder(ChatVocabulary())
    body = text("Hello") + DONE
    with caplog.at_level(logging.DEBUG, logger="streamcore"):
        chunks = decoder.feed(body + more) if same_read else decoder.feed(body) + decoder.feed(more)
    assert words(chunks + decoder.flush()) == "Hello"
    decoder.close()
    assert [
        (record.levelname, "after the end" in record.message or "followed the end" in record.message)
        for record in caplog.records
    ] == [("DEBUG", True)]
    assert "more" not in caplog.text


@pytest.mark.parametrize("more", [b"", b"\n", b"\r\n\r\n", b" "])
def test_blank_lines_after_the_end_are_ignored(more: bytes, caplog: pytest.LogCaptureFixture) -> None:
    decoder = StreamDecoder(ChatVocabulary())
    decoder.feed(text("Hello") + DONE)
    with caplog.at_level(logging.DEBUG, logger="streamcore"):
        assert decoder.feed(more) == []
    assert caplog.records == []


# Bodies that are no stream


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<!DOCTYPE html>\n<html><body>Bad gateway</body></html>", id="HTML"),
        pytest.param(b"\xef\xbb\xbf\r\n  <html></html>", id="HTML after a BOM and blank lines"),
        pytest.param(b'{"error":{"message":"no such model"}}', id="JSON"),
        pytest.param(b'{\n  "id": "r",\n\n  "choices": []\n}\n\n', id="JSON with blank lines"),
        pytest.param(b'[{"error":{"code":400}}]', id="a JSON array"),
        pytest.param(b"upstream connect error", id="plain text"),
        pytest.param(b"database is locked", id="plain text that begins like a field"),
        pytest.param(b"identity: none\n\n", id="plain text that begins like a field with a colon"),
        pytest.param(b"re: your request", id="plain text that begins like half a field"),
        pytest.param(b"\x1f\x8b\x08\x00compressed", id="bytes"),
        pytest.param(b"\xff\xfed\x00a\x00t\x00a\x00", id="UTF-16"),
    ],
)
@pytest.mark.parametrize("size", [1, 10_000])
def test_a_body_that_is_not_a_stream_is_malformed(body: bytes, size: int) -> None:
    decoder = StreamDecoder(ChatVocabulary())
    for at in range(0, len(body), size):
        assert decoder.feed(body[at : at + size]) == []
    assert decoder.flush() == []
    with pytest.raises(MalformedStream, match="not an event stream"):
        decoder.close()


@pytest.mark.parametrize("letter", ["x", "é", "語", "🌊"])
def test_the_first_200_characters_of_it_are_shown(letter: str) -> None:
    error = failure(("<html>" + letter * 500).encode())
    assert repr("<html>" + letter * 194) in str(error)
    assert letter * 195 not in str(error)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\n\r\n\n", id="blank lines"),
        pytest.param(b"\xef\xbb\xbf", id="a BOM"),
        pytest.param(b"\xef\xbb", id="half a BOM"),
        pytest.param(b": ping\n\n: ping\n\n", id="comments"),
        pytest.param(b":\n\n:\n", id="bare colons"),
        pytest.param(b": OPENROUTER PROCESSING", id="an unended comment"),
        pytest.param(b"d", id="the first letter"),
        pytest.param(b"data", id="a field name"),
        pytest.param(b'data: {"choi', id="half an event"),
        pytest.param(b"event: message_start\n", id="a name only"),
        pytest.param(b"event", id="half a name"),
        pytest.param(b"id: 1\r\n", id="an id only"),
        pytest.param(b"id\rdata: {", id="an empty id, CR"),
        pytest.param(b"event\ndata: {", id="an empty name, LF"),
        pytest.param(b"retry: 3000\n\n", id="a retry only"),
        pytest.param(b"\xef\xbb\xbfdata: {", id="half an event after a BOM"),
    ],
)
def test_a_stream_that_never_began_is_interrupted(body: bytes) -> None:
    assert isinstance(failure(body), StreamInterrupted)


# JSON that msgspec refuses


def test_parse_json_reads_what_python_reads() -> None:
    assert parse_json(b'{"a":[1,2.5,"x",null]}') == {"a": [1, 2.5, "x", None]}
    value = parse_json(b'{"nan":NaN,"big":1e400,"small":-Infinity,"pair":"\\ud83d\\ude00"}')
    assert value["nan"] != value["nan"]
    assert (value["big"], value["small"], value["pair"]) == (float("inf"), float("-inf"), "\U0001f600")


@pytest.mark.parametrize("data", [b"", b"nul", b"{", b'{"a":1}}', b"\xff"])
def test_parse_json_shows_what_is_no_json(data: bytes) -> None:
    with pytest.raises(MalformedStream) as caught:
        parse_json(data + b"x" * 200)
    assert "x" * 70 in str(caught.value)
    assert "x" * 90 not in str(caught.value)
    assert caught.value.__cause__ is not None


TEXT_EVENTS: dict[str, tuple[Callable[[], Vocabulary], bytes]] = {
    "openai-chat": (ChatVocabulary, b'{"created":@,"choices":[{"index":0,"delta":{"content":"#"}}]}'),
    "anthropic-messages": (
        AnthropicVocabulary,
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"#"},"x":@}',
    ),
    "openai-responses": (
        ResponsesVocabulary,
        b'{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"#","x":@}',
    ),
}


@pytest.mark.parametrize("wire", TEXT_EVENTS)
@pytest.mark.parametrize("number", [b"NaN", b"1e400", b"-Infinity", b"12.0", b"1" * 30, b"12"])
def test_odd_numbers_cost_no_text(wire: str, number: bytes) -> None:
    make, event = TEXT_EVENTS[wire]
    data = event.replace(b"@", number).replace(b"#", b"Hello")
    assert words(StreamDecoder(make()).feed(b"data: %s\n\n" % data)) == "Hello"


@pytest.mark.parametrize("wire", TEXT_EVENTS)
def test_a_lone_surrogate_becomes_a_replacement_character(wire: str) -> None:
    make, event = TEXT_EVENTS[wire]
    data = event.replace(b"@", b"1").replace(b"#", b"a\\ud83d b")
    assert words(StreamDecoder(make()).feed(b"data: %s\n\n" % data)) == "a\ufffd b"


WHOLE_FLOATS: list[tuple[Callable[[], Vocabulary], bytes]] = [
    (ChatVocabulary, b'{"choices":[{"index":12.0,"delta":{"content":"Hello"}}],"usage":{"prompt_tokens":7.0}}'),
    (
        AnthropicVocabulary,
        (
            b'{"type":"content_block_delta","index":12.0,"delta":{"type":"text_delta","text":"Hello"}}\n\n'
            b'data: {"type":"message_delta","delta":{},"usage":{"input_tokens":7.0}}'
        ),
    ),
    (
        ResponsesVocabulary,
        (
            b'{"type":"response.output_text.delta","output_index":12.0,"content_index":0.0,"delta":"Hello"}\n\n'
            b'data: {"type":"response.completed","response":{"output":[],"usage":{"input_tokens":7.0}}}'
        ),
    ),
]


@pytest.mark.parametrize(("make", "data"), WHOLE_FLOATS)
def test_whole_floats_are_integers(make: Callable[[], Vocabulary], data: bytes) -> None:
    chunks = StreamDecoder(make()).feed(b"data: " + data + b"\n\n")
    (reported,) = [chunk for chunk in chunks if chunk.kind == "text"]
    assert reported.text == "Hello"
    place = reported.choice if make is ChatVocabulary else reported.index
    assert (place, type(place)) == (12, int)
    usage = next(chunk.usage for chunk in chunks if chunk.usage is not None)
    assert (usage.input_tokens, type(usage.input_tokens)) == (7, int)
    assert "other" not in [chunk.kind for chunk in chunks]


# Raw events


def test_raw_is_the_events_json_as_sent() -> None:
    event = b'{"id":"r", "choices":[{"index":0,"delta":{"content":"H\\u00e9","reasoning":"hm"}}]}'
    _, chunks = decoder_for(b"data: " + event + b"\n\n" + DONE, include_raw=True)
    assert [(chunk.kind, chunk.raw) for chunk in chunks] == [
        ("start", event),
        ("reasoning", event),
        ("text", event),
        ("finish", b"[DONE]"),
    ]


def test_raw_is_there_on_what_precedes_an_error() -> None:
    event = b'{"choices":[{"index":0,"delta":{"content":"Hello"}}],"error":{"message":"no"}}'
    _, chunks = decoder_for(b"data: " + event + b"\n\n", include_raw=True)
    assert [(chunk.kind, chunk.raw) for chunk in chunks] == [("start", event), ("text", event)]


def test_raw_is_left_out_unless_asked_for() -> None:
    _, chunks = decoder_for(text("Hello") + b'data: {"news":1}\n\n' + DONE)
    assert [(chunk.kind, chunk.raw) for chunk in chunks] == [
        ("start", None),
        ("text", None),
        ("other", b'{"news":1}'),
        ("finish", None),
    ]


# A vocabulary that raises


class Puzzled:
    """A vocabulary that raises on one event, as on a shape that its author did not expect."""

    wire = "puzzled"
    done = False
    marked = True
    failed: StreamcoreError | None = None
    suspect: Any = None

    def event(self, name: bytes, data: bytes, out: list[Chunk]) -> None:
        out.append(Chunk("text", text="a"))
        if data == b"2":
            raise TypeError("what is this?")

    def knows(self, kind: str, event: Mapping[str, Any]) -> bool:
        return True


@pytest.mark.parametrize("include_raw", [True, False])
def test_an_event_that_a_vocabulary_cannot_take_passes_as_other(
    include_raw: bool, caplog: pytest.LogCaptureFixture
) -> None:
    decoder = StreamDecoder(Puzzled(), include_raw=include_raw)
    with caplog.at_level(logging.DEBUG, logger="streamcore"):
        chunks = decoder.feed(b"data: 1\n\nevent: news\ndata: 2\n\ndata: 3\n\ndata: 2\n\n")
    assert [chunk.kind for chunk in chunks] == ["text", "text", "other", "text", "text", "other"]
    assert [(chunk.event, chunk.raw) for chunk in chunks if chunk.kind == "other"] == [("news", b"2"), (None, b"2")]
    assert [record.message for record in caplog.records] == [
        "event 2 of a puzzled stream has an unknown shape",
        "event 4 of a puzzled stream has an unknown shape",
    ]
    decoder.close()
