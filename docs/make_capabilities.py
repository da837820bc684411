"""Send each feature through each provider, and write the tables of providers.md: what can be sent, what is returned.

    python docs/make_capabilities.py            rewrite the tables
    python docs/make_capabilities.py --check    exit 1 if the page is out of date

A cell of the first table is "yes" if a request with the feature is sent, and "no" if it raises `ConfigError` before
anything is sent. Below it are the gateways whose cells differ. The second table is what an answer with reasoning and
two tool calls gives, encoded on the vendor's wire and read by the provider. No network: an
`httpx2.MockTransport` answers.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from streamcore import (
    Chunk,
    Completion,
    ConfigError,
    Document,
    Image,
    Message,
    Provider,
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
from streamcore_openai import gateways

PAGE = Path(__file__).with_name("providers.md")
BEGIN, END = "<!-- made by make_capabilities.py -->\n", "<!-- end of what is made -->\n"

WIRES: Mapping[str, str] = {
    "anthropic": "anthropic-messages",
    "openai": "openai-chat",
    "openai-responses": "openai-responses",
    "mistral": "mistral-chat",
    "google": "gemini",
    "bedrock": "bedrock-converse",
    "openrouter": "openai-chat",
    "groq": "openai-chat",
}
"""The providers of the tables with their wires; groq represents all gateways that are alike."""
OTHER_GATEWAYS = sorted(
    found.vendor.name
    for found in vars(gateways).values()
    if isinstance(found, gateways.Gateway) and found.vendor.name not in WIRES
)
LABELS: Mapping[str, str] = {"groq": "`groq` and other gateways"}
SETTINGS: Mapping[str, dict[str, Any]] = {
    "bedrock": {"region": "us-east-1", "model": "us.anthropic.claude-haiku-4-5"},
    "azure": {"base_url": "https://example.openai.azure.com/openai/v1"},
}

TOOL = Tool("weather", "Tell the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
SCHEMA = {
    "type": "object",
    "properties": {"sky": {"type": "string"}},
    "required": ["sky"],
    "additionalProperties": False,
}
PICTURE = Image(data=b"\x89PNG", media_type="image/png")
PDF = Document(data=b"%PDF-", media_type="application/pdf", name="a.pdf")
THOUGHT = "Let me think."
ANSWER = Answer(
    ["Here", " it is."], [THOUGHT], [PlannedCall("weather", {"city": "Bern"}), PlannedCall("weather", {}, "call_2")]
)


def _with(*parts: Part) -> Request:
    return Request([Message("user", [*parts, Text("What is this?")])])


def _with_result(part: Part) -> Request:
    call = Message("assistant", tool_calls=(ToolCall("call_1", "weather", "{}"),))
    return Request([Message("user", "Hello"), call, Message("tool", [part], tool_call_id="call_1")], tools=[TOOL])


def _asking(**more: Any) -> Request:
    return Request([Message("user", "Hello")], **more)


SENT: Mapping[str, Request] = {
    "image, `data`": _with(PICTURE),
    "image, `url`": _with(Image(url="https://example.com/a.png")),
    "PDF, `data`": _with(PDF),
    "PDF, `url`": _with(Document(url="https://example.com/a.pdf")),
    "PDF, `file_id`": _with(Document(file_id="file-1", media_type="application/pdf")),
    "text file": _with(Document(data=b"a", media_type="text/plain")),
    "image in a tool's result": _with_result(PICTURE),
    "PDF in a tool's result": _with_result(PDF),
    "tools": _asking(tools=[TOOL], tool_choice="required"),
    "`seed`": _asking(seed=1),
    "`stop`": _asking(stop="END"),
    "`reasoning`, effort": _asking(reasoning="high"),
    "`reasoning`, tokens": _asking(reasoning=2000),
    "`cache=True`": _asking(cache=True),
    "`cache`, key": _asking(cache="team-7"),
    "`output_schema`": _asking(output_schema=SCHEMA),
}


class Vendor:
    """A provider whose vendor is a mock that gives one answer, and the bodies that it received."""

    def __init__(self, name: str, answer: Answer) -> None:
        self.bodies: list[bytes] = []
        self._body = b"".join(data for data, _ in frames(WIRES.get(name, "openai-chat"), answer))
        http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(self._respond))
        given: dict[str, Any] = {"api_key": "no-key-is-sent", "model": "m", **SETTINGS.get(name, {})}
        self.provider: Provider = get_provider(name, http_client=http_client, **given)

    def _respond(self, request: httpx2.Request) -> httpx2.Response:
        self.bodies.append(request.content)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=self._body)


async def is_sent(name: str, request: Request) -> bool:
    """Return whether a provider sends a request instead of refusing it."""
    vendor = Vendor(name, Answer(["ok"]))
    try:
        await stream_request(request, provider=vendor.provider, max_retries=0).collect()
    except ConfigError:
        if vendor.bodies:
            raise
    return bool(vendor.bodies)


async def answered(name: str) -> tuple[list[Chunk], Completion]:
    """Return what a provider gives for an answer with reasoning and two tool calls."""
    stream = stream_request(_asking(tools=[TOOL]), provider=Vendor(name, ANSWER).provider, max_retries=0)
    chunks = [chunk async for chunk in stream]
    return chunks, stream.partial


async def goes_back(name: str, answer: Completion) -> bytes:
    """Return the body of the request that follows an answer."""
    vendor = Vendor(name, Answer(["ok"]))
    results = [Message("tool", "Rain", tool_call_id=call.id) for call in answer.tool_calls]
    request = replace(_asking(tools=[TOOL]), messages=[Message("user", "Hello"), answer.to_message(), *results])
    await stream_request(request, provider=vendor.provider, max_retries=0).collect()
    return vendor.bodies[0]


async def returned(name: str) -> dict[str, str]:
    """Return the cells of the second table for a provider."""
    chunks, answer = await answered(name)
    fragments = sum(chunk.kind == "tool_call" for chunk in chunks)
    usage = answer.usage
    follow_up = await goes_back(name, answer)
    return {
        "text": _yes("".join(chunk.text for chunk in chunks if chunk.kind == "text") == "Here it is."),
        "reasoning": _yes(answer.reasoning == THOUGHT),
        "tool calls": "in fragments" if fragments > len(answer.tool_calls) else "at once",
        "finish reason": f"`{answer.finish_reason}` (`{answer.raw_finish_reason}`)",
        "token counts": _yes(usage is not None and None not in (usage.input_tokens, usage.output_tokens)),
        "opaque data for the next turn": _yes(answer.opaque is not None),
        "reasoning goes back": _yes(THOUGHT.encode() in follow_up),
    }


def _yes(found: bool) -> str:
    return "yes" if found else "no"


def _table(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Return a table with a row for each feature and a column for each provider."""
    features = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(LABELS.get(name, f"`{name}`") for name in rows) + " |", "|---" * (len(rows) + 1) + "|"]
    lines += [f"| {feature} | " + " | ".join(cells[feature] for cells in rows.values()) + " |" for feature in features]
    return "\n".join(lines) + "\n"


