"""Test the binary frames of AWS's event stream: any reads, wrong checksums, exceptions, and the encoder."""

from __future__ import annotations

import json
import struct
from typing import Any
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from streamcore import MalformedStream, RateLimitError, ServerError, StreamcoreError, StreamInterrupted
from streamcore.chunk import Chunk, content
from streamcore.errors import provider_error
from streamcore.wire.decoder import parse_json
from streamcore.wire.event_stream import (
    EventStreamDecoder,
    FrameReader,
    encode_event,
    encode_exception,
    encode_frame,
)


class Echo:
    """A vocabulary in which each event is its text; `end` marks the end."""

    wire = "echo"

    def __init__(self) -> None:
        self.marked = self.done = False
        self.failed: StreamcoreError | None = None
        self.suspect: Any = None

    def event(self, name: bytes, data: bytes, out: list[Chunk]) -> None:
        if name == b"error":
            raise provider_error(json.loads(data))
        self.marked = self.done = name == b"end"
        out.append(content("text", parse_json(data)["text"]))

    def knows(self, kind: str, event: Any) -> bool:
        return kind == "word"


def word(text: str) -> bytes:
    return encode_event("word", json.dumps({"text": text}).encode())


END = encode_event("end", b'{"text": "!"}')
WORDS = ["Hé", "llo", "\n\n", "👋"]
BODY = b"".join(map(word, WORDS)) + END


def read(body: bytes, sizes: list[int] | None = None, **options: Any) -> tuple[str, StreamcoreError | None]:
    """Return the text of a body in reads of these sizes, again and again, and how it ended."""
    decoder = EventStreamDecoder(Echo(), **options)
    chunks: list[Chunk] = []
    at, number = 0, 0
    while at < len(body):
        size = sizes[number % len(sizes)] if sizes else len(body)
        chunks += decoder.feed(body[at : at + size])
        at, number = at + size, number + 1
    chunks += decoder.flush()
    try:
        decoder.close()
    except StreamcoreError as error:
        return "".join(chunk.text for chunk in chunks), error
    return "".join(chunk.text for chunk in chunks), None


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20))
def test_frames_do_not_depend_on_the_reads(sizes: list[int]) -> None:
    assert read(BODY, sizes) == ("".join(WORDS) + "!", None)


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=50), max_size=4), st.binary(max_size=300))
def test_botocore_reads_what_is_encoded(headers: dict[str, str], payload: bytes) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(encode_frame(headers, payload))
    message: Any = next(buffer)
    assert message.headers == headers
    assert message.payload == payload


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_changed_byte_is_never_read_as_content(at: int, change: int) -> None:
    body = bytearray(BODY)
    body[at] ^= change
    text, error = read(bytes(body))
    assert ("".join(WORDS) + "!").startswith(text)
    assert isinstance(error, MalformedStream | StreamInterrupted)


@pytest.mark.parametrize("cut", range(0, len(BODY), 7))
def test_a_cut_body_is_interrupted(cut: int) -> None:
    text, error = read(BODY[:cut])
    assert ("".join(WORDS) + "!").startswith(text)
    assert isinstance(error, StreamInterrupted)


def test_headers_of_every_type_are_skipped_or_read() -> None:
    values = [
        b"\x00",
        b"\x01",
        b"\x02a",
        b"\x03ab",
        b"\x04abcd",
        b"\x05" + b"a" * 8,
        b"\x06\x00\x02ab",
        b"\x08" + b"a" * 8,
    ]
    values.append(b"\x09" + b"a" * 16)
    heads = b"".join(b"\x02h%d" % number + value for number, value in enumerate(values))
    heads += b"\x0b:event-type\x07\x00\x04word"
    prelude = struct.pack(">II", 16 + len(heads) + 13, len(heads))
    whole = prelude + struct.pack(">I", crc32(prelude)) + heads + b'{"text": "a"}'
    (frame,) = FrameReader().feed(whole + struct.pack(">I", crc32(whole)))
    assert (frame.name, frame.payload, frame.failed) == (b"word", b'{"text": "a"}', False)


@pytest.mark.parametrize(
    ("spoiled", "shown"),
    [
        (word("b")[:-1] + bytes([word("b")[-1] ^ 1]), "checksum of a frame is wrong"),
        (b"\x00\x00\x00\x50" + word("b")[4:], "prelude"),
        (b"<html>an error page of a proxy</html>", "prelude"),
        (encode_event("word", b'{"text": '), "not JSON"),
    ],
    ids=["message checksum", "prelude checksum", "page", "payload"],
)
def test_the_text_before_a_damaged_frame_is_kept(spoiled: bytes, shown: str) -> None:
    for sizes in ([1], [64], None):
        text, error = read(word("a") + spoiled + word("c") + END, sizes)
        assert text == "a"
        assert isinstance(error, MalformedStream)
        assert shown in str(error)


def test_a_page_is_shown() -> None:
    text, error = read(b"<html>Sign in</html>")
    assert text == ""
    assert isinstance(error, MalformedStream)
    assert "'<html>Sign in</html>'" in str(error)


@pytest.mark.parametrize(
    ("frame", "kind", "shown"),
    [
        (encode_exception("throttlingException", b'{"message": "Too many tokens"}'), RateLimitError, "Too many tokens"),
        (encode_exception("modelStreamErrorException", b'{"Message": "It broke"}'), ServerError, "It broke"),
        (encode_exception("internalServerException", b""), ServerError, "internalServerException"),
        (encode_exception("internalServerException", b"plain"), ServerError, "plain"),
        (
            encode_frame({":message-type": "error", ":error-code": "InternalError", ":error-message": "boom"}, b""),
            ServerError,
            "boom",
        ),
        (encode_frame({":message-type": "error"}, b""), ServerError, "error"),
    ],
    ids=["throttling", "Message", "empty", "no JSON", "headers only", "nothing"],
)
def test_an_exception_raises_its_error(frame: bytes, kind: type[Exception], shown: str) -> None:
    text, error = read(word("a") + frame + END)
    assert text == "a"
    assert type(error) is kind
    assert shown in str(error)


def test_a_long_frame_is_refused_before_it_is_read() -> None:
    prelude = struct.pack(">II", 2**31, 0)
    text, error = read(word("a") + prelude + struct.pack(">I", crc32(prelude)), max_event_bytes=1000)
    assert text == "a"
    assert isinstance(error, MalformedStream)
    assert "1000 bytes" in str(error)
    assert isinstance(read(word("x" * 1500) + END, max_event_bytes=1000)[1], MalformedStream)


def test_frames_after_the_end_are_not_part_of_the_answer() -> None:
    late = encode_event("news", b'{"a": 1}')
    decoder = EventStreamDecoder(Echo())
    chunks = decoder.feed(BODY + word("MORE") + late)
    assert [(chunk.kind, chunk.event) for chunk in chunks[-2:]] == [("text", None), ("other", "news")]
    assert decoder.feed(b"garbage after the end, which is not a frame") == []
    decoder.close()


def test_raw_is_the_payload() -> None:
    chunks = EventStreamDecoder(Echo(), include_raw=True).feed(BODY)
    assert [chunk.raw for chunk in chunks[:2]] == [b'{"text": "H\\u00e9"}', b'{"text": "llo"}']


def test_many_small_reads_of_a_large_frame_are_linear() -> None:
    reader = FrameReader()
    frame = word("x" * 200_000)
    frames = [found for at in range(0, len(frame), 7) for found in reader.feed(frame[at : at + 7])]
    assert len(frames) == 1
    assert reader.pending == 0
