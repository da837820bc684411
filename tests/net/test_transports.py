"""Test how the transport of a provider is chosen, and that aiohttp gives the same results as httpx2."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import tomllib
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from streamcore import (
    ConfigError,
    ConnectionFailed,
    ProviderNotInstalled,
    StreamInterrupted,
    StreamTimeout,
    execute_prompt_async,
    execute_prompt_streaming,
    get_provider,
    stream_graph_with_tokens,
    stream_request,
    sync,
)
from streamcore.fallback import Fallback
from streamcore.net.transports import (
    ABOVE_AIOHTTP,
    AUTO_VARIABLE,
    LOWEST_AIOHTTP,
    aiohttp_version,
    chosen_transport,
    transport_here,
)
from streamcore.testing import FaultServer, Simulator
from streamcore.testing.faults.fault_server import ANSWER
from streamcore.testing.faults.spoiled import END, begun, chunked, framed
from streamcore.testing.faults.steps import Hold, Pause, Send, Step
from streamcore.timeouts import Timeouts
from tests.graphs import write_graph
from tests.providers.test_settings import FORK, python, variable
from tests.serving import listen, serving
from tests.support import (
    GATEWAYS,
    KEY,
    VENDORS,
    ask,
    eventually,
    patient,
    provider_at,
    require,
    wait_until,
    wire_of,
)
from tests.wire.test_recordings import FEWEST, HANDFUL, RECORDINGS, SHARED
from tests.wire_adapter import PROVIDERS, pieces, read, summary

asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"])
TRANSPORTS = ("httpx2", "aiohttp")
ROOT = Path(__file__).resolve().parents[2]
NO_ID = {"x-request-id": ""}  # which an error would show, and a mocked vendor has none


@pytest.fixture(autouse=True)
def default_outside_of_tests(monkeypatch: pytest.MonkeyPatch, no_environment: None) -> None:
    """Restore the default of `auto`, which `no_environment` sets for the tests."""
    monkeypatch.delenv(AUTO_VARIABLE)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the address of every request over aiohttp."""
    from streamcore.net.aiohttp_client import AiohttpTransport

    urls: list[str] = []
    send = AiohttpTransport.handle_async_request

    async def noted(self: AiohttpTransport, request: httpx2.Request) -> httpx2.Response:
        urls.append(str(request.url))
        return await send(self, request)

    monkeypatch.setattr(AiohttpTransport, "handle_async_request", noted)
    return urls


def at(name: str, url: str, **settings: Any) -> Any:
    """Return a provider that sends over aiohttp to a server without a path."""
    path = "" if name in ("anthropic", "mistral") else "/v1"
    return get_provider(name, api_key=KEY, model="m", base_url=url + path, transport="aiohttp", **settings)


