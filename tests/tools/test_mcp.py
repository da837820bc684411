"""Run the tools of real MCP servers, over stdio and HTTP, in both forms of the protocol."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamcore import Chunk, Message, Request, ToolCall, aclose_providers, stream_agent
from streamcore.concurrency.resources import known_resources
from streamcore.errors import ConfigError, ToolError, ToolServerError
from streamcore.request import Tool
from streamcore.tools import McpTools, ToolContext
from streamcore.tools.mcp_connection import McpConnection
from streamcore.tools.toolbox import open_tools
from tests.support import BACKENDS, eventually, free_port, patient, wait_until

# Under trio, the SDK leaves the generators of each SSE response to the event loop, which closes them and says so.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings(r"ignore:Async generator '(httpx2|httpcore2)\.:ResourceWarning"),
]

SERVER = str(Path(__file__).resolve().parent.parent / "mcp_server.py")
SHORT = [("asyncio", "stdio"), ("trio", "http")]
"""Each backend and each transport; the other pairs, which start more servers, are in the long tests."""
EACH_KIND = pytest.mark.parametrize(
    ("anyio_backend", "settings"),
    [
        pair if pair in SHORT else pytest.param(*pair, marks=pytest.mark.long)
        for pair in itertools.product(BACKENDS, ("stdio", "stdio-legacy", "http", "http-legacy"))
    ],
    indirect=["settings"],
)
LONG_ON_TRIO = pytest.mark.parametrize("anyio_backend", ["asyncio", pytest.param("trio", marks=pytest.mark.long)])
SLOW = 300.0
"""A timeout for a busy machine: a test that needs it fails by itself."""
SECRET = "s3cr3t-0123456789"


class Reports:
    """Record the progress that a call reports."""

    def __init__(self) -> None:
        self.progress: list[Any] = []

    def put(self, chunks: Sequence[Chunk]) -> None:
        self.progress += [chunk.data["progress"] for chunk in chunks if chunk.data is not None]

    async def below_limit(self) -> None:
        """Never wait."""


class HttpServer:
    """A server at a port of its own, which can be killed and started again."""

    def __init__(self, *mode: str) -> None:
        self._port = free_port()
        self._mode = mode
        self.url = f"http://127.0.0.1:{self._port}/mcp"
        self.start()

    def start(self) -> None:
        command = [sys.executable, SERVER, "http", str(self._port), *self._mode]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, "the server of the test listens")

    def _answers(self) -> bool:
        assert self._process.poll() is None, "the server of the test has ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def http() -> Iterator[HttpServer]:
    server = HttpServer()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def http_legacy() -> Iterator[HttpServer]:
    server = HttpServer("legacy")
    yield server
    server.kill()


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings of `McpTools` for a server of each kind."""
    kind: str = request.param
    if kind.startswith("http"):
        return {"url": request.getfixturevalue(kind.replace("-", "_")).url, "timeout": SLOW}
    return stdio(*kind.split("-")[1:])


def stdio(*mode: str, **more: Any) -> dict[str, Any]:
    return {"command": [sys.executable, SERVER, "stdio", *mode], "timeout": SLOW, **more}


async def by_name(server: McpTools) -> dict[str, Tool]:
    return {tool.name: tool for tool in await server.tools()}


