"""Run the pytest plugin as another project would: with anyio's plugin and pytest-asyncio, replaying and recording."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import httpx2
import pytest

from streamcore import execute_prompt_async, get_provider
from streamcore.testing import Recording, Simulator, record
from tests.support import KEY

pytest_plugins = ["pytester"]

PROMPT = "user: Say hello to {name}."
TEST = """
import pytest
from streamcore import execute_prompt_async

MARKS

@pytest.mark.recording("recorded/greet.yaml")
async def test_greets():
    text = await execute_prompt_async("greet", {"name": "Ada"}, provider="openai", prompts_dir="prompts")
    assert text == "Good morning, Ada."
"""
ANYIO = (
    "pytestmark = pytest.mark.anyio\n@pytest.fixture(params=['asyncio', 'trio'])\ndef anyio_backend(request):\n"
    "    return request.param"
)
ASYNCIO = "pytestmark = pytest.mark.asyncio"
KINDS = [
    (ANYIO, "asyncio", 2),
    pytest.param(ANYIO, "no:asyncio", 2, marks=pytest.mark.long),
    pytest.param(ASYNCIO, "no:anyio", 1, marks=pytest.mark.long),
]
UNUSED = [
    part for name in ("xdist", "xdist.looponfail", "hypothesispytest", "timeout") for part in ("-p", f"no:{name}")
]
"""Plugins whose import takes longer than most of these tests."""
INI = "[pytest]\nfilterwarnings = error\naddopts = --strict-markers\nasyncio_default_fixture_loop_scope = function\n"


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return an empty project with a prompt, where nothing of ours is but the installed package."""
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    prompts = pytester.mkdir("prompts")
    (prompts / "greet.yaml").write_text(PROMPT, "utf-8")
    pytester.path.joinpath("pytest.ini").write_text(INI, "utf-8")
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run the project's tests in a separate process; no key may show."""
    result = project.runpytest_subprocess("-p", "no:cacheprovider", *UNUSED, *arguments)
    assert KEY not in result.stdout.str() + result.stderr.str()
    return result


def aim(monkeypatch: pytest.MonkeyPatch, simulator: Simulator) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url("openai"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.mark.parametrize(("marks", "plugin", "count"), KINDS)
def test_record_then_replay_without_a_key(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, marks: str, plugin: str, count: int
) -> None:
    project.makepyfile(test_greet=TEST.replace("MARKS", marks))
    if plugin == "no:asyncio":
        project.path.joinpath("pytest.ini").write_text(INI.partition("asyncio_")[0], "utf-8")
    with monkeypatch.context() as patch, Simulator("Good morning, Ada.") as simulator:
        aim(patch, simulator)
        result = run(project, "-p", plugin, "--record")
        result.assert_outcomes(passed=count)
        result.stdout.fnmatch_lines(["*= recordings made =*", "*recorded/greet.yaml"])
        assert len(simulator.requests) == count
    path = project.path / "recorded" / "greet.yaml"
    assert KEY not in path.read_text("utf-8")
    assert Recording.load(path).provider == "openai"
    result = run(project, "-p", plugin)  # the simulator has ended, and with it the address that was recorded
    result.assert_outcomes(passed=count)
    result.stdout.no_fnmatch_line("*recordings made*")


def recorded(project: pytest.Pytester, answer: str = "Good morning, Ada.") -> Path:
    """Put the test and its recording into the project."""
    project.makepyfile(test_greet=TEST.replace("MARKS", ASYNCIO))
    path = project.path / "recorded" / "greet.yaml"

    async def ask(base_url: str) -> None:
        recorder = record(httpx2.AsyncHTTPTransport(), provider="openai")
        async with httpx2.AsyncClient(transport=recorder) as http:
            provider = get_provider("openai", api_key=KEY, base_url=base_url, http_client=http)
            await execute_prompt_async("greet", {"name": "Ada"}, provider=provider, prompts_dir="prompts")
        recorder.recording.save(path)

    with Simulator(answer) as simulator:
        asyncio.run(ask(simulator.base_url("openai")))
    return path


def test_without_a_recording_it_says_how_to_make_one(project: pytest.Pytester) -> None:
    project.makepyfile(test_greet=TEST.replace("MARKS", ASYNCIO))
    result = run(project)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*there is no recording *recorded/greet.yaml; to make it, *",
        ]
    )
    assert "pytest --record 'test_greet.py::test_greets'" in result.stdout.str()


