"""Test the SSE decoder against WHATWG's event stream format, and for the same events from bytes cut anywhere."""

from __future__ import annotations

import gc
import re
import sys
from itertools import pairwise
from types import FrameType
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamcore.wire import sse
from streamcore.wire.sse import Event, SSEDecoder

BOM = b"\xef\xbb\xbf"


def decode(body: bytes, size: int | None = None) -> list[tuple[bytes, bytes]]:
    """Return name and data of each event that a blank line ended, from reads of `size` bytes."""
    decoder = SSEDecoder()
    step = size or len(body) or 1
    events: list[Event] = []
    for start in range(0, len(body), step):
        events += decoder.feed(body[start : start + step])
    return [(event.name, event.data) for event in events]


def fed(body: bytes) -> SSEDecoder:
    """Return a decoder that has read the body."""
    decoder = SSEDecoder()
    decoder.feed(body)
    return decoder


AT_START = [
    pytest.param(BOM + b"data: 1\n\ndata: 2\n\n", [(b"", b"1"), (b"", b"2")], id="a BOM at the start is stripped"),
    pytest.param(BOM + BOM + b"data: 1\n\ndata: 2\n\n", [(b"", b"2")], id="only one BOM is stripped"),
    pytest.param(BOM[:2] + b"data: 1\n\ndata: 2\n\n", [(b"", b"2")], id="two thirds of a BOM are no BOM"),
    pytest.param(BOM + b"event: e\ndata: 1\n\n", [(b"e", b"1")], id="a BOM before an event name"),
]
EVENTS = [
    # The byte order mark
    pytest.param(b"data: 1\n\n" + BOM + b"data: 2\n\ndata: 3\n\n", [(b"", b"1"), (b"", b"3")], id="a BOM later"),
    pytest.param(b"\n" + BOM + b"data: 1\n\n", [], id="a BOM after a line end is part of a field name"),
    pytest.param(b"data: " + BOM + b"1\n\n", [(b"", BOM + b"1")], id="a BOM in data is data"),
    # Line ends
    pytest.param(b"data: 1\r\n\r\ndata: 2\r\n\r\n", [(b"", b"1"), (b"", b"2")], id="CRLF"),
    pytest.param(b"data: 1\r\rdata: 2\r\r", [(b"", b"1"), (b"", b"2")], id="CR"),
    pytest.param(b"data: 1\r\n\rdata: 2\n\r\n", [(b"", b"1"), (b"", b"2")], id="mixed line ends"),
    pytest.param(b"data: 1\r\ndata: 2\rdata: 3\ndata: 4\r\n\n", [(b"", b"1\n2\n3\n4")], id="mixed in one event"),
    pytest.param(b"data: 1\n\r\ndata: 2\n\n", [(b"", b"1"), (b"", b"2")], id="LF then CRLF is a blank line"),
    pytest.param(b"data: 1\r\n\ndata: 2\n\n", [(b"", b"1"), (b"", b"2")], id="CRLF then LF is a blank line"),
    pytest.param(b"data: 1\rdata: 2\n\n", [(b"", b"1\n2")], id="CR in an event that LF ends"),
    pytest.param(b"event: e\rdata: 1\n\n", [(b"e", b"1")], id="CR after a name"),
    pytest.param(b"\r\n\r\n\n\rdata: 1\n\n", [(b"", b"1")], id="blank lines before the first event"),
    pytest.param(b"data: 1\n\n\n\n\r\n\r\ndata: 2\n\n", [(b"", b"1"), (b"", b"2")], id="extra blank lines"),
    pytest.param(
        "data: \u2028\u2029\u0085\x0b\x0c\x1c\n\n".encode(),
        [(b"", "\u2028\u2029\u0085\x0b\x0c\x1c".encode())],
        id="what Python also calls line ends are data",
    ),
    # Comments
    pytest.param(b": hello\ndata: 1\n: between\ndata: 2\n\n", [(b"", b"1\n2")], id="comments are skipped"),
    pytest.param(b":\n\n:\r\n\r\ndata: 1\n\n:\n\n", [(b"", b"1")], id="bare colons"),
    pytest.param(b":data: 1\n:\0\ndata: 2\n\n", [(b"", b"2")], id="a comment that looks like data"),
    pytest.param(b":" + 5000 * b"x" + b"\ndata: 1\n\n", [(b"", b"1")], id="a long comment"),
    # Data
    pytest.param(b"data:1\n\n", [(b"", b"1")], id="no space after the colon"),
    pytest.param(b"data:  1 \n\n", [(b"", b" 1 ")], id="one space is stripped, in front only"),
    pytest.param(b"data:\t1\n\n", [(b"", b"\t1")], id="a tab is not stripped"),
    pytest.param(b"data: a: b:c\n\n", [(b"", b"a: b:c")], id="only the first colon divides"),
    pytest.param(b"data: 1\ndata: 2\n\n", [(b"", b"1\n2")], id="several data lines"),
    pytest.param(b"data\n\n", [(b"", b"")], id="data without colon"),
    pytest.param(b"data:\n\n", [(b"", b"")], id="data without value"),
    pytest.param(b"data: \n\n", [(b"", b"")], id="data of one space"),
    pytest.param(b"data\ndata:\n\n", [(b"", b"\n")], id="two empty data lines"),
    pytest.param(b"data:\ndata: 1\ndata\n\n", [(b"", b"\n1\n")], id="empty data lines around one"),
    pytest.param(b"data: \0\n\n", [(b"", b"\0")], id="NUL in data"),
    pytest.param(b"data: \xff\xfe\n\n", [(b"", b"\xff\xfe")], id="data stay bytes, whatever they are"),
    # Names of events
    pytest.param(b"event: a\ndata: 1\n\ndata: 2\n\n", [(b"a", b"1"), (b"", b"2")], id="a name holds for one event"),
    pytest.param(b"event: a\n\ndata: 1\n\n", [(b"", b"1")], id="a name without data is dropped with its event"),
    pytest.param(b"data: 1\nevent: a\n\n", [(b"a", b"1")], id="a name after the data"),
    pytest.param(b"event: a\nevent: b\ndata: 1\n\n", [(b"b", b"1")], id="the last name counts"),
    pytest.param(b"event: a\nevent\ndata: 1\n\n", [(b"", b"1")], id="an empty name takes the name back"),
    pytest.param(b"event: \ndata: 1\n\n", [(b"", b"1")], id="an empty name is none"),
    pytest.param(b"event:a\ndata:1\n\n", [(b"a", b"1")], id="a name without the space"),
    pytest.param(b"event:  a b\ndata: 1\n\n", [(b" a b", b"1")], id="spaces in a name"),
    pytest.param(b"event: a\ndata: 1\ndata: 2\n\n", [(b"a", b"1\n2")], id="a name and two data lines"),
    pytest.param(b"event: a\n: x\ndata: 1\n\n", [(b"a", b"1")], id="a comment between name and data"),
    pytest.param(b"event: data: 1\ndata: 2\n\n", [(b"data: 1", b"2")], id="a name that looks like data"),
    # Other fields
    pytest.param(b"data: 1\nfoo: bar\njust text\ndata: 2\n\n", [(b"", b"1\n2")], id="unknown fields are skipped"),
    pytest.param(b"Data: 1\nDATA: 2\nEvent: x\ndata: 3\n\n", [(b"", b"3")], id="names of fields have their case"),
    pytest.param(b" data: 1\n\tdata: 2\ndata: 3\n\n", [(b"", b"3")], id="no space before the name of a field"),
    pytest.param(b"data : 1\ndata\0: 2\n\0data: 3\ndata: 4\n\n", [(b"", b"4")], id="nor anything in or after it"),
    pytest.param(b"da-ta: 1\ndata_2\ndatum: 3\ndata: 4\n\n", [(b"", b"4")], id="names that resemble data"),
    pytest.param(b"id: 1\nretry: 5\nevent: x\n\n", [], id="no data, no event"),
    # The end
    pytest.param(b"", [], id="nothing"),
    pytest.param(b"data: 1\n\ndata: 2", [(b"", b"1")], id="an unended line is not dispatched"),
    pytest.param(b"data: 1\n\ndata: 2\n", [(b"", b"1")], id="nor an event without a blank line"),
    pytest.param(b"data: 1\n\nevent: a\ndata: 2\r", [(b"", b"1")], id="nor after a CR"),
    pytest.param(b"event: a", [], id="an unended name"),
    pytest.param(b"event: a\n", [], id="a name and nothing more"),
]