async def sendable(name: str) -> dict[str, str]:
    """Return the cells of the first table for a provider."""
    return {what: _yes(await is_sent(name, request)) for what, request in SENT.items()}


async def differing(usual: Mapping[str, str]) -> str:
    """Return a line for each gateway that differs from the column of all gateways."""
    lines = ""
    for name in OTHER_GATEWAYS:
        cells = await sendable(name)
        found = [f"{what}: {cells[what]}" for what in SENT if cells[what] != usual[what]]
        lines += f"- `{name}`: {'; '.join(found)}\n" if found else ""
    return lines


async def tables() -> str:
    """Return both tables."""
    sent = {name: await sendable(name) for name in WIRES}
    back = {name: await returned(name) for name in WIRES}
    others = f"Gateways that differ from that column:\n\n{await differing(sent['groq'])}"
    return f"\nWhat can be sent:\n\n{_table(sent)}\n{others}\nWhat is returned:\n\n{_table(back)}\n"


def main() -> None:
    """Rewrite the page, or check it."""
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"{PAGE.name} lacks the lines {BEGIN.strip()!r} and {END.strip()!r}")
    made = before + BEGIN + asyncio.run(tables()) + END + after
    if "--check" in sys.argv[1:]:
        sys.exit(0 if made == text else f"{PAGE.name} is not current; run: python docs/make_capabilities.py")
    PAGE.write_text(made, "utf-8")


if __name__ == "__main__":
    main()
