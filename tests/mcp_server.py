"""Serve MCP with the SDK's server side, for the tests of `McpTools`.

    python tests/mcp_server.py stdio [legacy]
    python tests/mcp_server.py http PORT [legacy]

With `legacy` the server knows only the protocol's older form, with a handshake and sessions.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import server as lowlevel
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.utilities.types import Audio, Image
from mcp.server.runner import serve_loop
from mcp.shared.exceptions import MCPError
from mcp_types import (
    METHOD_NOT_FOUND,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ListToolsResult,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000000000500"
    "01a5f645400000000049454e44ae426082"
)
LEGACY = "legacy" in sys.argv
PAGE = 5


async def change(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Return the list of tools in pages; refuse the protocol's newer form if `legacy` says so."""
    if LEGACY and ctx.method == "server/discover":
        raise MCPError(METHOD_NOT_FOUND, "Method not found")
    result = await call_next(ctx)
    if ctx.method != "tools/list":
        return result
    begin = int((ctx.params or {}).get("cursor") or 0)
    tools = await server.list_tools()
    after = begin + PAGE
    return ListToolsResult(tools=tools[begin:after], next_cursor=str(after) if after < len(tools) else None)


server = MCPServer("probe", middleware=[change], log_level="ERROR")


class Point(BaseModel):
    x: int
    y: int


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def pid() -> str:
    """Return the id of the process."""
    return str(os.getpid())


@server.tool()
def variables() -> str:
    """Return the names of the environment's variables."""
    return " ".join(sorted(os.environ))


@server.tool()
def folder() -> str:
    """Return the current folder."""
    return str(Path.cwd())


@server.tool()
def point() -> Point:
    """Return an object."""
    return Point(x=1, y=2)


@server.tool()
def points() -> list[Point]:
    """Return several objects."""
    return [Point(x=1, y=2), Point(x=3, y=4)]


@server.tool()
def summary() -> CallToolResult:
    """Return an object that the text does not repeat."""
    return CallToolResult(content=[TextContent(text="2 points")], structured_content={"points": 2})


@server.tool()
def picture() -> list[Any]:
    """Return a text and an image."""
    return ["A pixel:", Image(data=PIXEL, format="png")]


@server.tool()
def others() -> CallToolResult:
    """Return what is neither text nor image."""
    audio = Audio(data=b"RIFF", format="wav").to_audio_content()
    text = TextResourceContents(uri="note://1", text="Buy milk", mime_type="text/plain")
    pdf = BlobResourceContents(uri="file:///a/invoice.pdf", blob="JVBERi0=", mime_type="application/pdf")
    link = ResourceLink(uri="file:///log.txt", name="log", description="The log of today")
    return CallToolResult(
        content=[audio, EmbeddedResource(resource=text), EmbeddedResource(resource=pdf), link],
    )


@server.tool()
def fail() -> CallToolResult:
    """Fail."""
    return CallToolResult(content=[TextContent(text="the city 'Atlantis' is not known")], is_error=True)


@server.tool()
def tell_secret(name: str) -> CallToolResult:
    """Fail with the value of a variable."""
    return CallToolResult(content=[TextContent(text=f"wrong key {os.environ[name]}")], is_error=True)


@server.tool()
def refuse(name: str) -> str:
    """Raise an error of the protocol that has the value of a variable."""
    raise MCPError(1234, f"refused with {os.environ[name]}")


@server.tool()
async def slow(context: Context[Any, Any], steps: int = 3) -> str:
    """Report progress."""
    for step in range(1, steps + 1):
        await context.report_progress(step, steps, f"step {step}")
    return "done"


@server.tool()
async def wait(file: str) -> str:
    """Wait for ever; write to a file when it begins and when the call is cancelled."""
    state = anyio.Path(file)
    await state.write_text("begun", "utf-8")
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await state.write_text("cancelled", "utf-8")
    return ""


@server.tool()
def crash() -> str:
    """End the process in the middle of the call."""
    os._exit(3)


@server.tool(name="a.name with/signs")
def signs() -> str:
    """Have a name that no vendor accepts."""
    return "signs"


@server.tool()
async def learn(context: Context[Any, Any], name: str) -> str:
    """Add a tool to the server."""
    server.add_tool(lambda: f"I am {name}", name=name)
    if LEGACY:
        await context.session.send_tool_list_changed()
    else:
        await context.notify_tools_changed()
    return "learned"


if __name__ == "__main__":
    if LEGACY:
        lowlevel.__dict__["serve_dual_era_loop"] = serve_loop
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", port=int(sys.argv[2]))
