"""Own the connection to one MCP server on one event loop, in a task of its own.

The SDK's sessions are task groups: they must be entered and left in the same task. That task is started outside any
task group, runs from the first use to `aclose`, the end of the server or the end of the event loop, and stops the
server's process. Calls come from any task of the loop.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, Self, cast

import anyio
import anyio.to_thread
import httpx2
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, CallToolResult, Implementation, JSONRPCNotification, Tool
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from streamcore.concurrency.event_loop import start_task, task_starter
from streamcore.errors import ToolError, ToolServerError
from streamcore.net.credentials import scrub_error
from streamcore.tools.mcp_server import McpServer
from streamcore.tools.mcp_stderr import ServerStderr

CLOSE_SECONDS = 1.0
"""How long a connection may take to close by itself before its task is cancelled."""
STOP_SECONDS = 10.0
"""How long its task may take after that: the SDK waits up to 6 s for a process before and after it stops it."""
LISTEN_PAUSE = 5.0
"""How long a lost subscription to changes of the list waits before it is opened again."""
MAX_PAGES = 1000
"""How many pages of tools are read; a server whose list does not end must not hold a run."""

FAILURES = (MCPError, RuntimeError, ValueError, OSError, anyio.ClosedResourceError, anyio.BrokenResourceError)
"""What the SDK raises: errors of the server, results that are not valid, and a connection that has ended."""
UNNAMED_STATUS = ("Server returned an error response", "Not Found", "Session terminated")
"""The SDK's messages for an HTTP status that it does not name."""

Progress = Callable[[Mapping[str, Any]], object]
_tokens = itertools.count(1)


class SessionEnded(ToolServerError):  # noqa: N818
    """Report that the server does not know the session any more, so that it has not run the call."""