@pytest.mark.parametrize("size", [None, 1, 2, 3, 7])
@pytest.mark.parametrize(("body", "expected"), AT_START + EVENTS)
def test_events(body: bytes, expected: list[tuple[bytes, bytes]], size: int | None) -> None:
    assert decode(body, size) == expected


@pytest.mark.parametrize(("body", "expected"), EVENTS)
def test_events_that_follow_others(body: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    """The decoder has a fast path for plain events; it must notice where that path ends."""
    decoder = SSEDecoder()
    decoder.feed(b"data: 0\n\n")
    events = decoder.feed(b"data: 0\n\nevent: e\ndata: 0\n\n" + body)
    assert [(event.name, event.data) for event in events] == [(b"", b"0"), (b"e", b"0"), *expected]


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ([b"data: 1\n", b"data: 2\n\n"], [b"1\n2"]),
        ([b"data: 1\n", b"event: e\ndata: 2\n\n"], [b"1\n2"]),
        ([b"data: 1", b"data: 2\n\n"], [b"1data: 2"]),
        ([b":", b"data: 2\n\ndata: 3\n\n"], [b"3"]),
        ([b"data: 1\r", b"data: 2\n\n"], [b"1\n2"]),
        ([b"data: 1\r", b"\ndata: 2\n\n"], [b"1\n2"]),
        ([b"data: 1\r\r", b"\n", b"data: 2\n\n"], [b"1", b"2"]),
        ([b"data: 1\n", b"\ndata: 2\n\n"], [b"1", b"2"]),
        ([b"data: 1\n\ndata: 2\n", b"\n"], [b"1", b"2"]),
        ([b"", b"data: 1\n\n", b""], [b"1"]),
    ],
)
def test_a_read_continues_where_the_last_one_ended(reads: list[bytes], expected: list[bytes]) -> None:
    decoder = SSEDecoder()
    decoder.feed(b":\n\n")
    assert [event.data for data in reads for event in decoder.feed(data)] == expected