async def call(server: McpTools, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
    return await run(next(tool for tool in await server.tools() if tool.name == name), arguments)


async def run(tool: Tool, arguments: Mapping[str, Any] | None = None, reports: Reports | None = None) -> Any:
    assert tool.run is not None
    return await tool.run(arguments or {}, ToolContext(ToolCall("1", tool.name), None, reports or Reports()))


def runs(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def begun(file: Path, word: str) -> bool:
    return file.exists() and file.read_text("utf-8") == word


# -- calls -----------------------------------------------------------------------------------------------------------


@EACH_KIND
async def test_tools_are_listed_and_run(settings: dict[str, Any]) -> None:
    async with McpTools(**settings) as server:
        tools = await by_name(server)
        assert len(tools) > 10  # more than two pages
        add = tools["add"]
        assert add.description == "Add two numbers."
        assert set(add.parameters["properties"]) == {"a", "b"}
        assert await run(add, {"a": 2, "b": 3}) == "5"

        reports = Reports()
        assert await run(tools["slow"], {"steps": 20}, reports) == "done"
        assert reports.progress == [{"progress": step, "total": 20, "message": f"step {step}"} for step in range(1, 21)]

        with pytest.raises(ToolError, match="the city 'Atlantis' is not known"):
            await run(tools["fail"])
        with pytest.raises(ToolError, match=r"valid|integer"):
            await run(add, {"a": "two", "b": 3})
        assert await run(tools["a_name_with_signs"]) == "signs"


@LONG_ON_TRIO
async def test_calls_run_at_the_same_time_and_share_one_server() -> None:
    async with McpTools(**stdio()) as server:
        found: list[str] = []

        async def ask() -> None:
            found.append(await call(server, "pid"))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
        assert len(found) == 5
        assert len(set(found)) == 1


@EACH_KIND
async def test_a_changed_list_is_read_again(settings: dict[str, Any], anyio_backend: str) -> None:
    name = f"new_{anyio_backend}"
    async with McpTools(**settings) as server:
        assert name not in await by_name(server)
        assert await call(server, "learn", {"name": name}) == "learned"

        while name not in await by_name(server):  # the notice may come after the result
            await anyio.lowlevel.checkpoint()
        assert await call(server, name) == f"I am {name}"


@EACH_KIND
async def test_a_cancelled_call_is_cancelled_at_the_server(settings: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "state"
    async with McpTools(**settings) as server:
        tool = (await by_name(server))["wait"]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, tool, {"file": str(file)})
            await eventually(lambda: begun(file, "begun"), "the call begins")
            tasks.cancel_scope.cancel()
        await eventually(lambda: begun(file, "cancelled"), "the server cancels the call")
        assert await call(server, "add", {"a": 1, "b": 1}) == "2"


@LONG_ON_TRIO
@patient
async def test_a_call_that_is_too_slow_is_cancelled_at_the_server(tmp_path: Path, pace: float) -> None:
    file = tmp_path / f"state-{pace}"
    seconds = 0.5 * pace
    async with McpTools(**stdio()) as server:
        await server.tools()
        vars(server)["_server"] = replace(vars(server)["_server"], timeout=seconds)  # now that the process has started
        tool = (await by_name(server))["wait"]
        assert tool.timeout == seconds
        message = f"did not answer the call of 'wait' within {seconds:g} s; timeout= sets"
        with pytest.raises(ToolServerError, match=message):
            await run(tool, {"file": str(file)})
        await eventually(lambda: not file.exists() or begun(file, "cancelled"), "the server cancels the call")


# -- in an agent's run -----------------------------------------------------------------------------------------------


ASK = Request([Message("user", "Use the tool.")])


@EACH_KIND
async def test_an_agent_streams_progress_and_results(settings: dict[str, Any]) -> None:
    async with McpTools(**settings, include=["slow"], name="probe") as server:
        chunks = [chunk async for chunk in stream_agent(ASK, provider="demo", tools=[server])]
        messages = [
            chunk.data["progress"]["message"] for chunk in chunks if chunk.kind == "tool_progress" and chunk.data
        ]
        assert messages
        assert messages == [f"step {number}" for number in range(1, len(messages) + 1)]
        (result,) = [chunk.tool_result for chunk in chunks if chunk.tool_result is not None]
        assert (result.name, result.content, result.error) == ("slow", "done", None)
        assert "".join(chunk.text for chunk in chunks if chunk.kind == "text") == "The tool says: done"


@LONG_ON_TRIO
async def test_a_server_that_ends_does_not_end_the_run() -> None:
    async with McpTools(**stdio(include=["crash"])) as server:
        answer = await stream_agent(ASK, provider="demo", tools=[server]).collect()
        (result,) = answer.steps[0].tool_results
        assert result.error is not None
        assert result.error.startswith("ToolServerError: MCP server 'mcp_server' ")
        assert answer.text.startswith("The tool says: Error: ToolServerError")


@EACH_KIND
async def test_a_reader_that_leaves_cancels_the_call(settings: dict[str, Any], tmp_path: Path) -> None:
    async with McpTools(**settings, include=["wait"]) as server:
        state = tmp_path / "state"
        (wait,) = await server.tools()

        async def wait_here(_: Any, context: ToolContext) -> Any:
            assert wait.run is not None
            return await wait.run({"file": str(state)}, context)

        async def read() -> None:
            async with stream_agent(ASK, provider="demo", tools=[replace(wait, run=wait_here)]) as stream:
                async for _ in stream:
                    pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await eventually(lambda: begun(state, "begun"), "the call begins")
            tasks.cancel_scope.cancel()
        await eventually(lambda: begun(state, "cancelled"), "the server cancels the call")


@LONG_ON_TRIO
async def test_a_name_that_is_taken_gets_the_server_in_front() -> None:
    async def add() -> str:
        """Have the name of a tool of the server."""
        return ""

    async with McpTools(**stdio(include=["add"], name="probe")) as server:
        found = await open_tools([add, server])
        assert list(found) == ["add", "probe_add"]
        assert await run(found["probe_add"], {"a": 1, "b": 2}) == "3"


# -- servers that end ------------------------------------------------------------------------------------------------


@LONG_ON_TRIO
async def test_a_server_that_ends_is_started_again_by_the_next_call(caplog: pytest.LogCaptureFixture) -> None:
    async with McpTools(**stdio()) as server:
        tools = await by_name(server)
        first = await run(tools["pid"])
        with pytest.raises(ToolServerError, match=r"closed the connection; the next call connects again"):
            await run(tools["crash"])
        second = await run(tools["pid"])
        assert first != second
        assert not runs(first)
        assert await run(tools["point"]) == '{\n  "x": 1,\n  "y": 2\n}'
        assert "add" in await by_name(server)
    assert not caplog.records  # the SDK warns of a result whose schema it does not know


@LONG_ON_TRIO
async def test_a_server_that_ends_between_calls_is_started_again() -> None:
    async with McpTools(**stdio()) as server:
        first = await call(server, "pid")
        os.kill(int(first), 9)
        resources = known_resources()
        assert resources is not None
        (connection,) = [one for one, _ in resources.clients.values() if isinstance(one, McpConnection)]
        await eventually(lambda: not connection.usable, "the end of the server is seen")
        assert await call(server, "pid") != first


@pytest.mark.long
@pytest.mark.parametrize("mode", [(), ("legacy",)], ids=["newer", "legacy"])
async def test_an_http_server_comes_back(mode: tuple[str, ...]) -> None:
    http = HttpServer(*mode)
    try:
        async with McpTools(url=http.url, timeout=SLOW) as server:
            tools = await by_name(server)
            first = await run(tools["pid"])
            with pytest.raises(ToolServerError):
                await run(tools["crash"])
            with pytest.raises(ToolServerError, match="connect"):
                await run(tools["pid"])
            http.kill()
            http.start()
            second = await run(tools["pid"])
            assert first != second
            # Sessions are lost without a sign of it on any connection; the next call is not an error.
            http.kill()
            http.start()
            assert await run(tools["pid"]) not in (first, second)
    finally:
        http.kill()


# -- the start -------------------------------------------------------------------------------------------------------


async def test_a_missing_program_is_named() -> None:
    server = McpTools(command=["no-such-program", "--key", SECRET], timeout=SLOW)
    with pytest.raises(ToolServerError, match=r"'no-such-program'.* cannot be started: .*check command= and cwd="):
        await server.tools()


async def test_the_error_of_a_program_that_ends_is_shown_without_secrets() -> None:
    code = "import os, sys; print('bad key', os.environ['KEY'], file=sys.stderr); sys.exit(1)"
    server = McpTools(command=[sys.executable, "-c", code], env={"KEY": SECRET}, name="keyed", timeout=SLOW)
    with pytest.raises(ToolServerError, match=r"MCP server 'keyed' .* ended before it was ready") as caught:
        await server.tools()
    assert "bad key [secret]" in str(caught.value)
    assert SECRET not in shown(caught.value)


@pytest.mark.long
async def test_a_program_that_says_nothing_is_given_up() -> None:
    server = McpTools(command=[sys.executable, "-c", "import time; time.sleep(1000)"], timeout=0.5)
    with pytest.raises(ToolServerError, match=r"did not start within 0.5 s; timeout= sets this time"):
        await server.tools()
    await server.aclose()


async def test_a_host_that_refuses_is_named() -> None:
    server = McpTools(url="http://user:pass-word-1234@127.0.0.1:9/secret-in-the-path-1234?key=abcdefgh1", timeout=SLOW)
    with pytest.raises(ToolServerError, match=r"\(http://127.0.0.1:9\) cannot be reached: ") as caught:
        await server.tools()
    text = shown(caught.value)
    assert not [one for one in ("pass-word-1234", "secret-in-the-path-1234", "abcdefgh1") if one in text]


async def test_a_status_is_named() -> None:
    async with refusing("401 Unauthorized") as url:
        server = McpTools(url=url, headers={"Authorization": f"Bearer {SECRET}"}, timeout=SLOW)
        with pytest.raises(ToolServerError, match="HTTP status 401 Unauthorized; check url= and headers=") as caught:
            await server.tools()
        assert SECRET not in shown(caught.value)


@asynccontextmanager
async def refusing(status: str) -> AsyncGenerator[str]:
    """Serve HTTP that answers each request with a status."""

    async def answer(connection: anyio.abc.SocketStream) -> None:
        async with connection:
            await connection.receive()
            await connection.send(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610  not Django's
        yield f"http://127.0.0.1:{port}/mcp"
        tasks.cancel_scope.cancel()


@LONG_ON_TRIO
async def test_a_secret_in_a_result_that_is_an_error_is_not_shown() -> None:
    async with McpTools(**stdio(env={"KEY": SECRET})) as server:
        with pytest.raises(ToolError, match=r"wrong key \[secret\]"):
            await call(server, "tell_secret", {"name": "KEY"})
        with pytest.raises(ToolError, match=r"refused with \[secret\]") as caught:
            await call(server, "refuse", {"name": "KEY"})
        assert SECRET not in shown(caught.value)
        assert SECRET not in repr(server)
        assert SECRET not in repr(await server.tools())


def shown(error: BaseException) -> str:
    """Return all that a traceback of an error would show."""
    text, link = "", error
    while link is not None:
        text += f"{link!s} {link!r} {vars(link)}"
        link = link.__cause__ or link.__context__  # type: ignore[assignment]
    return text


@LONG_ON_TRIO
async def test_the_program_gets_few_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMCORE_TEST_KEY", "not for servers")
    async with McpTools(**stdio(env={"GIVEN": "1"}, cwd=tmp_path)) as server:
        names = set((await call(server, "variables")).split())
        assert {"GIVEN", "PATH"} <= names
        assert "STREAMCORE_TEST_KEY" not in names
        assert await call(server, "folder") == str(tmp_path)


# -- the end ---------------------------------------------------------------------------------------------------------


@LONG_ON_TRIO
async def test_closing_ends_the_process_and_a_call_that_runs(tmp_path: Path) -> None:
    file = tmp_path / "state"
    server = McpTools(**stdio())
    tools = await by_name(server)
    pid = await run(tools["pid"])

    async def waits() -> None:
        with pytest.raises(ToolServerError, match=r"was closed by McpTools.aclose or by the end of the event loop"):
            await run(tools["wait"], {"file": str(file)})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waits)
        await eventually(lambda: begun(file, "begun"), "the call begins")
        await server.aclose()
    assert not runs(pid)
    await server.aclose()
    assert await run(tools["pid"]) != pid  # the next use starts it again
    await aclose_providers()


@EACH_KIND
async def test_closing_during_many_calls_is_quiet(
    settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = McpTools(**settings)
    tools = await by_name(server)
    closing = anyio.Event()

    async def waits(file: Path) -> None:
        with pytest.raises(ToolServerError, match=r"was closed by McpTools.aclose"):
            await run(tools["wait"], {"file": str(file)})

    async def reports() -> None:
        with suppress(ToolServerError):
            while not closing.is_set():
                await run(tools["slow"], {"steps": 50})

    files = [tmp_path / str(number) for number in range(3)]
    async with anyio.create_task_group() as tasks:
        for file in files:
            tasks.start_soon(waits, file)
            tasks.start_soon(reports)
        await eventually(lambda: all(begun(file, "begun") for file in files), "the calls begin")
        closing.set()
        await server.aclose()
    assert [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


@LONG_ON_TRIO
async def test_aclose_providers_closes_servers() -> None:
    server = McpTools(**stdio())
    pid = await call(server, "pid")
    await aclose_providers()
    assert not runs(pid)


def tasks() -> int:
    """Return how many tasks run on asyncio; 0 on trio."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0


@LONG_ON_TRIO
async def test_a_dropped_server_is_closed() -> None:
    before = tasks()
    server = McpTools(**stdio())
    pid = await call(server, "pid")
    del server
    gc.collect()
    await eventually(lambda: not runs(pid), "the process ends")
    await eventually(lambda: tasks() <= before, "its tasks end, too")


@pytest.mark.long
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("during_a_call", [False, True], ids=["idle", "during a call"])
def test_the_end_of_the_loop_ends_the_process(backend: str, during_a_call: bool, tmp_path: Path) -> None:
    """One object serves several loops, one after the other."""
    server = McpTools(**stdio())
    file = tmp_path / "state"
    pids: list[str] = []

    async def main() -> None:
        tools = await by_name(server)
        pids.append(await run(tools["pid"]))
        if during_a_call:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run, tools["wait"], {"file": str(file)})
                await eventually(lambda: begun(file, "begun"), "the call begins")
                tasks.cancel_scope.cancel()

    for _ in range(2):
        anyio.run(main, backend=backend)
        file.unlink(missing_ok=True)
    assert len(set(pids)) == 2
    assert not [pid for pid in pids if runs(pid)]


def test_a_task_that_is_left_behind_does_not_keep_the_process(tmp_path: Path) -> None:
    server = McpTools(**stdio())
    file = tmp_path / "state"
    pids: list[str] = []

    async def main() -> None:
        tools = await by_name(server)
        pids.append(await run(tools["pid"]))
        left = asyncio.create_task(run(tools["wait"], {"file": str(file)}))
        await eventually(lambda: begun(file, "begun"), "the call begins")
        assert not left.done()

    asyncio.run(main())
    assert not runs(pids[0])


@pytest.mark.long
@pytest.mark.parametrize("kind", ["http", "http-legacy"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_socket_is_left(kind: str, backend: str, request: pytest.FixtureRequest) -> None:
    """Warnings of sockets that are left are errors."""
    url = request.getfixturevalue(kind.replace("-", "_")).url

    async def main() -> None:
        assert await call(McpTools(url=url, timeout=SLOW), "add", {"a": 1, "b": 2}) == "3"

    anyio.run(main, backend=backend)
    gc.collect()


# -- names and settings ----------------------------------------------------------------------------------------------


@LONG_ON_TRIO
async def test_tools_are_chosen_and_renamed() -> None:
    server = McpTools(**stdio(include=["p*", "add"], exclude=["point*"], prefix="x_", needs_approval=["pi*"]))
    async with server:
        tools = await by_name(server)
        assert list(tools) == ["x_add", "x_pid", "x_picture"]
        assert [tool.needs_approval for tool in tools.values()] == [False, True, True]
        assert await run(tools["x_add"], {"a": 1, "b": 2}) == "3"
    missing = McpTools(**stdio(include=["nothing"]))
    async with missing:
        with pytest.raises(ConfigError, match=r"has 'nothing', which the server does not have; it has: 'add', 'pid'"):
            await missing.tools()
    asked: list[tuple[str, Any]] = []

    def decide(name: str, arguments: Mapping[str, Any]) -> bool:
        asked.append((name, arguments))
        return True

    async with McpTools(**stdio(include=["add"], needs_approval=decide)) as decided:
        approval = (await decided.tools())[0].needs_approval
        assert callable(approval)
        assert approval({"a": 1})
        assert asked == [("add", {"a": 1})]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"command": ["uvx", "mcp-server-time", "--utc"]}, "mcp-server-time"),
        ({"command": ["uv", "run", "--quiet", "server.py"]}, "server"),
        ({"command": ["npx", "-y", "@scope/files@1.2"]}, "files@1"),
        ({"command": ["/usr/bin/my-server"]}, "my-server"),
        ({"command": [sys.executable, "-m", "mcp_server_time"]}, "mcp_server_time"),
        ({"url": "https://mcp.example.com/sse?key=1"}, "mcp_example_com"),
        ({"url": "https://mcp.example.com", "name": "my files"}, "my_files"),
    ],
)
def test_the_name(settings: dict[str, Any], name: str) -> None:
    assert McpTools(**settings).name == name.replace("@", "_")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "either command= .* or url="),
        ({"command": ["a"], "url": "http://a"}, "either command= .* or url="),
        ({"command": "a b"}, "list of the program and its arguments"),
        ({"command": []}, "list of the program and its arguments"),
        ({"command": ["a", 1]}, "list of the program and its arguments"),
        ({"url": "ftp://a"}, "must begin with http:// or https://"),
        ({"url": "http://"}, "must begin with http:// or https://"),
        ({"command": ["a"], "headers": {"a": "b"}}, "headers= of McpTools is for a server with url="),
        ({"url": "http://a", "env": {"a": "b"}}, "env= and cwd= of McpTools are for a server with command="),
        ({"url": "http://a", "cwd": "."}, "env= and cwd= of McpTools are for a server with command="),
        ({"command": ["a"], "env": {"PORT": 1}}, "the value of 'PORT' is not one"),
        ({"command": ["a"], "timeout": 0}, "a number of seconds above 0, not 0"),
        ({"command": ["a"], "timeout": True}, "a number of seconds above 0, not True"),
        ({"command": ["a"], "include": "add"}, r"include= of McpTools is a list of names of tools, as in \['add'\]"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        McpTools(**settings)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ConfigError, match=r"needs the package 'mcp', which is not installed; run: .*\[mcp\]"):
        McpTools(command=["a"])


# -- a server that was not written here ------------------------------------------------------------------------------


@LONG_ON_TRIO
async def test_the_time_server_of_the_registry() -> None:
    command = [sys.executable, "-m", "mcp_server_time", "--local-timezone", "Europe/Paris"]
    async with McpTools(command=command, timeout=SLOW) as server:
        tools = await by_name(server)
        assert set(tools) == {"get_current_time", "convert_time"}
        arguments = {"source_timezone": "Europe/Paris", "time": "16:30", "target_timezone": "Asia/Tokyo"}
        assert '"timezone": "Asia/Tokyo"' in await run(tools["convert_time"], arguments)
        with pytest.raises(ToolError, match="Atlantis"):
            await run(tools["get_current_time"], {"timezone": "Atlantis/Poseidonis"})
