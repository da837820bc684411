"""Turn results of MCP servers into text and parts."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from streamcore.parts import Document, Image, Text
from streamcore.tools.mcp_results import error_of, value_of


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def text(value: str) -> TextContent:
    return TextContent(text=value)


def image(media_type: str = "image/png", data: str = encoded(b"PNG")) -> ImageContent:
    return ImageContent(data=data, mime_type=media_type)


def blob(uri: str, media_type: str | None, data: bytes) -> EmbeddedResource:
    return EmbeddedResource(resource=BlobResourceContents(uri=uri, mime_type=media_type, blob=encoded(data)))


LOG = ResourceLink(uri="file:///log.txt", name="log", description="The log of today")


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ([], ""),
        ([text("one")], "one"),
        ([text("one"), text("two")], "one\ntwo"),
        ([text("A pixel:"), image()], [Text("A pixel:"), Image(data=b"PNG", media_type="image/png")]),
        ([image("IMAGE/JPEG; q=1")], [Image(data=b"PNG", media_type="image/jpeg")]),
        ([image("image/svg+xml")], "[image: image/svg+xml, 3 bytes, not shown]"),
        ([image(data="?")], "[image: not valid Base64]"),
        ([AudioContent(data=encoded(b"RIFF"), mime_type="audio/wav")], "[audio: audio/wav, 4 bytes, not shown]"),
        ([EmbeddedResource(resource=TextResourceContents(uri="note://1", text="Buy milk"))], "Buy milk"),
        (
            [blob("file:///a/bill.pdf", "application/pdf", b"%PDF-")],
            [Document(data=b"%PDF-", media_type="application/pdf", name="bill.pdf")],
        ),
        ([blob("file:///a.png", "image/png", b"PNG")], [Image(data=b"PNG", media_type="image/png")]),
        ([blob("file:///a.txt", "text/plain", "caf\u00e9".encode())], "caf\u00e9"),
        ([blob("file:///a.bin", None, b"1234")], "[file:///a.bin: data of an unknown format, 4 bytes, not shown]"),
        ([LOG], "log (file:///log.txt): The log of today"),
    ],
)
def test_content(content: list[ContentBlock], value: object) -> None:
    assert value_of(CallToolResult(content=content)) == value


@pytest.mark.parametrize(
    ("texts", "structured", "value"),
    [
        ([], {"points": 2}, '{"points": 2}'),
        (["2 points"], {"points": 2}, '2 points\n{"points": 2}'),
        (['{"points":2}'], {"points": 2}, '{"points":2}'),
        (["Found:", '{"points":2}'], {"points": 2}, 'Found:\n{"points":2}'),
        (["5"], {"result": 5}, "5"),
        (["five"], {"result": "five"}, "five"),
        (["5"], {"result": "5"}, "5"),
        (['{"x": 1}', '{"x": 2}'], {"result": [{"x": 1}, {"x": 2}]}, '{"x": 1}\n{"x": 2}'),
        (["a", "b"], {"result": ["a", "b"]}, "a\nb"),
        (["1", "2"], {"result": ["1", "2"]}, "1\n2"),
        (["a", "b"], ["a", "b"], "a\nb"),
        (["six"], {"result": 5}, 'six\n{"result": 5}'),
        (["true"], {"result": 1}, 'true\n{"result": 1}'),
    ],
)
def test_structured_content_is_added_unless_a_text_says_the_same(texts: list[str], structured: Any, value: str) -> None:
    assert value_of(CallToolResult(content=[text(one) for one in texts], structured_content=structured)) == value


def test_structured_content_is_added_to_an_image() -> None:
    result = CallToolResult(content=[image()], structured_content={"width": 1})
    assert value_of(result) == [Image(data=b"PNG", media_type="image/png"), Text('{"width": 1}')]


def test_an_error_is_the_text() -> None:
    assert error_of(CallToolResult(content=[text("no"), image()], is_error=True)) == "no"
    assert error_of(CallToolResult(content=[], is_error=True)) == "the tool failed and gave no reason"