def test_a_blank_line_in_its_own_read_ends_the_event_at_once() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: 1\r\n") == []
    assert decoder.feed(b"\r") == [Event(b"1")]
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"data: 2\n\n") == [Event(b"2")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"data: 1\n\n", "", id="none given"),
        pytest.param(b"id: 7\ndata: 1\n\n", "7", id="given"),
        pytest.param(b"id: 7\ndata: 1\n\ndata: 2\n\n", "7", id="kept by later events"),
        pytest.param(b"id: 7\n\n", "7", id="taken although there is no data"),
        pytest.param(b"id: 7\ndata: 1\n\nid\ndata: 2\n\n", "", id="taken back by an empty one"),
        pytest.param(b"id: 7\nid:\ndata: 1\n\n", "", id="the last one counts"),
        pytest.param(b"id: 7\ndata: 1\n\nid: 8\0\ndata: 2\n\n", "7", id="NUL makes it void"),
        pytest.param(b"id: \0\ndata: 1\n\n", "", id="NUL alone"),
        pytest.param("id:  …\ndata: 1\n\n".encode(), " …", id="any text"),
        pytest.param(b"id: 7\ndata: 1\n\nid: 8\ndata: 2\n", "7", id="not before the event has ended"),
    ],
)
def test_last_event_id(body: bytes, expected: str) -> None:
    assert fed(body).last_event_id == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"3000", 3000),
        (b"03000", 3000),
        (b"0", 0),
        (b"", None),
        (b"1000x", None),
        (b"x1000", None),
        (b"-1", None),
        (b"+1", None),
        (b"1.5", None),
        (b"1_000", None),
        (b"1 ", None),
        (b" 1", None),
        ("\u0663".encode(), None),
        ("\u00b2".encode(), None),
        (b"9" * 5000, None),
    ],
)
def test_retry_takes_digits_only(value: bytes, expected: int | None) -> None:
    assert fed(b"retry: " + value + b"\ndata: 1\n\n").retry == expected


def test_a_bogus_retry_leaves_the_earlier_one() -> None:
    assert fed(b"retry: 20\n\nretry: soon\n\nretry\n\n").retry == 20


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"data: 1", Event(b"1"), id="no line end"),
        pytest.param(b"data: 1\n", Event(b"1"), id="no blank line"),
        pytest.param(b"data: 1\r\n", Event(b"1"), id="no blank line, CRLF"),
        pytest.param(b"data: 0\n\nevent: e\ndata: 1", Event(b"1", b"e"), id="with a name"),
        pytest.param(b"data: 1\ndata: 2\n", Event(b"1\n2"), id="two lines"),
        pytest.param(BOM + b"data: 1", Event(b"1"), id="after a BOM"),
        pytest.param(b"data", Event(b""), id="empty data"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(BOM[:2], None, id="half a BOM"),
        pytest.param(b"data: 1\n\n", None, id="nothing pending"),
        pytest.param(b"data: 1\n\n\n\r\n", None, id="blank lines pending"),
        pytest.param(b": bye", None, id="a comment pending"),
        pytest.param(b"event: e\nid: 7", None, id="no data pending"),
    ],
)
@pytest.mark.parametrize("size", [None, 1])
def test_flush_hands_out_what_is_pending(body: bytes, expected: Event | None, size: int | None) -> None:
    decoder = SSEDecoder()
    for start in range(0, len(body), size or 100):
        decoder.feed(body[start : start + (size or 100)])
    assert decoder.flush() == expected
    assert decoder.flush() is None
    assert decoder.pending == 0


def test_pending_counts_the_bytes_of_the_unfinished_event() -> None:
    decoder = SSEDecoder()
    assert decoder.pending == 0
    decoder.feed(b"data: 1\n\ndata: ")
    assert decoder.pending == len(b"data: ")
    decoder.feed(b"23")
    assert decoder.pending == len(b"data: 23")
    decoder.feed(b"\n\n")
    assert decoder.pending == 0


