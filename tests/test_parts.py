"""Test what parts of a message take, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from streamcore import Document, Image


@pytest.mark.parametrize("kind", [Image, Document])
def test_data_are_bytes_with_a_type(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"is the bytes of the file, not a str; decode base64 with base64\.b64decode"):
        kind(data="iVBORw0KGgo=", media_type="image/png")
    with pytest.raises(ValueError, match=r"needs media_type=, as in '[a-z/]+'$"):
        kind(data=b"\x89PNG")
    assert kind(data=b"\x89PNG", media_type="image/png").base64 == "iVBORw=="


@pytest.mark.parametrize("kind", [Image, Document])
def test_exactly_one_source(kind: Any) -> None:
    with pytest.raises(ValueError, match="takes e"):
        kind()
    with pytest.raises(ValueError, match="takes e"):
        kind(url="https://example.org/x", data=b"x", media_type="image/png")