def test_a_changed_prompt_shows_the_difference(project: pytest.Pytester) -> None:
    recorded(project)
    (project.path / "prompts" / "greet.yaml").write_text("user: Greet {name}.", "utf-8")
    result = run(project)
    result.assert_outcomes(failed=1)
    assert "messages[0].content is 'Greet Ada.', recorded is 'Say hello to Ada.'" in result.stdout.str()


SWALLOWS = """
import pytest
from streamcore import StreamcoreError, execute_prompt_async

async def ask():
    try:
        return await execute_prompt_async("greet", {"name": "Bob"}, provider="openai", prompts_dir="prompts")
    except StreamcoreError as error:
        return "sorry"

@pytest.mark.anyio
@pytest.mark.recording(path="recorded/greet.yaml", pace=0)
async def test_hidden(anyio_backend_name):
    assert await ask() == "sorry"

@pytest.mark.anyio
@pytest.mark.recording("recorded/greet.yaml")
async def test_expected(recording, anyio_backend_name):
    assert await ask() == "sorry"
    assert "is 'Say hello to Bob.'" in str(recording.unrecorded.pop())

@pytest.mark.recording("recorded/greet.yaml", speed=3)
def test_marker():
    pass
"""


def test_a_request_that_is_not_recorded_fails_the_test_even_if_its_code_hides_the_error(
    project: pytest.Pytester,
) -> None:
    recorded(project)
    project.makepyfile(test_hides=SWALLOWS)
    result = run(project, "-k", "(hidden or expected) and asyncio or test_marker")
    result.assert_outcomes(passed=2, errors=2)
    output = result.stdout.str()
    assert "content is 'Say hello to Bob.', recorded is 'Say hello to Ada.'" in output
    assert "pace=0); the marker got an unexpected keyword argument 'speed'" in output


