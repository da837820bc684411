"""Test that encoded bodies are decoded, cut at any place, and that nothing stays open when they are broken."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import AsyncGenerator

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore import MalformedStream, aclose_providers, get_provider, stream_request
from streamcore.net.content_encoding import Gunzip, decoded
from streamcore.testing import FaultServer
from streamcore.testing.faults.spoiled import END, chunked
from streamcore.testing.faults.steps import Hold, Send, Step
from tests.support import DEADLINE, KEY, ask

TEXT = b'data: {"a": 1}\n\n' * 50


def read(packed: bytes, cuts: list[int]) -> bytes:
    decoder = Gunzip()
    places = [0, *sorted(cut % (len(packed) + 1) for cut in cuts), len(packed)]
    reads = [packed[start:end] for start, end in itertools.pairwise(places)]
    return b"".join(piece for data in reads for piece in decoder.feed(data))


@given(
    members=st.lists(st.binary(max_size=200), min_size=1, max_size=4),
    padding=st.integers(0, 9),
    cuts=st.lists(st.integers(0, 2000), max_size=6),
)
def test_members_of_gzip_are_read_one_after_another(members: list[bytes], padding: int, cuts: list[int]) -> None:
    packed = b"".join(gzip.compress(member) + bytes(padding) for member in members)
    assert read(packed, cuts) == b"".join(members)


def test_a_small_body_is_decompressed_in_pieces() -> None:
    pieces = list(Gunzip().feed(gzip.compress(bytes(5 << 20))))
    assert max(map(len, pieces)) <= 1 << 20
    assert sum(map(len, pieces)) == 5 << 20


class Body(httpx2.AsyncByteStream):
    def __init__(self, *reads: bytes) -> None:
        self._reads = reads
        self.ended = False

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        try:
            for data in self._reads:
                yield data
        finally:
            self.ended = True


def opened(body: Body, encoding: str) -> tuple[AsyncGenerator[bytes], AsyncGenerator[bytes]]:
    """Return the raw and the decoded bytes; both are the caller's to close."""
    response = httpx2.Response(200, headers={"content-encoding": encoding}, stream=body)
    raw = aiter(body)
    return raw, decoded(response, raw)


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(TEXT[:99]) + gzip.compress(TEXT[99:])),
        ("X-GZip ", gzip.compress(TEXT)),
        ("deflate", zlib.compress(TEXT)),
        ("gzip, deflate", zlib.compress(gzip.compress(TEXT))),
        ("identity", TEXT),
    ],
    ids=["gzip", "x-gzip", "deflate", "both", "identity"],
)
async def test_encodings(anyio_backend: str, encoding: str, packed: bytes) -> None:
    _, reads = opened(Body(packed[:40], packed[40:]), encoding)
    assert b"".join([data async for data in reads]) == TEXT


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_broken_data_leaves_nothing_open(anyio_backend: str, encoding: str) -> None:
    body = Body(b"no such", b" encoding")
    raw, reads = opened(body, encoding)
    with pytest.raises(httpx2.DecodingError):
        await anext(reads)
    await reads.aclose()
    await raw.aclose()
    assert body.ended


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_broken_data_over_a_connection_is_a_malformed_stream(anyio_backend: str, encoding: str) -> None:
    """httpx2's generators that a broken body leaves open must not break the cancel scopes of the reader's task."""
    packed = gzip.compress(TEXT) if encoding == "gzip" else zlib.compress(TEXT)
    body: list[Step] = [Send(chunked(packed[:-6], b"\0" * 6, content_encoding=encoding) + END), Hold()]
    with FaultServer(body) as server:
        provider = get_provider("openai", model="m", api_key=KEY, base_url=f"{server.url}/v1", transport="httpx2")
        for _ in range(3):
            with pytest.raises(MalformedStream), anyio.fail_after(DEADLINE):
                await stream_request(ask(), provider=provider, max_retries=0).collect()
    await aclose_providers()