def work(reads: list[bytes]) -> int:
    """Count the bytes that decoding handles: in hand as functions return, searched, joined, and newly kept."""
    decoder = SSEDecoder()
    total = 0

    def profile(frame: FrameType, event: str, arg: object) -> None:
        nonlocal total
        if frame.f_code.co_filename != sse.__file__:
            return
        if event == "return":
            total += sum(len(value) for value in frame.f_locals.values() if isinstance(value, bytes))
        elif event == "c_call" and getattr(arg, "__name__", "") in ("join", "split", "replace"):
            owner = getattr(arg, "__self__", b"")
            total += len(owner) or decoder.pending

    previous = sys.getprofile()
    sys.setprofile(profile)
    try:
        for data in reads:
            decoder.feed(data)
            for kept in gc.get_referents(decoder):
                newest: object = kept
                if isinstance(kept, list) and kept:
                    newest = cast("list[object]", kept)[-1]
                total += len(newest) if isinstance(newest, bytes | bytearray) else 0
    finally:
        sys.setprofile(previous)
    return total


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"data: " + b"x" * 10_000 + b"\n\n", id="one line"),
        pytest.param(b"data: x\n" * 1_250 + b"\n", id="many lines"),
        pytest.param(b"data: x\r\n" * 1_100 + b"\r\n", id="many lines, CRLF"),
        pytest.param(b": x\r" * 2_500, id="comments that nothing ends"),
        pytest.param(BOM + b"x" * 10_000, id="no line at all"),
        pytest.param(b"\r\n" * 5_000, id="blank lines"),
        pytest.param(b"data: x\n\n" * 1_100, id="many events"),
    ],
)
def test_work_is_linear_in_one_byte_reads(body: bytes) -> None:
    # Handling the pending bytes again at every read would be about len(body) ** 2 / 2, five thousand bytes a byte.
    assert work([bytes([byte]) for byte in body]) < 30 * len(body)


def test_work_is_linear_for_many_events_in_one_read() -> None:
    body = b"data: x\n\nevent: e\ndata: y\n\nid: 1\ndata: z\n\n" * 500
    assert work([b":\n\n", body]) < 30 * len(body)


def standard(body: bytes) -> tuple[list[tuple[bytes, bytes]], str]:
    """Interpret a whole stream line by line, as the standard's text does; the slow way, to compare with."""
    *lines, _unended = re.split(rb"\r\n|\n|\r", body.removeprefix(BOM))
    events: list[tuple[bytes, bytes]] = []
    name, data, pending_id, last_id = b"", b"", b"", b""
    for line in lines:
        if not line:
            last_id = pending_id
            if data:
                events.append((name, data.removesuffix(b"\n")))
            name, data = b"", b""
            continue
        field, value = line, b""
        if b":" in line:
            field, value = line[: line.index(b":")], line[line.index(b":") + 1 :]
            value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            data += value + b"\n"
        elif field == b"event":
            name = value
        elif field == b"id" and b"\0" not in value:
            pending_id = value
    return events, last_id.decode("utf-8", "replace")


PIECES = [
    b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b":", b" ", b"data", b"data: ", b"data:", b"event", b"event: ", b"id",
    b"id: ", b"retry: ", b"\xef", b"\xbb", b"\xbf", BOM, b"x", b"7", b"\0", "\u2028".encode(), b"data: 1\n\n",
]  # fmt: skip
bodies = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)


def cut(body: bytes, places: list[int]) -> list[bytes]:
    """Cut a body at the given places; equal places give empty reads."""
    places = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(places)]


@given(bodies)
@example(BOM + b"data: 1\r\r\n\ndata: 2\n\r")
def test_any_bytes_mean_what_the_standard_says(body: bytes) -> None:
    events, last_id = standard(body)
    assert decode(body) == events
    assert fed(body).last_event_id == last_id


@given(bodies, st.lists(st.integers(0, 400), max_size=12))
@example(BOM + b"data: 1\r\n\r\ndata: 2\r\n\r\n", [1, 2, 10, 11, 12, 13])
def test_any_cut_gives_the_same_events_as_one_read(body: bytes, places: list[int]) -> None:
    whole, pieces = SSEDecoder(), SSEDecoder()
    expected = whole.feed(body)
    assert [event for piece in cut(body, places) for event in pieces.feed(piece)] == expected
    assert pieces.pending == whole.pending
    assert pieces.flush() == whole.flush()
    assert (pieces.last_event_id, pieces.retry) == (whole.last_event_id, whole.retry)


@given(bodies)
def test_single_bytes_give_the_same_events_as_one_read(body: bytes) -> None:
    assert decode(body, 1) == decode(body)