@pytest.mark.long
def test_a_test_that_fails_keeps_the_old_recording(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recorded(project)
    before = path.read_bytes()
    with monkeypatch.context() as patch, Simulator("Something worse.") as simulator:
        aim(patch, simulator)
        run(project, "--record").assert_outcomes(failed=1)
    assert path.read_bytes() == before


@pytest.mark.long
def test_tests_that_share_a_file_add_to_it(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    greets = TEST.replace("MARKS", ANYIO)
    more = (
        greets[greets.index("@pytest.mark.recording") :].replace("test_greets", "test_more").replace('"Ada"}', '"Bob"}')
    )
    project.makepyfile(test_greet=greets + more)
    with monkeypatch.context() as patch, Simulator("Good morning, Ada.") as simulator:
        aim(patch, simulator)
        run(project, "--record").assert_outcomes(passed=4)
    exchanges = Recording.load(project.path / "recorded" / "greet.yaml").exchanges
    asked = [exchange.request.body["messages"][-1]["content"] for exchange in exchanges]
    assert asked == ["Say hello to Ada.", "Say hello to Bob."]
    run(project).assert_outcomes(passed=4)


@pytest.mark.long
def test_workers_that_share_a_file_add_to_it(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    greets = TEST.replace("MARKS", ANYIO)
    name = '@pytest.mark.parametrize("name", ["Ada", "Bob", "Cyd", "Dot"])\nasync def test_greets(name)'
    project.makepyfile(
        test_greet=greets.replace("async def test_greets()", name).replace('"name": "Ada"', '"name": name')
    )
    with monkeypatch.context() as patch, Simulator("Good morning, Ada.") as simulator:
        aim(patch, simulator)
        result = project.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:timeout", "-n", "2", "--record")
        result.assert_outcomes(passed=8)
    exchanges = Recording.load(project.path / "recorded" / "greet.yaml").exchanges
    asked = {exchange.request.body["messages"][-1]["content"] for exchange in exchanges}
    assert asked == {f"Say hello to {name}." for name in ("Ada", "Bob", "Cyd", "Dot")}


@pytest.mark.long
def test_the_fixture_reports_what_is_played(project: pytest.Pytester) -> None:
    recorded(project)
    project.makepyfile(
        test_more="""
        import asyncio, os, socket, pytest
        from streamcore.sync import execute_prompt_async

        @pytest.mark.recording("recorded/greet.yaml", pace="recorded")
        def test_sync(recording):
            assert not recording.making
            assert len(recording.unplayed) == len(recording.recording.exchanges) == 1
            assert execute_prompt_async("greet", {"name": "Ada"}, provider="openai", prompts_dir="prompts")
            assert recording.unplayed == ()
            assert os.environ["OPENAI_API_KEY"] == "replayed-no-key"

        def test_no_marker(recording):
            pass

        def test_after():
            assert "OPENAI_API_KEY" not in os.environ
        """
    )
    result = run(project, "test_more.py")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*the fixture `recording` needs a file*"])


@pytest.mark.long
def test_the_network_is_blocked_where_a_fixture_is_used(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import socket, httpx2, pytest
        from streamcore import ConnectionFailed, Message, Request, get_provider, stream_request

        def reaches(host, port):
            with socket.socket() as client:
                client.settimeout(60)
                client.connect((host, port))

        def test_blocked(simulator):
            with pytest.raises(OSError, match="may not reach 'api.openai.com'"):
                socket.getaddrinfo("api.openai.com", 443)
            with pytest.raises(OSError, match=r"may not reach \\('192.0.2.1', 443\\)"):
                reaches("192.0.2.1", 443)
            reaches("127.0.0.1", simulator.port)

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
        async def test_providers_are_blocked(simulator, anyio_backend):
            ask = Request([Message("user", "Hi")])
            with pytest.raises(ConnectionFailed, match="may not reach"):
                await stream_request(ask, provider=get_provider("openai", api_key="k"), max_retries=0).collect()
            here = get_provider("openai", api_key="k", base_url=simulator.base_url("openai"))
            assert "No model was called" in (await stream_request(ask, provider=here).collect()).text

        def test_unused():
            assert "guarded" not in repr(socket.socket.connect)
        """
    )
    run(project).assert_outcomes(passed=4)


def test_unused_it_imports_nothing_and_changes_nothing(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import sys

        def test_nothing_is_loaded(request):
            assert "pytest_streamcore" in sys.modules
            assert not [name for name in sys.modules if name.partition(".")[0] in ("streamcore", "httpx2", "yaml")]
            assert not [name for name in request.fixturenames if "streamcore" in name or name == "recording"]
        """
    )
    run(project, "-p", "no:anyio", "-p", "no:pytest_httpx2").assert_outcomes(passed=1)


@pytest.mark.long
def test_requests_go_over_httpx2_by_default(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMCORE_AUTO_TRANSPORT", raising=False)
    project.makepyfile(
        """
        import pytest
        from streamcore import Message, Request, get_provider, stream_request

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        @pytest.mark.parametrize("transport", [None, "auto"])
        async def test_mocks_see_it(httpx2_mock, transport, anyio_backend):
            httpx2_mock.post("https://api.openai.com/v1/chat/completions").respond(418)
            provider = get_provider("openai", api_key="k" * 20, model="m", transport=transport)
            with pytest.raises(Exception, match="418"):
                await stream_request(Request([Message("user", "Hi")]), provider=provider).collect()
        """
    )
    project.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=2)
    assert "STREAMCORE_AUTO_TRANSPORT" not in os.environ


def test_own_fixtures_of_the_same_name_win(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.fixture
        def recording():
            return "mine"

        def test_mine(recording):
            assert recording == "mine"
        """
    )
    run(project, "--record").assert_outcomes(passed=1)


@pytest.mark.long
def test_help_and_markers_name_the_plugin(project: pytest.Pytester) -> None:
    assert re.search(r"--record +make or refresh the recordings", run(project, "--help").stdout.str())
    run(project, "--markers").stdout.fnmatch_lines(["@pytest.mark.recording(path, pace=0): answer every request*"])
    # pytest sorts fixtures by the text of their line numbers.
    run(project, "--fixtures").stdout.fnmatch_lines_random(["recording -- *", "simulator -- *", "fault_server -- *"])


def test_fault_servers_end_with_the_test(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from streamcore import Message, Request, StreamInterrupted, get_provider, stream_request

        servers = []

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
        async def test_fault(fault_server, anyio_backend):
            for fault in ("reset-mid-stream", "end-without-mark"):
                servers.append(fault_server(fault))
                provider = get_provider("openai", api_key="k", base_url=servers[-1].url + "/v1")
                with pytest.raises(StreamInterrupted) as caught:
                    await stream_request(Request([Message("user", "Hi")]), provider=provider, max_retries=0).collect()
                assert caught.value.partial.text

        def test_after():
            import socket
            assert len(servers) == 4
            for server in servers:
                with pytest.raises(OSError):
                    socket.create_connection(("127.0.0.1", server.port), timeout=60)
        """
    )
    run(project).assert_outcomes(passed=3)
