"""Read documents in clients' requests: what a provider sends is read as the same documents."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from streamcore import Document, Message, Request, Text, stream_request
from streamcore.request import Part
from streamcore.testing import Answer
from streamcore.wire.encoding.wire import RequestRefused, find_wire
from tests.support import Vendor, body_of, wire_of

PDF = Document(data=b"%PDF", media_type="application/pdf", name="a.pdf")
BY_URL = Document(url="https://example.com/a.pdf")
BY_ID = Document(file_id="file-1")
NOTE = Document(data="Grüezi".encode(), media_type="text/plain", name="a.txt")


@pytest.mark.parametrize(
    ("name", "documents"),
    [
        ("anthropic", [PDF, BY_URL, BY_ID, NOTE]),
        ("openai", [PDF, BY_ID]),
        ("openai-responses", [PDF, BY_URL, BY_ID, NOTE]),
        ("mistral", [PDF, BY_URL, BY_ID, NOTE]),
    ],
)
def test_documents_are_read_as_they_were_sent(name: str, documents: list[Document]) -> None:
    vendor = Vendor(body_of(wire_of(name), Answer.of("ok")))
    parts: list[Part] = [*documents, Text("Read.")]
    request = Request([Message("user", parts)], model="m", max_tokens=9)
    asyncio.run(stream_request(request, provider=vendor.provider(name), max_retries=0).collect())
    read = find_wire(wire_of(name)).read_request(json.loads(vendor.requests[0].content))
    (message,) = read.request.messages
    assert list(message.parts) == parts


@pytest.mark.parametrize(
    ("wire", "part", "param"),
    [
        ("openai-chat", {"type": "file"}, "messages[0].content[0].file"),
        ("openai-chat", {"type": "file", "file": {}}, "messages[0].content[0].file.file_id"),
        ("openai-chat", {"type": "file", "file": {"file_id": "a", "more": 1}}, "messages[0].content[0].file.more"),
        ("anthropic-messages", {"type": "document"}, "messages[0].content[0].source"),
        (
            "anthropic-messages",
            {"type": "document", "source": {"type": "content"}},
            "messages[0].content[0].source.type",
        ),
        (
            "anthropic-messages",
            {"type": "document", "source": {"type": "base64", "data": "*"}},
            "messages[0].content[0].source.data",
        ),
    ],
)
def test_a_document_that_is_not_valid_names_the_parameter(wire: str, part: dict[str, Any], param: str) -> None:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [part]}]}
    with pytest.raises(RequestRefused) as caught:
        find_wire(wire).read_request(body)
    assert caught.value.problem.param == param