class McpConnection:
    """Run one server, or one session of it, and call its tools.

    Args:
        server: the settings.
        previous: the connection that this one replaces. A process has to end first: both may need one port or file.
    """

    def __init__(self, server: McpServer, previous: McpConnection | None = None) -> None:
        self._server = server
        self._previous = previous
        self._client: Client | None = None
        self._error: Exception | None = None
        self._scope = anyio.CancelScope()
        self._started = anyio.Event()
        self._ended = anyio.Event()
        self._done = anyio.Event()
        self._start_task = task_starter()
        self._was_ready = False
        self._closing = False
        self._calls = 0
        self._session_lost = False
        self._retired = False  # to be closed once no call runs
        self._status = ""  # of the last HTTP response that was an error
        self._progress: dict[str, Progress] = {}
        self._tools: list[Tool] | None = None
        self._changed = False  # the server said so of its list
        self._listing = anyio.Lock()
        self._stderr: ServerStderr | None = None

    # -- what callers use --------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """False once the server has ended or forgotten the session; then the next call needs a new connection."""
        return not self._ended.is_set() and not self._session_lost

    def start(self) -> None:
        """Start the task that owns the connection."""
        if self._previous is not None:
            self._previous.retire()
        start_task(self._run)

    def retire(self) -> None:
        """Close the connection as soon as no call runs; calls of a lost session may still get their answers."""
        self._retired = True
        if not self._calls:
            self._scope.cancel()

    async def list_tools(self) -> list[Tool]:
        """Return the server's tools; they are asked for again only after the server said that they changed.

        Raises:
            ToolServerError: the server cannot be started or reached, or refuses.
        """
        async with self._listing:
            if self._tools is None or self._changed:
                client = await self._ready()
                self._tools, self._changed = None, False
                try:
                    self._tools = await _pages(client)
                except FAILURES as error:
                    failure = error
                else:
                    return self._tools
                raise await self._failure(failure, ToolServerError)
            return self._tools

    async def call(self, name: str, arguments: Mapping[str, Any], progress: Progress) -> CallToolResult:
        """Call a tool; if the caller is cancelled, the server gets a cancellation.

        Raises:
            ToolError: the server refuses the call, or its result is not valid.
            SessionEnded: the server has forgotten the session, and has not run the call.
            ToolServerError: the server cannot be started or reached, or has ended.
        """
        client = await self._ready()
        if self._tools is None:
            await self.list_tools()  # the SDK checks results by the schemas of the list
        token = f"streamcore-{next(_tokens)}"
        self._progress[token] = progress
        self._calls += 1
        try:
            return await client.call_tool(name, dict(arguments), meta={"progress_token": token})
        except FAILURES as error:
            failure = error
        finally:
            self._calls -= 1
            del self._progress[token]
            if self._retired and not self._calls:
                self._scope.cancel()
        raise await self._failure(failure, ToolError)

    async def aclose(self) -> None:
        """Close the connection and stop the server's process; calls that run fail."""
        self._closing = True
        self._ended.set()
        if self._previous is not None:
            await self._previous.aclose()
        if not self._started.is_set():
            self._scope.cancel()
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await self._done.wait()
        if not self._done.is_set():
            self._scope.cancel()
            with anyio.move_on_after(STOP_SECONDS, shield=True):
                await self._done.wait()

    def too_slow(self, what: str, seconds: float) -> ToolServerError:
        """Return the error for a caller that has waited for so many seconds until the server does something."""
        what = what if self._was_ready else "start"
        output = self._stderr.lines() if self._stderr is not None and not self._was_ready else ""
        text = f"{self._server} did not {what} within {seconds:g} s; timeout= sets this time"
        return ToolServerError(self._server.clean(text + (output and f"\n{output}")))

    async def finished(self) -> None:
        """Wait until the task has ended."""
        await self._done.wait()

    def close_later(self) -> None:
        """Close the connection in the loop's next turn; may be called from a finalizer and from any thread."""
        self._start_task(self.aclose)

    # -- the task ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Enter and leave the SDK's session."""
        try:
            self._scope.deadline = anyio.current_time() + self._server.timeout
            with self._scope:
                if self._previous is not None and self._server.command:
                    await self._previous.finished()
                await self._serve()
        except Exception as error:  # noqa: BLE001  raised where the connection is used
            self._error = _first(error)
        finally:
            self._client = self._previous = None
            self._ended.set()
            self._started.set()
            self._done.set()

    async def _serve(self) -> None:
        about = Implementation(name="streamcore", version=version("streamcore-llm"))
        transport = cast("Any", self._transport())
        async with Client(
            transport, cache=None, client_info=about, read_timeout_seconds=self._server.timeout
        ) as client:
            self._scope.deadline = math.inf
            self._was_ready = True
            self._client = client
            self._started.set()
            async with anyio.create_task_group() as tasks:
                tools = client.server_capabilities.tools
                if tools is not None and tools.list_changed and client.protocol_version in MODERN_PROTOCOL_VERSIONS:
                    tasks.start_soon(self._listen, client)
                await self._ended.wait()
                tasks.cancel_scope.cancel()

    async def _listen(self, client: Client) -> None:
        """Subscribe to changes of the list, which a server of the protocol's newer form sends to subscribers only."""
        while True:
            try:
                async with client.listen(tools_list_changed=True) as subscription:
                    async for _ in subscription:
                        self._changed = True
            except MCPError as error:
                if error.code != CONNECTION_CLOSED:
                    return  # the server has none
            except (SubscriptionLost, TimeoutError):
                pass
            await anyio.sleep(LISTEN_PAUSE)
            self._changed = True  # possibly, while nobody listened

    @asynccontextmanager
    async def _transport(self) -> AsyncGenerator[tuple[_Incoming, _Outgoing]]:
        """Open the streams of messages of the server."""
        if self._server.url:
            client = partial(
                httpx2.AsyncClient,
                headers=dict(self._server.headers),
                timeout=httpx2.Timeout(None, connect=self._server.timeout),
                event_hooks={"response": [self._see_status]},
            )
            async with (
                await anyio.to_thread.run_sync(client) as http,  # it reads all certificates
                streamable_http_client(self._server.url, http_client=http) as (incoming, outgoing),
            ):
                yield _Incoming(incoming, self), _Outgoing(outgoing)
            return
        program, *arguments = self._server.command
        parameters = StdioServerParameters(
            command=program, args=arguments, env=dict(self._server.env), cwd=self._server.cwd
        )
        with ServerStderr(self._server) as self._stderr:
            async with stdio_client(parameters, errlog=self._stderr.file) as (incoming, outgoing):
                self._stderr.file.close()  # the process has its own; else the end would not be seen
                yield _Incoming(incoming, self), _Outgoing(outgoing)

    async def _see_status(self, response: httpx2.Response) -> None:
        """Remember the status of an error, which the SDK does not report."""
        if response.status_code >= 400 and response.request.method != "DELETE":
            self._status = f"{response.status_code} {response.reason_phrase}".strip()
            if response.status_code == 404 and "mcp-session-id" in response.request.headers:
                self._session_lost = True

    def see(self, message: object) -> None:
        """Look at a message of the server before the SDK does: progress in its order, changes of the list."""
        if not isinstance(message, JSONRPCNotification):
            return
        params = message.params or {}
        if message.method == "notifications/tools/list_changed":
            self._changed = True
        elif message.method == "notifications/progress":
            report = self._progress.get(str(params.get("progressToken")))
            if report is not None:
                report({key: params.get(key) for key in ("progress", "total", "message")})

    def see_end(self) -> None:
        """Note that no message will follow."""
        self._ended.set()

    # -- helpers -----------------------------------------------------------------------------------------------------

    async def _ready(self) -> Client:
        """Return the client once the server has started."""
        await self._started.wait()
        if self._client is None or self._ended.is_set():
            raise await self._failure(None, ToolServerError)
        return self._client

    async def _failure(self, error: Exception | None, kind: type[ToolError | ToolServerError]) -> Exception:
        """Return the error that a caller gets, without secrets, also in its causes."""
        found = await self._described(error, kind)
        cause = self._error if error is None or self._ended.is_set() else error
        if not isinstance(cause, httpx2.HTTPError):  # it has the request, with its headers
            found.__cause__ = cause
        scrub_error(found, self._server.secrets())
        return found

    async def _described(self, error: Exception | None, kind: type[ToolError | ToolServerError]) -> Exception:
        if self._session_lost and isinstance(error, MCPError) and error.code != CONNECTION_CLOSED:
            return SessionEnded(f"{self._server} has ended the session")
        if self._ended.is_set():
            with anyio.move_on_after(CLOSE_SECONDS):
                await self._done.wait()
            return ToolServerError(await self._why_ended())
        if not isinstance(error, MCPError):
            return kind(str(error) or type(error).__name__)
        text = f"{error.message}: {self._status}" if error.message in UNNAMED_STATUS else error.message
        return (ToolServerError if error.code == CONNECTION_CLOSED else kind)(text)

    async def _why_ended(self) -> str:
        """Return what ended the connection, as a sentence with the last lines that the process wrote."""
        server, error = self._server, self._error
        closed = isinstance(error, MCPError) and error.code == CONNECTION_CLOSED
        reason = f": {error}" if error is not None and not closed else ""
        if self._closing:
            what = "was closed by McpTools.aclose or by the end of the event loop"
        elif self._was_ready:
            what = f"closed the connection{reason}; the next call connects again"
        elif self._scope.cancelled_caught:
            what = f"did not start within {server.timeout:g} s; timeout= sets this time"
        elif self._status:
            what = f"answered with HTTP status {self._status}; check url= and headers="
        elif server.url:
            what = f"cannot be reached{reason}"
        elif isinstance(error, OSError):
            what = f"cannot be started{reason}; check command= and cwd="
        else:
            what = f"ended before it was ready{reason}"
        output = await self._stderr.last_lines() if self._stderr is not None and not self._was_ready else ""
        return server.clean(f"{server} {what}" + (output and f"\n{output}"))


