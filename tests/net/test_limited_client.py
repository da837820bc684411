"""Test what our HTTP clients refuse: long error bodies, redirects, and a client for every key without limit."""

from __future__ import annotations

import gzip
import subprocess
import sys
from typing import Any

import httpx2
import pytest

from streamcore import (
    BadRequestError,
    ConfigError,
    ProviderError,
    aclose_providers,
    get_provider,
    stream_request,
    warm_up,
)
from streamcore.concurrency.resources import open_resources
from streamcore.net import error_body
from streamcore.net.client_cache import CachedClient
from streamcore.net.error_body import ERROR_BYTES
from streamcore.net.limited_client import LimitedClient
from streamcore.net.transports import new_http_client
from streamcore.testing import FaultServer, Simulator
from streamcore.testing.faults.steps import Hold, Send
from tests.support import EVERY_RUN, KEY, ask, provider_at

pytestmark = pytest.mark.anyio
every_provider = pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)


def answer(body: bytes, *headers: str, status: str = "400 Bad") -> list[Any]:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return [Send("\r\n".join(lines).encode() + body)]


URL = "http://127.0.0.1:9/v1/chat?a=b"
PARTS: list[dict[str, Any]] = [
    {"timeout": 3.0},
    {"timeout": None, "content": b"{}", "headers": {"User-Agent": "x", "Accept": "text/event-stream"}},
    {
        "timeout": httpx2.Timeout(5.0, connect=1.0),
        "content": "\u00e4",
        "files": None,
        "params": None,
        "headers": [("Authorization", "Bearer k"), ("x-a", "1"), ("X-A", "2"), ("ACCEPT", "*/*")],
    },
    {"timeout": 3.0, "params": {}, "data": {}, "headers": httpx2.Headers({"Host": "other"})},
    {"timeout": 3.0, "headers": [(b"ACCEPT", b"*/*"), (b"x-a", b"\xe4")]},
    {"timeout": 3.0, "params": {"c": "d"}},
    {"timeout": 3.0, "json": {}},
    {"timeout": 3.0, "json": {"a": 1}, "cookies": {"c": "d"}},
    {"timeout": 3.0, "data": {"a": "b"}},
    {"timeout": 3.0, "content": b"", "extensions": {"sni_hostname": "x"}},
    {"content": b"{}"},
    {"timeout": httpx2.USE_CLIENT_DEFAULT, "content": b"{}"},
]


@pytest.mark.parametrize("parts", PARTS)
async def test_a_request_is_what_httpx2_makes_of_it(parts: dict[str, Any]) -> None:
    inner = new_http_client("httpx2", httpx2.AsyncClient)
    async with inner:
        inner.headers["X-Default"] = "1"
        limited = LimitedClient(inner, own=True)
        for method, url in (("POST", URL), ("post", httpx2.URL(URL)), ("GET", "http://h/"), ("POST", URL)):
            made, expected = (client.build_request(method, url, **parts) for client in (limited, inner))
            assert (made.method, made.url, made.content) == (expected.method, expected.url, expected.content)
            assert made.headers.raw == expected.headers.raw
            assert made.extensions == expected.extensions


async def test_a_request_has_what_the_callers_client_adds() -> None:
    async with httpx2.AsyncClient(base_url="http://h/v1", params={"a": "b"}, cookies={"c": "d"}) as inner:
        made = LimitedClient(inner).build_request("POST", "/chat", timeout=3.0)
    assert (str(made.url), made.headers["cookie"]) == ("http://h/v1/chat?a=b", "c=d")


@every_provider
async def test_an_error_body_is_read_up_to_a_limit_also_unpacked(name: str) -> None:
    body = b"x" * 20_000_000
    for steps in (answer(gzip.compress(body), "Content-Encoding: gzip"), answer(body[: 4 * ERROR_BYTES])):
        with FaultServer(steps) as server:
            provider = get_provider(name, api_key=KEY, base_url=server.url, model="m")
            with pytest.raises(BadRequestError) as caught:
                await stream_request(ask(), provider=provider, max_retries=0).collect()
        assert caught.value.body == "x" * ERROR_BYTES


