"""Ask every provider what it can be sent and what comes back, and write the table of providers.md.

    python docs/make_vendors.py            rewrite the table
    python docs/make_vendors.py --check    exit 1 if the table is out of date

Nothing leaves this machine: each provider sends its request to a mock transport, which answers as the vendor does. What
cannot be sent raises ConfigError, and the table says no.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from streamcore import (
    Completion,
    ConfigError,
    Document,
    Image,
    Message,
    Request,
    Text,
    Tool,
    ToolCall,
    get_provider,
    stream_request,
)
from streamcore.request import Part
from streamcore.testing import Answer, PlannedCall
from streamcore.testing.simulator.frames import frames

PAGE = Path(__file__).with_name("providers.md")
TABLE = re.compile(r"(<!-- vendors -->\n).*?(<!-- /vendors -->)", re.DOTALL)
WIRES = {
    "anthropic": "anthropic-messages",
    "openai": "openai-chat",
    "openai-responses": "openai-responses",
    "mistral": "mistral-chat",
    "google": "gemini",
    "bedrock": "bedrock-converse",
    "openrouter": "openai-chat",
}
TYPES = {"bedrock-converse": "application/vnd.amazon.eventstream"}
PLAIN = Request([Message("user", "Hi")], model="m", max_tokens=64)
PICTURE = Image(data=b"\x89PNG", media_type="image/png")
PDF = Document(data=b"%PDF", media_type="application/pdf", name="a.pdf")
NOTE = Document(data=b"Hello", media_type="text/plain", name="a.txt")
CALL = ToolCall("call_1", "look", "{}")
ANSWER = Answer(["Hi", " you"], reasoning=["Let me", " see."], calls=[PlannedCall("look", {"at": "the table"})])


def said(*parts: Part) -> Request:
    """Return a request with these parts in the user's message."""
    return replace(PLAIN, messages=[Message("user", [*parts, Text("What is it?")])])


def result(*parts: Part) -> Request:
    """Return a request with these parts in the result of a tool."""
    call = Message("assistant", tool_calls=(CALL,))
    return replace(PLAIN, messages=[*PLAIN.messages, call, Message("tool", [*parts], tool_call_id="call_1")])


SENT: dict[str, Request] = {
    "`seed`": replace(PLAIN, seed=1),
    "`stop`": replace(PLAIN, stop="END"),
    "`reasoning`: an effort": replace(PLAIN, reasoning="high"),
    "`reasoning`: tokens": replace(PLAIN, reasoning=2000),
    "`cache=True`": replace(PLAIN, cache=True),
    "`cache`: a key": replace(PLAIN, cache="team-7"),
    "`output_schema`": replace(
        PLAIN,
        output_schema={"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    ),
    "tools": replace(PLAIN, tools=[Tool("look")]),
    "an image, as bytes": said(PICTURE),
    "an image, by URL": said(Image(url="https://example.org/a.png")),
    "a PDF, as bytes": said(PDF),
    "a PDF, by URL": said(Document(url="https://example.org/a.pdf", media_type="application/pdf")),
    "a document, by `file_id`": said(Document(file_id="file-1")),
    "a text document": said(NOTE),
    "an image in a tool's result": result(PICTURE),
    "a PDF in a tool's result": result(PDF),
}
BACK: dict[str, Callable[[Completion, int], bool]] = {
    "text, token by token": lambda answer, _: answer.text == "Hi you",
    "reasoning": lambda answer, _: answer.reasoning == "Let me see.",
    "tool calls": lambda answer, _: [call.parse() for call in answer.tool_calls] == [{"at": "the table"}],
    "tool calls in fragments": lambda _, fragments: fragments > 1,
    "token counts": lambda answer, _: answer.usage is not None and bool(answer.usage.output_tokens),
    "opaque data for the next turn": lambda answer, _: answer.opaque is not None,
}


async def ask(name: str, request: Request, answer: Answer = ANSWER) -> tuple[Completion, int]:
    """Return the answer of a provider, and the number of fragments of its tool calls."""
    wire = WIRES[name]
    body = b"".join(data for data, _ in frames(wire, answer))
    headers = {"content-type": TYPES.get(wire, "text/event-stream")}

    async def respond(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=headers, content=body)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(respond)) as http:
        settings: dict[str, Any] = {"region": "us-east-1"} if name == "bedrock" else {}
        provider = get_provider(name, api_key="table-key-0123456789", http_client=http, **settings)
        stream = stream_request(request, provider=provider, max_retries=0)
        fragments = [chunk async for chunk in stream if chunk.tool_call is not None and chunk.tool_call.arguments]
        return stream.partial, len(fragments)


def accepts(name: str, request: Request) -> bool:
    """Return whether a provider can send a request."""
    try:
        asyncio.run(ask(name, request))
    except ConfigError:
        return False
    return True


def table() -> str:
    """Return the table, in Markdown."""
    lines = [f"| | {' | '.join(f'`{name}`' for name in WIRES)} |", f"|---|{'---|' * len(WIRES)}"]
    for what, request in SENT.items():
        lines.append(_row(f"can be sent: {what}", [accepts(name, request) for name in WIRES]))
    answers = {name: asyncio.run(ask(name, replace(PLAIN, tools=[Tool("look")]))) for name in WIRES}
    for what, holds in BACK.items():
        lines.append(_row(f"comes back: {what}", [holds(*answers[name]) for name in WIRES]))
    return "\n".join(lines) + "\n"


def _row(what: str, found: list[Any]) -> str:
    return f"| {what} | {' | '.join('yes' if one else 'no' for one in found)} |"


def main(arguments: list[str]) -> int:
    """Rewrite the table, or with `--check` compare it."""
    text = PAGE.read_text("utf-8")
    new = TABLE.sub(lambda block: block[1] + table() + block[2], text)
    if "--check" not in arguments:
        PAGE.write_text(new, "utf-8")
    elif new != text:
        sys.stderr.write(f"{PAGE.name} is out of date; run python docs/{Path(__file__).name}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