# Choosing


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("name", [*VENDORS, *GATEWAYS])
async def test_every_provider_sends_over_the_transport_that_is_requested(
    name: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    monkeypatch.setenv(variable(name, "BASE_URL"), simulator.base_url(name))
    monkeypatch.setenv(variable(name, "API_KEY"), KEY)
    request = ask(model="m")
    assert (await stream_request(request, provider=name).collect()).complete
    assert (await stream_request(request, provider=get_provider(name, transport="aiohttp")).collect()).complete
    assert (await stream_request(request, provider=name, transport="auto").collect()).complete
    assert len(sent) == 3
    assert (await stream_request(request, provider=name, transport="httpx2").collect()).complete
    monkeypatch.setenv("STREAMCORE_TRANSPORT", "httpx2")
    assert (await stream_request(request, provider=name).collect()).complete
    assert len(sent) == 3
    assert (await stream_request(request, provider=name, transport="aiohttp").collect()).complete
    assert len(sent) == 4
    assert simulator.connections == 2  # one for each transport


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("name", ["anthropic", "openai", "openai-responses"])
async def test_the_default_under_trio_is_httpx2(name: str, simulator: Simulator, sent: list[str]) -> None:
    assert (await stream_request(ask(), provider=provider_at(simulator, name)).collect()).complete
    assert (await stream_request(ask(), provider=provider_at(simulator, name, transport="auto")).collect()).complete
    assert sent == []


@pytest.mark.parametrize(
    ("version", "transport"),
    [
        (None, "httpx2"),
        ("3.14.3", "httpx2"),
        ("3.9", "httpx2"),
        ("3.14.4", "aiohttp"),
        ("3.99.0", "aiohttp"),
        ("4.0.0", "httpx2"),
        ("unknown", "httpx2"),
    ],
)
def test_auto_needs_a_supported_aiohttp(version: str | None, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamcore.net.transports.aiohttp_version", lambda: version)
    assert transport_here(chosen_transport(None)) == transport
    if transport == "httpx2":
        with pytest.raises(ProviderNotInstalled, match=re.escape(".[aiohttp]")):
            chosen_transport("aiohttp")


def test_the_supported_versions_are_those_of_the_extra() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["aiohttp"]
    lowest, above = (".".join(map(str, numbers)) for numbers in (LOWEST_AIOHTTP, ABOVE_AIOHTTP))
    assert extra == [f"aiohttp>={lowest},<{above}"]
    assert aiohttp_version() == metadata.version("aiohttp")


@pytest.mark.parametrize(
    ("proxy", "transport"),
    [
        ("http://127.0.0.1:9", "aiohttp"),
        ("https://127.0.0.1:9", "aiohttp"),
        ("127.0.0.1:9", "aiohttp"),
        ("socks5://127.0.0.1:9", "httpx2"),
        ("socks5h://127.0.0.1:9", "httpx2"),
    ],
)
@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_auto_is_httpx2_with_a_proxy_that_aiohttp_does_not_support(
    name: str, proxy: str, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, proxy)
    assert transport_here("auto") == transport


def test_auto_is_httpx2_where_the_pytest_plugin_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMCORE_AUTO_TRANSPORT", "httpx2")
    assert transport_here(chosen_transport(None)) == transport_here("auto") == "httpx2"
    assert transport_here("aiohttp") == "aiohttp"


@pytest.mark.parametrize("name", [*VENDORS, "groq"])
def test_an_unknown_transport_is_an_error_that_says_where_it_was_set(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"transport= must be one of 'auto', 'httpx2', 'aiohttp', not 'requests'"):
        get_provider(name, api_key=KEY, transport="requests")
    monkeypatch.setenv("STREAMCORE_TRANSPORT", "requests")
    with pytest.raises(
        ConfigError, match=r"STREAMCORE_TRANSPORT must be one of 'auto', 'httpx2', 'aiohttp', not 'requests'"
    ):
        get_provider(name, api_key=KEY)


@pytest.mark.parametrize("name", VENDORS)
def test_a_missing_aiohttp_is_an_error_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamcore.net.transports.aiohttp_version", lambda: None)
    get_provider(name, api_key=KEY)
    with pytest.raises(ProviderNotInstalled, match=re.escape('pip install -e ".[aiohttp]"')):
        get_provider(name, api_key=KEY, transport="aiohttp")


@pytest.mark.parametrize("name", VENDORS)
def test_a_given_client_has_its_own_transport(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = httpx2.AsyncClient()
    with pytest.raises(ConfigError, match="give one of them"):
        get_provider(name, api_key=KEY, http_client=client, transport="httpx2")
    monkeypatch.setenv("STREAMCORE_TRANSPORT", "aiohttp")
    get_provider(name, api_key=KEY, http_client=client)


@pytest.mark.anyio
async def test_a_ready_provider_has_its_own_transport() -> None:
    with pytest.raises(ConfigError, match="give transport='aiohttp' to get_provider"):
        await stream_request(ask(), provider=get_provider("demo"), transport="aiohttp").collect()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("name", ["anthropic", "openai", "openai-responses"])
async def test_aiohttp_under_trio_says_what_to_do(name: str, simulator: Simulator) -> None:
    with pytest.raises(ConfigError, match="asyncio only; under trio, use 'auto' or 'httpx2'"):
        await stream_request(ask(), provider=provider_at(simulator, name, transport="aiohttp")).collect()
    assert simulator.requests == []


@pytest.fixture
def graph_path(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Point the provider `openai` to the simulator, and write a prompt and a graph."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url("openai"))
    monkeypatch.setenv("STREAMCORE_PROMPTS_DIR", str(tmp_path / "prompts"))
    return write_graph(
        tmp_path,
        """
        state: {message: str}
        nodes:
          say: {type: llm, prompt: say, state_key: said, provider: openai}
        edges:
          - {from: START, to: say}
          - {from: say, to: END}
        """,
        say="Say {message}",
    )


@pytest.mark.anyio
@asyncio_only
async def test_every_function_accepts_a_transport(graph_path: Path, sent: list[str]) -> None:
    given: dict[str, Any] = {"provider": "openai", "transport": "aiohttp"}
    assert [text async for text in execute_prompt_streaming("say", {"message": "a"}, **given)]
    assert await execute_prompt_async("say", {"message": "a"}, **given)
    assert len(sent) == 2
    config = {"transport": "aiohttp"}
    assert [event async for event in stream_graph_with_tokens(graph_path, {"message": "a"}, config)]
    assert len(sent) == 3


@pytest.mark.anyio
@asyncio_only
async def test_a_fallback_uses_the_same_transport(
    graph_path: Path, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer("server-error") as failing:
        monkeypatch.setenv("GROQ_API_KEY", KEY)
        monkeypatch.setenv("GROQ_BASE_URL", failing.url + "/v1")
        fallback: list[Fallback] = ["openai", {"provider": "openai", "transport": "httpx2"}, "demo"]
        stream = stream_request(ask(), provider="groq", fallback=fallback, max_retries=0, transport="aiohttp")
        answer = await stream.collect()
    assert [attempt.provider for attempt in answer.attempts] == ["groq", "openai"]
    assert len(sent) == 2


def test_without_a_loop_too(graph_path: Path, sent: list[str]) -> None:
    assert list(sync.execute_prompt_streaming("say", {"message": "a"}, provider="openai", transport="aiohttp"))
    assert len(sent) == 1


@pytest.mark.parametrize("target", ["prompt", "graph"])
def test_a_service_uses_its_transport(target: str, graph_path: Path, sent: list[str]) -> None:
    from streamcore.web import create_app

    what = graph_path if target == "graph" else graph_path.parent / "prompts" / "say.yaml"
    with serving(create_app(what, provider="openai", transport="aiohttp")) as url:
        assert listen(url, "/stream?prompt=hello&format=json")[-1].name != "stream-error"
    assert len(sent) == 1
    with pytest.raises(ConfigError, match="not 'requests'"):
        create_app(what, transport="requests")


# What comes


async def over_aiohttp(wire: str, bodies: list[bytes]) -> list[dict[str, Any]]:
    """Serve bodies over TCP in odd pieces, and return how each was read over aiohttp."""
    plays: list[list[Step]] = [
        [*(Send(part) for part in (chunked(**NO_ID), *map(framed, pieces(body)), END))] for body in bodies
    ]
    found: list[dict[str, Any]] = []
    with FaultServer(*plays, wire=wire) as server:
        provider = at(PROVIDERS[wire], server.url)
        for body in bodies:
            stream = stream_request(ask(model="recorded"), provider=provider, max_retries=0)
            try:
                found.append(summary(await stream.collect(), body))
            except Exception as error:  # noqa: BLE001  compared below
                partial = summary(stream.partial)
                found.append(partial | {"error": f"{type(error).__name__}: {error}", "partial": partial})
    return found


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("wire", PROVIDERS)
async def test_a_recording_is_read_as_over_httpx2(wire: str) -> None:
    bodies = [(RECORDINGS / f"{name}.sse").read_bytes() for name, of in HANDFUL.items() if of == PROVIDERS[wire]]
    assert bodies
    assert await over_aiohttp(wire, bodies) == [await read(wire, body) for body in bodies]


@pytest.mark.real
@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("wire", PROVIDERS)
async def test_every_real_recording_is_read_as_over_httpx2(wire: str) -> None:
    corpus = SHARED / "wire" / ("vendors" if wire == "gemini" else "recordings") / wire
    require(corpus.exists(), "the corpus of recordings is not next to the checkout")
    bodies = [path.read_bytes() for path in sorted(corpus.glob("*.sse"))]
    assert len(bodies) >= FEWEST[wire]
    assert await over_aiohttp(wire, bodies) == [await read(wire, body) for body in bodies]


# How it ends


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("name", VENDORS)
async def test_bytes_before_a_cut_are_yielded_also_to_a_late_reader(name: str) -> None:
    first, *rest = (framed(event) for event in begun(wire_of(name), ANSWER))
    with FaultServer([Send(chunked()), Send(first), Send(b"".join(rest))], wire=wire_of(name)) as server:
        stream = stream_request(ask(), provider=at(name, server.url), max_retries=0)
        await anext(stream)
        server.wait_until(lambda server: server.open == 0, "the answer was cut")  # the loop is blocked meanwhile
        with pytest.raises(StreamInterrupted) as caught:
            await stream.collect()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "".join(ANSWER.tokens[:2])


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nLink: x\r\n\r\n" * 2000])
async def test_text_before_a_broken_chunk_is_kept_also_behind_interim_responses(transport: str, interim: bytes) -> None:
    first, *rest = (framed(event) for event in begun("openai-chat", ANSWER))
    with FaultServer([Send(interim + chunked() + first + b"".join(rest) + b"no size\r\n")]) as server:
        provider = get_provider("openai", model="m", api_key=KEY, base_url=f"{server.url}/v1", transport=transport)
        with pytest.raises(StreamInterrupted) as caught:
            await stream_request(ask(), provider=provider, max_retries=0).collect()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "".join(ANSWER.tokens[:2])


PATIENT = Timeouts(first_token=600.0, stall=600.0, silence=600.0, total=600.0)
"""Timeouts that a thousand streams keep on a busy machine, too."""


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("name", "streams"),
    [
        pytest.param("openai", 1100, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
        ("anthropic", 150),
        ("mistral", 150),
    ],
)
async def test_the_requested_number_of_streams_can_be_open_at_once(name: str, streams: int, transport: str) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    require(hard > 2 * streams + 200, f"this system allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * streams + 200), hard))
    begin: list[Step] = [Send(chunked(*begun(wire_of(name), ANSWER))), Hold()]
    came, all_came = 0, anyio.Event()

    async def one(provider: Any) -> None:
        nonlocal came
        async with stream_request(ask(), provider=provider, max_retries=0, timeouts=PATIENT) as stream:
            async for chunk in stream:
                came += chunk.text == ANSWER.tokens[1]
                if came == streams:
                    all_came.set()

    with FaultServer(begin, wire=wire_of(name)) as server:
        path = "" if name in ("anthropic", "mistral") else "/v1"
        provider = get_provider(name, api_key=KEY, model="m", base_url=server.url + path, transport=transport)
        async with anyio.create_task_group() as tasks:
            for _ in range(streams):
                tasks.start_soon(one, provider)
            with anyio.fail_after(PATIENT.total):
                await all_came.wait()
            await eventually(lambda: server.open == streams, "the server counts every connection")
            tasks.cancel_scope.cancel()
        server.wait_until(lambda server: server.open == 0, "all connections were closed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("name", VENDORS)
async def test_cancelling_before_the_answer_closes_the_connection(name: str) -> None:
    with FaultServer("mute") as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream_request(ask(), provider=at(name, server.url)).collect)
            await eventually(lambda: server.requests, "the request was sent")
            tasks.cancel_scope.cancel()
        server.wait_until(lambda server: server.open == 0, "the connection was closed")


@pytest.mark.anyio
@asyncio_only
@patient
async def test_cancelling_closes_a_connection_that_reads_no_more_of_the_request(pace: float) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(1)  # before this, the connection was made
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        stream = stream_request(ask("x" * 20_000_000), provider=at("openai", url), timeouts={"total": 0.5 * pace})
        with pytest.raises(StreamTimeout):
            await stream.collect()
        accepted, _ = listening.accept()
        with accepted, suppress(ConnectionResetError):
            accepted.settimeout(60)
            size = 0
            while data := accepted.recv(1 << 20):
                size += len(data)
            assert size < 20_000_000


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("name", VENDORS)
async def test_a_header_that_cannot_be_sent_is_the_callers_error(name: str, simulator: Simulator) -> None:
    provider = provider_at(simulator, name, api_key="sk-new\nline", transport="aiohttp")
    with pytest.raises(ConfigError, match="control characters") as caught:
        await stream_request(ask(), provider=provider).collect()
    assert "sk-new" not in str(caught.value)
    assert simulator.requests == []


@pytest.mark.anyio
@asyncio_only
async def test_an_untrusted_certificate_is_not_retried(self_signed: ssl.SSLContext) -> None:
    with FaultServer("none", tls=self_signed) as server:
        with pytest.raises(ConnectionFailed, match=r"(?i)certificate") as caught:
            await stream_request(ask(), provider=at("openai", server.url)).collect()
        assert not caught.value.retryable
        assert server.requests == []


@pytest.mark.anyio
@asyncio_only
async def test_a_server_that_does_not_speak_tls_is_named_as_such() -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(2**16)  # all of it, so that the connection is closed and not reset
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        url = "https://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
        with pytest.raises(ConnectionFailed, match=r"the server closed the connection; does it speak TLS\?") as caught:
            await stream_request(ask(), provider=at("openai", url), max_retries=0).collect()
    assert "None" not in str(caught.value)


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("url", ["localhost:8000", "ftp://127.0.0.1", "http://127.0.0.1:port"])
async def test_an_invalid_base_url_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError):
        await stream_request(ask(), provider=at("openai", url), max_retries=0).collect()


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_proxy_of_the_environment_is_used(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer("none") as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        provider = get_provider("openai", api_key=KEY, model="m", base_url="http://far.invalid/v1", transport=transport)
        assert (await stream_request(ask(), provider=provider).collect()).text == "".join(ANSWER.tokens)
        assert proxy.requests[0].path == "http://far.invalid/v1/chat/completions"


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("name", [*VENDORS, "groq"])
async def test_reads_have_a_timeout_only_with_a_client_of_the_callers(
    name: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamcore.net.aiohttp_client import AiohttpTransport

    reads: list[float | None] = []

    def noting(send: Any) -> Any:
        async def noted(self: Any, request: httpx2.Request) -> httpx2.Response:
            reads.append(request.extensions["timeout"]["read"])
            response: httpx2.Response = await send(self, request)
            return response

        return noted

    for transport in (httpx2.AsyncHTTPTransport, AiohttpTransport):
        monkeypatch.setattr(transport, "handle_async_request", noting(transport.handle_async_request))
    for transport_name in TRANSPORTS:
        provider = provider_at(simulator, name, transport=transport_name)
        assert (await stream_request(ask(), provider=provider).collect()).complete
    async with httpx2.AsyncClient() as plain, httpx2.AsyncClient(timeout=7) as strict:
        for client in (plain, strict):
            provider = provider_at(simulator, name, http_client=client)
            assert (await stream_request(ask(), provider=provider).collect()).complete
    assert reads == [None, None, 600, 7]  # httpx2's own five seconds are not for models that think


@pytest.mark.anyio
@asyncio_only
@patient
async def test_the_read_timeout_of_a_client_counts_from_the_last_bytes(pace: float) -> None:
    from streamcore.net.aiohttp_client import AiohttpClient

    first, *rest = (framed(event) for event in begun("openai-chat", ANSWER))
    steps: list[Step] = [Send(chunked() + first)]
    for event in rest:
        steps += [Pause(0.3 * pace), Send(event)]
    with FaultServer([*steps, Hold()]) as server:
        async with AiohttpClient(timeout=0.5 * pace) as client:
            provider = get_provider("openai", api_key=KEY, model="m", base_url=f"{server.url}/v1", http_client=client)
            with pytest.raises(StreamTimeout, match="HTTP client's read timeout") as caught:
                await stream_request(ask(), provider=provider, max_retries=0).collect()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "".join(ANSWER.tokens[:2])


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("name", VENDORS)
async def test_a_proxy_that_aiohttp_does_not_support_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(ConfigError, match="a socks5 proxy; use transport='httpx2'"):
        await stream_request(ask(), provider=at(name, "http://far.invalid")).collect()


# Clients


@pytest.mark.parametrize("name", VENDORS)
def test_every_loop_closes_its_clients(name: str, simulator: Simulator) -> None:
    provider = provider_at(simulator, name, transport="aiohttp")

    async def run() -> None:
        for _ in range(3):
            assert (await stream_request(ask(), provider=provider).collect()).complete

    anyio.run(run)
    anyio.run(run)
    wait_until(lambda: not simulator.clients, "the connections were closed")
    assert simulator.connections == 2  # one a loop, used again


FORKS = [
    pytest.param(name, run, marks=[pytest.mark.long] if (name, run) != (VENDORS[0], "asyncio.run") else [])
    for name, run in (*((name, "asyncio.run") for name in VENDORS), ("openai", "uvloop.run"))
]


@pytest.mark.parametrize(("name", "run"), FORKS)
def test_a_fork_has_its_own_clients_and_does_not_close_its_parents(name: str, run: str, simulator: Simulator) -> None:
    require(hasattr(os, "fork"), "this system cannot fork")
    script = FORK.replace("asyncio.run(", f"{run}(").replace("import asyncio", f"import {run.removesuffix('.run')}")
    python(script.format(name=name, url=simulator.base_url(name)), STREAMCORE_TRANSPORT="aiohttp")
    assert len(simulator.requests) == 3
    assert simulator.connections == 2


def test_nothing_of_aiohttp_is_imported_for_httpx2(simulator: Simulator) -> None:
    python(
        f"""
        import asyncio, sys
        from streamcore import Message, Request, get_provider, stream_request

        provider = get_provider("mistral", api_key="k", model="m", base_url={simulator.base_url("mistral")!r})
        asyncio.run(stream_request(Request([Message("user", "Hi")]), provider=provider).collect())
        assert "aiohttp" not in sys.modules
        """,
        STREAMCORE_TRANSPORT="httpx2",
    )
