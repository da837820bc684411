"""Test that a caller's client with connections of another event loop is refused before anything is sent."""

from __future__ import annotations

import asyncio

import httpx2
import openai
import pytest

from streamcore import ConfigError, stream_request, sync
from streamcore.completion import Completion
from streamcore.provider import Provider
from streamcore.testing import Answer, Simulator
from tests.support import KEY, VENDORS, Vendor, ask, body_of, provider_at


async def answer(provider: Provider) -> Completion:
    return await stream_request(ask(), provider=provider, max_retries=0).collect()


@pytest.mark.parametrize("name", VENDORS)
def test_a_second_event_loop_is_refused(simulator: Simulator, name: str) -> None:
    http = httpx2.AsyncClient(timeout=None)
    provider = provider_at(simulator, name, http_client=http)
    again = provider_at(simulator, name, http_client=http)
    with asyncio.Runner() as runner:
        assert runner.run(answer(provider)).complete
        count = len(simulator.requests)
        for other in (provider, again):
            with pytest.raises(ConfigError, match=f"the http_client of provider '{name}' has connections of another"):
                sync.stream_request(ask(), provider=other).collect()
        assert len(simulator.requests) == count
        runner.run(http.aclose())


def test_sync_in_a_notebook_refuses_the_client_of_the_running_loop(simulator: Simulator) -> None:
    async def cells() -> None:
        client = openai.AsyncOpenAI(api_key=KEY, base_url=simulator.base_url("openai"))
        provider = provider_at(simulator, "openai", client=client, api_key=None, base_url=None)
        assert (await answer(provider)).complete
        for _ in range(2):
            with pytest.raises(ConfigError, match="the client of provider 'openai' has connections of another"):
                sync.stream_request(ask(), provider=provider).collect()
        assert (await answer(provider)).complete
        await client.close()

    asyncio.run(cells())


def test_a_client_without_connections_is_used_on_another_loop(simulator: Simulator) -> None:
    limits = httpx2.Limits(max_keepalive_connections=0)
    provider = provider_at(simulator, "openai", http_client=httpx2.AsyncClient(timeout=None, limits=limits))
    for _ in range(2):
        assert sync.stream_request(ask(), provider=provider).collect().complete


def test_a_client_that_opens_no_connection_is_used_on_every_loop() -> None:
    provider = Vendor(body_of("openai-chat", Answer.of("ok"))).provider("openai")
    for _ in range(3):
        assert sync.stream_request(ask(), provider=provider).collect().text == "ok"
