"""Run the conformance suite, with every upstream fault and every kind of reader, on every wire."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import ClassVar

import pytest

from streamcore import OverloadedError, Provider, get_provider, stream_request
from streamcore.testing import FaultServer
from streamcore.testing.suites.provider import ProviderSuite
from tests.support import EVERY_RUN, KEY, ask, wire_of

pytestmark = pytest.mark.faults


class TestAnthropic(ProviderSuite):
    transport: ClassVar[str] = "httpx2"
    wire = "anthropic-messages"

    def provider(self, url: str) -> Provider:
        return get_provider("anthropic", api_key=KEY, model="m", transport=self.transport, base_url=url)


class TestOpenAI(ProviderSuite):
    transport: ClassVar[str] = "httpx2"
    wire = "openai-chat"

    def provider(self, url: str) -> Provider:
        return get_provider("openai", api_key=KEY, model="m", transport=self.transport, base_url=url + "/v1")


@pytest.mark.long
class TestOpenAIResponses(ProviderSuite):
    transport: ClassVar[str] = "httpx2"
    wire = "openai-responses"

    def provider(self, url: str) -> Provider:
        return get_provider("openai-responses", api_key=KEY, model="m", transport=self.transport, base_url=url + "/v1")


@pytest.mark.long
class TestMistral(ProviderSuite):
    transport: ClassVar[str] = "httpx2"
    wire = "mistral-chat"
    backends: ClassVar[Sequence[str]] = ("asyncio",)  # the SDK calls asyncio.to_thread

    def provider(self, url: str) -> Provider:
        return get_provider("mistral", api_key=KEY, model="m", transport=self.transport, base_url=url)


@pytest.mark.long
class TestBedrock(ProviderSuite):
    transport: ClassVar[str] = "httpx2"
    wire = "bedrock-converse"

    def provider(self, url: str) -> Provider:
        return get_provider("bedrock", api_key=KEY, model="simulated", transport=self.transport, base_url=url)


NO_MARK = "Gemini marks no end: a finish reason may come before the answer, so the end of the body counts"


@pytest.mark.long
class TestGoogle(ProviderSuite):
    transport: ClassVar[str] = "httpx2"
    wire = "gemini"
    deviations: ClassVar[Mapping[str, str]] = {
        "more-after-mark": NO_MARK,
        "held-after-mark": NO_MARK,
        "reset-after-mark": NO_MARK,
        "length-too-long": NO_MARK,
    }

    def provider(self, url: str) -> Provider:
        return get_provider("google", api_key=KEY, model="m", transport=self.transport, base_url=url)


class OverAiohttp:
    """Ask over aiohttp, which knows asyncio only."""

    backends: ClassVar[Sequence[str]] = ("asyncio",)
    transport: ClassVar[str] = "aiohttp"


@pytest.mark.long
class TestBedrockOverAiohttp(OverAiohttp, TestBedrock):
    pass


@pytest.mark.long
class TestAnthropicOverAiohttp(OverAiohttp, TestAnthropic):
    pass


@pytest.mark.long
class TestOpenAIOverAiohttp(OverAiohttp, TestOpenAI):
    pass


@pytest.mark.long
class TestOpenAIResponsesOverAiohttp(OverAiohttp, TestOpenAIResponses):
    pass


@pytest.mark.long
class TestMistralOverAiohttp(OverAiohttp, TestMistral):
    pass


@pytest.mark.long
class TestGoogleOverAiohttp(OverAiohttp, TestGoogle):
    pass


@pytest.mark.long
class TestAnthropicUnderUvloop(TestAnthropic):
    backends: ClassVar[Sequence[str]] = ("uvloop",)


@pytest.mark.long
class TestOpenAIOverAiohttpUnderUvloop(TestOpenAIOverAiohttp):
    backends: ClassVar[Sequence[str]] = ("uvloop",)


@pytest.mark.anyio
@pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)
async def test_every_attempt_is_in_the_log_and_in_the_error(name: str, caplog: pytest.LogCaptureFixture) -> None:
    plays = ("server-error", "error-event-first", "reset-before-headers", "overloaded")
    with FaultServer(*plays, wire=wire_of(name)) as server, caplog.at_level(logging.INFO, "streamcore"):
        path = "/v1" if name.startswith("openai") else ""
        provider = get_provider(name, api_key=KEY, model="m", base_url=server.url + path)
        with pytest.raises(OverloadedError) as caught:
            await stream_request(ask(), provider=provider, max_retries=3).collect()
    kinds = ["ServerError", "OverloadedError", "ConnectionFailed", "OverloadedError"]
    attempts = caught.value.attempts
    assert [(attempt.error or "").partition(":")[0] for attempt in attempts] == kinds
    assert {attempt.provider for attempt in attempts} == {name}
    assert caught.value.partial is not None
    assert caught.value.partial.attempts == attempts
    logged = [record.message for record in caplog.records if record.name == "streamcore"]
    assert len(logged) == 3
    assert all(message.startswith("trying again in 0.0 s after ") for message in logged)
