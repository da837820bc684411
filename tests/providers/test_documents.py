"""Send documents to every vendor that accepts them, and refuse what a vendor cannot be sent before sending."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from streamcore import ConfigError, Document, Message, Request, Text, ToolCall, get_provider, stream_request
from streamcore.request import Part, Role
from streamcore.testing import Answer
from tests.support import GATEWAYS, VENDORS, Vendor, body_of, wire_of

PDF = Document(data=b"%PDF", media_type="application/pdf", name="a.pdf")
PDF_BASE64 = "JVBERg=="
NAMELESS = Document(data=b"%PDF", media_type="application/pdf")
BY_URL = Document(url="https://example.com/a.pdf", name="a.pdf")
BY_ID = Document(file_id="file-1")
NOTE = Document(data="Grüezi".encode(), media_type="text/plain", name="a.txt")
NOTE_BASE64 = "R3LDvGV6aQ=="
SHEET = Document(data=b"PK", media_type="application/zip", name="a.zip")

DATA_URL = f"data:application/pdf;base64,{PDF_BASE64}"
SOURCE = {"type": "base64", "media_type": "application/pdf", "data": PDF_BASE64}
SENT: dict[str, list[tuple[Document, dict[str, Any]]]] = {
    "google": [
        (PDF, {"inlineData": {"mimeType": "application/pdf", "data": PDF_BASE64}}),
        (BY_URL, {"fileData": {"mimeType": "application/pdf", "fileUri": BY_URL.url}}),
        (BY_ID, {"fileData": {"fileUri": "file-1"}}),
        (NOTE, {"inlineData": {"mimeType": "text/plain", "data": NOTE_BASE64}}),
    ],
    "anthropic": [
        (PDF, {"type": "document", "source": SOURCE, "title": "a.pdf"}),
        (NAMELESS, {"type": "document", "source": SOURCE}),
        (BY_URL, {"type": "document", "source": {"type": "url", "url": BY_URL.url}, "title": "a.pdf"}),
        (BY_ID, {"type": "document", "source": {"type": "file", "file_id": "file-1"}}),
        (
            NOTE,
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "Grüezi"},
                "title": "a.txt",
            },
        ),
    ],
    "openai": [
        (PDF, {"type": "file", "file": {"filename": "a.pdf", "file_data": DATA_URL}}),
        (NAMELESS, {"type": "file", "file": {"filename": "document.pdf", "file_data": DATA_URL}}),
        (BY_ID, {"type": "file", "file": {"file_id": "file-1"}}),
    ],
    "openrouter": [
        (PDF, {"type": "file", "file": {"filename": "a.pdf", "file_data": DATA_URL}}),
        (BY_URL, {"type": "file", "file": {"filename": "a.pdf", "file_data": BY_URL.url}}),
    ],
    "openai-responses": [
        (PDF, {"type": "input_file", "filename": "a.pdf", "file_data": DATA_URL}),
        (BY_URL, {"type": "input_file", "file_url": BY_URL.url}),
        (BY_ID, {"type": "input_file", "file_id": "file-1"}),
        (
            NOTE,
            {"type": "input_file", "filename": "a.txt", "file_data": f"data:text/plain;base64,{NOTE_BASE64}"},
        ),
    ],
    "mistral": [
        (PDF, {"type": "document_url", "document_url": DATA_URL, "document_name": "a.pdf"}),
        (BY_URL, {"type": "document_url", "document_url": BY_URL.url, "document_name": "a.pdf"}),
        (BY_ID, {"type": "file", "file_id": "file-1"}),
        (
            NOTE,
            {
                "type": "document_url",
                "document_url": f"data:text/plain;base64,{NOTE_BASE64}",
                "document_name": "a.txt",
            },
        ),
    ],
    "bedrock": [
        (PDF, {"document": {"format": "pdf", "name": "a", "source": {"bytes": PDF_BASE64}}}),
        (NAMELESS, {"document": {"format": "pdf", "name": "document", "source": {"bytes": PDF_BASE64}}}),
        (NOTE, {"document": {"format": "txt", "name": "a", "source": {"bytes": NOTE_BASE64}}}),
        (
            Document(url="s3://bucket/plans/b.docx", name="Plan: 2 (new).docx"),
            {
                "document": {
                    "format": "docx",
                    "name": "Plan 2 (new)",
                    "source": {"s3Location": {"uri": "s3://bucket/plans/b.docx"}},
                }
            },
        ),
    ],
}
REFUSED = {
    "bedrock": [BY_URL, BY_ID, SHEET],
    "anthropic": [SHEET, Document(url="https://example.com/a.txt", media_type="text/plain")],
    "openai": [BY_URL, NOTE, SHEET],
    "openrouter": [BY_ID, NOTE, SHEET],
    "groq": [PDF, BY_URL, BY_ID, NOTE],
}


def sent(name: str, *messages: Message) -> dict[str, Any]:
    vendor = Vendor(body_of(wire_of(name), Answer.of("ok")))
    request = Request(messages, model="m")
    asyncio.run(stream_request(request, provider=vendor.provider(name), max_retries=0).collect())
    (asked,) = vendor.requests
    body: dict[str, Any] = json.loads(asked.content)
    return body


@pytest.mark.parametrize(("name", "document", "part"), [(name, *row) for name, rows in SENT.items() for row in rows])
def test_a_document_in_a_user_message(name: str, document: Document, part: dict[str, Any]) -> None:
    body = sent(name, Message("user", [document, Text("Read it.")]))
    key = {"openai-responses": "input", "google": "contents"}.get(name, "messages")
    (turn,) = body[key]
    first, second = turn["parts" if name == "google" else "content"]
    assert first == part
    assert second["text"] == "Read it."


@pytest.mark.parametrize(("name", "document"), [(name, one) for name, rows in REFUSED.items() for one in rows])
def test_a_document_that_the_vendor_cannot_be_sent(name: str, document: Document) -> None:
    vendor = Vendor(b"")
    request = Request([Message("user", [document])], model="m")
    with pytest.raises(ConfigError, match=f"provider '{name}' cannot send a document"):
        asyncio.run(stream_request(request, provider=vendor.provider(name)).collect())
    assert not vendor.requests


def test_a_text_that_is_not_utf_8_is_refused() -> None:
    note = Document(data=b"\xff", media_type="text/plain")
    with pytest.raises(ConfigError, match="not UTF-8"):
        sent("anthropic", Message("user", [note]))


@pytest.mark.parametrize("name", [*VENDORS, *GATEWAYS])
@pytest.mark.parametrize("role", ["system", "assistant"])
def test_a_document_in_another_message_is_refused(name: str, role: Role) -> None:
    if (name, role) == ("openai-responses", "system"):
        return  # the API accepts it there
    with pytest.raises(ConfigError, match="document"):
        sent(name, Message(role, [PDF]), Message("user", "Hi"))


def test_a_document_in_a_tool_result() -> None:
    call = Message("assistant", tool_calls=(ToolCall("call_1", "fetch", "{}"),))
    parts: list[Part] = [PDF, Text("Here.")]
    result = Message("tool", parts, tool_call_id="call_1")
    body = sent("anthropic", Message("user", "Fetch."), call, result)
    assert body["messages"][2]["content"][0]["content"][0]["source"] == SOURCE
    body = sent("openai-responses", Message("user", "Fetch."), call, result)
    assert body["input"][2]["output"][0]["file_data"] == DATA_URL
    body = sent("google", Message("user", "Fetch."), call, result)
    assert body["contents"][2]["parts"][0]["functionResponse"]["parts"][0]["inlineData"]["data"] == PDF_BASE64
    with pytest.raises(ConfigError, match="put it into a user message"):
        sent("openai", Message("user", "Fetch."), call, result)


def test_a_custom_gateway_says_which_documents_it_accepts() -> None:
    vendor = Vendor(body_of("openai-chat", Answer.of("ok")))
    provider = get_provider(
        "acme",
        dialect="openai-chat",
        base_url="https://acme.example/v1",
        api_key="k",
        documents=["data"],
        http_client=vendor.client(),
    )
    request = Request([Message("user", [PDF])], model="m")
    asyncio.run(stream_request(request, provider=provider).collect())
    assert json.loads(vendor.requests[0].content)["messages"][0]["content"][0]["type"] == "file"


@pytest.mark.parametrize(
    "given",
    [{}, {"url": "u", "file_id": "f"}, {"data": b"", "url": "u", "media_type": "text/plain"}, {"data": b"%PDF"}],
)
def test_a_document_has_one_source(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Document"):
        Document(**given)


def test_the_text_of_a_message_leaves_documents_out() -> None:
    assert Message("user", [PDF, Text("a"), Text("b")]).text == "ab"
