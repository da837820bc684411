"""Decode the bytes of a test with any vocabulary, and describe the chunks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from streamcore.chunk import Chunk
from streamcore.completion import Completion, Fold
from streamcore.errors import StreamcoreError
from streamcore.wire.decoder import StreamDecoder, Vocabulary


def folded(vocabulary: Vocabulary, body: bytes) -> Completion:
    """Return the answer of a stream that ends properly."""
    decoder = StreamDecoder(vocabulary)
    fold = Fold()
    fold.add(decoder.feed(body))
    decoder.close()
    return fold.completion(complete=True)


def failure_of(vocabulary: Vocabulary, body: bytes) -> StreamcoreError:
    """Return the error at the end of a stream."""
    decoder = StreamDecoder(vocabulary)
    decoder.feed(body)
    with pytest.raises(StreamcoreError) as caught:
        decoder.close()
    return caught.value


def kinds(chunks: Sequence[Chunk]) -> list[str]:
    """Return the kind of each chunk."""
    return [chunk.kind for chunk in chunks]
