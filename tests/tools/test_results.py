"""Test that results of tools are limited in size: every further step of the conversation sends them."""

from __future__ import annotations

from typing import Any

import pytest

from streamcore import Document, Image, Text, ToolCall
from streamcore.tools.results import MAX_ERROR, MAX_RESULT_BYTES, failed, result_of

CALL = ToolCall("c", "read", "{}")


@pytest.mark.parametrize(
    "value",
    [
        "x" * (MAX_RESULT_BYTES + 1),
        "é" * (MAX_RESULT_BYTES // 2 + 1),
        {"text": "x" * MAX_RESULT_BYTES},
        [Text("see"), Image(data=b"x" * (MAX_RESULT_BYTES + 1), media_type="image/png")],
        Document(data=b"x" * (MAX_RESULT_BYTES + 1), media_type="application/pdf"),
    ],
    ids=["text", "bytes of text", "JSON", "image", "document"],
)
def test_a_result_that_is_too_large_is_an_error(value: Any) -> None:
    result = result_of(CALL, value)
    assert result.error is not None
    assert "ask for less of it" in result.content
    assert len(result.content) < 200
    assert not result.parts


def test_a_result_at_the_limit_is_whole() -> None:
    assert len(result_of(CALL, "x" * MAX_RESULT_BYTES).content) == MAX_RESULT_BYTES
    image = Image(data=b"x" * 1000, media_type="image/png")
    assert result_of(CALL, [Text("see"), image]).parts == (Text("see"), image)
    assert result_of(CALL, Image(url="https://example.com/a.png")).error is None


def test_the_text_of_an_error_is_bounded() -> None:
    assert len(failed(CALL, "x" * (MAX_ERROR * 2)).content) == MAX_ERROR + len("Error: ")
