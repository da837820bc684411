"""Run the conformance suite, with every upstream fault and every kind of reader, on all four wires."""

from __future__ import annotations

import pytest

from streamcore import Provider, get_provider
from streamcore.testing.conformance import ProviderSuite
from tests.support import KEY

pytestmark = pytest.mark.faults


class TestAnthropic(ProviderSuite):
    wire = "anthropic-messages"

    def provider(self, url: str) -> Provider:
        return get_provider("anthropic", api_key=KEY, model="m", base_url=url)


class TestOpenAI(ProviderSuite):
    wire = "openai-chat"

    def provider(self, url: str) -> Provider:
        return get_provider("openai", api_key=KEY, model="m", base_url=url + "/v1")


class TestOpenAIResponses(ProviderSuite):
    wire = "openai-responses"

    def provider(self, url: str) -> Provider:
        return get_provider("openai-responses", api_key=KEY, model="m", base_url=url + "/v1")


class TestMistral(ProviderSuite):
    wire = "mistral-chat"
    backends = ("asyncio",)  # the SDK calls asyncio.to_thread

    def provider(self, url: str) -> Provider:
        return get_provider("mistral", api_key=KEY, model="m", base_url=url)
