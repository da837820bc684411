"""Test that merged HTTP chunks have the body, the end and the errors of those that arrived."""

from __future__ import annotations

import itertools
from typing import Any

import h11
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore.net.merged_chunks import ChunkMerger
from streamcore.net.transports import new_http_client
from streamcore.testing import FaultServer, Simulator
from streamcore.testing.faults.spoiled import chunked, framed
from streamcore.testing.faults.steps import Send

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
HEADS = [
    HEAD,
    b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD,
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + HEAD,
    b"HTTP/1.1 429 No\r\ntransfer-encoding:chunked\r\nx: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: transfer-encoding: chunked\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n",
    b"\x00\x00\x12\x04",
]
ENDS = [b"0\r\n\r\n", b"0\r\nX-Sum: 5\r\n\r\n", b"000\r\n\r\n", b"", b"0\r\n", b"0"]


def chunk(data: bytes, line: bytes = b"%x\r\n") -> bytes:
    """Return a chunk; `line` is the format of the line with its size."""
    return line % len(data) + data + b"\r\n"


chunks = st.lists(
    st.builds(
        chunk,
        st.binary(min_size=1, max_size=20) | st.just(b"data: x\n\n" * 30),
        st.sampled_from([b"%x\r\n", b"%X\r\n", b"00%x\r\n"]) | st.sampled_from([b"%x;a=b\r\n", b"%x \r\n"]),
    ),
    max_size=8,
).map(b"".join)
changes = st.none() | st.tuples(
    st.integers(0, 400),
    st.integers(0, 3),
    st.binary(max_size=3) | st.sampled_from([b"\r", b"\n", b"+1\r\n", b"0x5\r\n", b"\n\n", b"\r\n\r\n"]),
)


def changed(data: bytes, change: tuple[int, int, bytes] | None) -> bytes:
    """Return the bytes with some of them replaced."""
    if change is None:
        return data
    at, removed, added = change
    return data[:at] + added + data[at + removed :]


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return the bytes as reads, none of them empty."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [read for begin, end in itertools.pairwise(places) if (read := data[begin:end])]


class Reader:
    """Parse responses with h11, and keep what it found."""

    def __init__(self) -> None:
        self.connection = h11.Connection(h11.CLIENT)
        self.ask()
        self.body, self.heads, self.ended, self.broken = b"", 0, 0, False

    def ask(self) -> None:
        """Send a request."""
        self.connection.send(h11.Request(method="POST", target="/", headers=[("Host", "x"), ("Content-Length", "0")]))
        self.connection.send(h11.EndOfMessage())

    def receive(self, data: bytes) -> None:
        """Parse what a read returned."""
        if self.broken:
            return
        try:
            self.connection.receive_data(data)
            while (event := self.connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Data):
                    self.body += event.data
                elif isinstance(event, h11.Response):
                    self.heads += 1
                elif isinstance(event, h11.EndOfMessage):
                    self.ended += 1
                elif isinstance(event, h11.ConnectionClosed):
                    break
        except h11.RemoteProtocolError:
            self.broken = True

    @property
    def done(self) -> bool:
        """True if the connection can be used for the next request."""
        return self.connection.our_state is h11.DONE and self.connection.their_state is h11.DONE


@settings(max_examples=600, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(HEADS), chunks, st.sampled_from(ENDS), changes), min_size=1, max_size=3),
    st.data(),
)
def test_a_parser_finds_the_same(responses: list[tuple[bytes, bytes, bytes, Any]], data: st.DataObject) -> None:
    plain, merged, merger = Reader(), Reader(), ChunkMerger()
    for head, body, end, change in responses:
        cuts = data.draw(st.lists(st.integers(0, 1000), max_size=6))
        merger.expect_head()
        for read in split(changed(head + body + end, change), cuts):
            plain.receive(read)
            if fed := merger.feed(read):
                merged.receive(fed)
            assert merged.body == plain.body, "no byte is late"
            assert (merged.heads, merged.ended) == (plain.heads, plain.ended)
        if not (plain.done and not plain.broken):
            break
        for reader in (plain, merged):
            reader.connection.start_next_cycle()
            reader.ask()
    for reader in (plain, merged):
        reader.receive(b"")
    assert (merged.body, merged.heads, merged.ended) == (plain.body, plain.heads, plain.ended)
    assert merged.broken == plain.broken


@pytest.mark.parametrize("cut", range(len(HEAD) + 6 * 9 + 6))
def test_split_anywhere(cut: int) -> None:
    reader, merger = Reader(), ChunkMerger()
    sent = HEAD + chunk(b"abcd") * 6 + b"0\r\n\r\n"
    parts = [merger.feed(read) for read in (sent[:cut], sent[cut:]) if read]
    for part in filter(None, parts):
        reader.receive(part)
    assert (reader.body, reader.ended, reader.broken) == (b"abcd" * 6, 1, False)
    assert len(b"".join(parts)) < len(sent), "whole chunks were merged"