@pytest.mark.long
@every_provider
@pytest.mark.parametrize("headers", [(), ("Content-Encoding: gzip",)], ids=["plain", "gzip"])
async def test_an_error_body_is_read_for_a_limited_time(
    name: str, headers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert error_body.ERROR_SECONDS == 5
    monkeypatch.setattr(error_body, "ERROR_SECONDS", 0.5)
    head = "\r\n".join(["HTTP/1.1 400 Bad", *headers, "Content-Length: 100000", "", ""]).encode()
    start = gzip.compress(b"no such model")[:-8] if headers else b"no such model"
    with FaultServer([Send(head + start), Hold()]) as server:  # the rest is never sent
        provider = get_provider(name, api_key=KEY, base_url=server.url, model="m")
        with pytest.raises(BadRequestError, match="no such model"):
            await stream_request(ask(), provider=provider, max_retries=0).collect()


@every_provider
async def test_a_deep_error_body_is_the_vendors_error(name: str) -> None:
    for depth in (200, 900, 20_000):
        body = b'{"error":{"message":' + b"[" * depth + b"]" * depth + b"}}"
        with FaultServer(answer(body, "Content-Type: application/json")) as server:
            provider = get_provider(name, api_key=KEY, base_url=server.url, model="m")
            with pytest.raises(BadRequestError):
                await stream_request(ask(), provider=provider, max_retries=0).collect()


@every_provider
async def test_a_redirect_is_an_error_that_names_the_host(name: str) -> None:
    with FaultServer("none") as other:
        location = f"Location: {other.url.replace('://', '://user:password@')}/path?secret=1"
        with FaultServer(answer(b"", location, status="307 Temporary Redirect")) as server:
            provider = get_provider(name, api_key=KEY, base_url=server.url, model="m")
            with pytest.raises(ProviderError, match=other.url.partition("://")[2]) as caught:
                await stream_request(ask(), provider=provider, max_retries=2).collect()
            assert len(server.requests) == 1
        assert not other.requests
        assert "password" not in str(caught.value)
        assert "secret=1" not in str(caught.value)


async def cached() -> list[CachedClient[object]]:
    clients = (await open_resources()).clients.values()
    return [kept for kept, _ in clients if isinstance(kept, CachedClient)]


@every_provider
async def test_clients_of_many_keys_are_few_and_share_connections(
    name: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMCORE_MAX_CLIENTS", "3")
    streaming = stream_request(ask(), provider=provider_at(simulator, name, api_key="key-of-the-first"))
    first = provider_at(simulator, name, api_key="key-of-the-second")
    async with streaming:
        assert await streaming.next_batch() is not None
        for number in range(10):
            provider = first if number in (0, 9) else provider_at(simulator, name, api_key=f"key-of-user-{number}")
            assert (await stream_request(ask(), provider=provider).collect()).complete
        kept = await cached()
        assert len(kept) == 3
        assert sum(one.http.streaming for one in kept) == 1  # the first is the oldest, and streams
        assert (await streaming.collect()).complete
    assert simulator.connections <= 2
    assert not any(one.http.streaming for one in await cached())
    await aclose_providers()


@pytest.mark.parametrize("value", ["0", "-1", "many"])
async def test_a_wrong_number_of_clients_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMCORE_MAX_CLIENTS", value)
    with pytest.raises(ConfigError, match="STREAMCORE_MAX_CLIENTS"):
        await warm_up({"name": "openai", "api_key": KEY})
    await aclose_providers()


@pytest.mark.long
@pytest.mark.parametrize(
    ("vendor", "sdk", "late"),
    [
        ("anthropic", "anthropic", "anthropic.resources.messages"),
        ("mistral", "mistralai.client", "mistralai.client.chat"),
        ("openai", "openai", "openai.resources.chat"),
        ("openai-responses", "openai", "openai.resources.responses"),
    ],
)
def test_the_first_request_imports_the_sdk_in_another_thread(vendor: str, sdk: str, late: str) -> None:
    code = f"""
import asyncio, sys, threading
from streamcore import ConnectionFailed, Message, Request, get_provider, stream_request
seen = {{}}
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ({sdk!r}, {late!r}):
            seen[name] = threading.current_thread() is threading.main_thread()
sys.meta_path.insert(0, Watch())
async def main():
    provider = get_provider({vendor!r}, api_key="k" * 10, base_url="http://127.0.0.1:9", model="m")
    assert {sdk!r} not in sys.modules
    try:
        await stream_request(Request([Message("user", "Hello")]), provider=provider, max_retries=0).collect()
    except ConnectionFailed:
        pass
asyncio.run(main())
assert seen == {{{sdk!r}: False, {late!r}: False}}, seen
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.long
def test_warm_up_imports_the_sdk_in_another_thread() -> None:
    code = """
import asyncio, sys, threading
from streamcore import warm_up
main = set()
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "anthropic":
            main.add(threading.current_thread() is threading.main_thread())
sys.meta_path.insert(0, Watch())
asyncio.run(warm_up({"name": "anthropic", "api_key": "k" * 10}))
assert "anthropic.resources.messages" in sys.modules
assert False in main
"""
    subprocess.run([sys.executable, "-c", code], check=True)
