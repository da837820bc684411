"""Test what parts of a message take, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from streamcore import Document, Image, Message, Request


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


@pytest.mark.parametrize(
    ("content", "given"),
    [
        (3, "int"),
        (None, "NoneType"),
        (b"Hello", "bytes"),
        ({"type": "text", "text": "Hello"}, "dict"),
        (Image(url="https://example.org/a.png"), "Image"),
        ([{"type": "text", "text": "Hello"}], "a list with dict"),
        (["Hello"], "a list with str"),
    ],
)
def test_content_of_another_type_is_refused_when_the_message_is_made(content: Any, given: str) -> None:
    with pytest.raises(TypeError, match=rf"a text, or a list of Text, Image and Document, as in .*, not {given}$"):
        Message("user", content)


def test_a_request_refuses_functions_as_tools_and_numbers_as_text() -> None:
    wrong: Any = [print]
    with pytest.raises(TypeError, match=r"give functions and MCP servers to stream_agent\(request, tools=\["):
        Request([Message("user", "Hello")], tools=wrong)
    text: Any = "0.3"
    with pytest.raises(TypeError, match=r"temperature of a Request is a number, not the text '0\.3'"):
        Request([Message("user", "Hello")], temperature=text)