def test_an_interim_response_comes_before_the_head() -> None:
    merger = ChunkMerger()
    assert merger.feed(b"HTTP/1.1 100 Continue\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    assert merger.feed(early + HEAD + chunk(b"a") * 2) == early + HEAD + chunk(b"aa")


def test_a_read_may_have_thousands_of_interim_responses() -> None:
    merger, interim = ChunkMerger(), b"HTTP/1.1 100 Continue\r\n\r\n" * 5000
    assert merger.feed(interim + HEAD + chunk(b"a") * 2) == interim + HEAD + chunk(b"aa")


@pytest.mark.parametrize(
    "head",
    [HEAD.replace(b"OK\r\n", b"OK\n"), HEAD.replace(b"OK\r\n", b"OK\n\n"), b"\n" + HEAD, HEAD[4:], b"x" * (1 << 17)],
)
def test_behind_an_odd_head_nothing_is_merged(head: bytes) -> None:
    merger = ChunkMerger()
    assert merger.feed(head + chunk(b"a") * 2) == head + chunk(b"a") * 2
    assert merger.feed(HEAD + chunk(b"a") * 2) == HEAD + chunk(b"a") * 2


def test_what_arrived_together_is_one_chunk() -> None:
    merger = ChunkMerger()
    begun = merger.feed(HEAD + chunk(b"a") + chunk(b"bc") + b"5\r\nde")
    assert begun == HEAD + chunk(b"abc") + b"5\r\nde"
    assert merger.feed(b"fgh\r\n" + chunk(b"i") * 20) == b"fgh\r\n" + chunk(b"i" * 20)
    assert merger.feed(chunk(b"j") + chunk(b"k") + b"1") == chunk(b"jk")
    assert merger.feed(b"\r") == b""
    assert merger.feed(b"\nl\r\n") == chunk(b"l")
    assert merger.feed(chunk(b"m") + b"0\r\n\r\n") == chunk(b"m") + b"0\r\n\r\n"
    assert merger.feed(chunk(b"n") * 2) == chunk(b"n") * 2, "nothing is merged behind the last chunk"


@pytest.mark.parametrize("line", [b"+4", b"0x4", b"4 ", b"4;a", b"0_4", b"4\n", b"-4", b"g", b"", b"1" * 9, b" 4"])
def test_what_is_odd_is_passed_on_as_it_came(line: bytes) -> None:
    merger = ChunkMerger()
    odd = line + b"\r\nabcd\r\n" + chunk(b"x") * 3
    assert merger.feed(HEAD + chunk(b"a") + chunk(b"b") + odd) == HEAD + chunk(b"ab") + odd
    assert merger.feed(chunk(b"y") * 2) == chunk(b"y") * 2


def test_a_compressed_body_is_passed_on_as_it_came() -> None:
    head = HEAD[:-2] + b"Content-Encoding: gzip\r\n\r\n"
    assert ChunkMerger().feed(head + chunk(b"a") * 2) == head + chunk(b"a") * 2


def test_a_chunk_without_its_end_is_not_merged() -> None:
    merger = ChunkMerger()
    wrong = b"5\r\nhelloXX5\r\nworld\r\n"
    assert merger.feed(HEAD + chunk(b"a") + chunk(b"b") + wrong) == HEAD + chunk(b"ab") + wrong


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_client_reads_a_burst_in_few_pieces(anyio_backend: str) -> None:
    body = [b"data: %d\n\n" % number for number in range(500)]
    burst = Send(chunked(*body) + framed(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    with FaultServer([burst]) as server:
        async with new_http_client("httpx2", httpx2.AsyncClient) as client:
            async with client.stream("POST", f"{server.url}/v1/chat/completions", json={}) as response:
                pieces = [piece async for piece in response.aiter_raw()]
    assert b"".join(pieces) == b"".join(body) + b"data: [DONE]\n\n"
    assert len(pieces) < 100, "the server sends all at once"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_connection_is_used_again(anyio_backend: str) -> None:
    with Simulator(" ".join(["word"] * 500)) as simulator:
        async with new_http_client("httpx2", httpx2.AsyncClient) as client:
            for _ in range(2):
                url = f"{simulator.url}/v1/chat/completions"
                async with client.stream("POST", url, json={"stream": True, "messages": []}) as response:
                    read = b"".join([piece async for piece in response.aiter_raw()])
                assert read.count(b"data: ") >= 500
                assert read.endswith(b"data: [DONE]\n\n")
        assert simulator.connections == 1