async def _pages(client: Client) -> list[Tool]:
    """Return the tools of all pages of the list."""
    found: list[Tool] = []
    if client.server_capabilities.tools is None:
        return found
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        if not page.next_cursor or page.next_cursor == cursor:
            return found
        cursor = page.next_cursor
    raise ValueError(f"the list of tools has more than {MAX_PAGES} pages")


def _first(error: Exception) -> Exception:
    """Return the first error of a group; the SDK's task groups nest them."""
    while isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        error = group.exceptions[0]
    return error


class _Incoming:
    """Show the messages of a server to its connection before the SDK reads them, and the end of them.

    The session does not close it: the transport does, after its tasks, which log an error for each message otherwise.
    """

    def __init__(self, messages: Any, connection: McpConnection) -> None:
        self._messages = messages
        self._connection = connection

    async def receive(self) -> Any:
        """Return the next message."""
        try:
            item = await self._messages.receive()
        except BaseException:
            self._connection.see_end()
            raise
        self._connection.see(getattr(item, "message", None))
        return item

    async def aclose(self) -> None:
        """Leave the stream open."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        """Leave the stream open."""


class _Outgoing:
    """Send messages to a server; the transport closes it, too."""

    def __init__(self, messages: Any) -> None:
        self.send = messages.send

    async def aclose(self) -> None:
        """Leave the stream open."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        """Leave the stream open."""
