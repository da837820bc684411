"""Define gateways in code and in YAML as the built-in rows do, and check what is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from streamcore import ConfigError, Message, Request, ToolCall, get_provider, stream_prompt, stream_request
from streamcore.chunk import Opaque
from streamcore.errors import MissingAPIKey, PromptError, ProviderNotFound
from streamcore.testing import Answer
from tests.support import KEY, Vendor, ask, body_of

URL = "https://gateway.example/v1"
HELLO = ask("Hi")
Settings = dict[str, Any]


def sent(request: Request = HELLO, **settings: Any) -> tuple[httpx2.Request, dict[str, Any]]:
    """Return what a custom gateway with these settings is sent."""
    vendor = Vendor(body_of("openai-chat", Answer.of("ok")))
    given: Settings = {"dialect": "openai-chat", "base_url": URL, "model": "m", "api_key": KEY, **settings}
    provider = get_provider("my-gateway", http_client=vendor.client(), **given)
    assert provider.name == "my-gateway"
    assert asyncio.run(stream_request(request, provider=provider).collect()).text == "ok"
    return vendor.requests[0], json.loads(vendor.requests[0].content)


def test_a_gateway_needs_a_name_a_dialect_and_an_address() -> None:
    request, body = sent()
    assert str(request.url) == f"{URL}/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert body["stream_options"] == {"include_usage": True}


def test_a_server_without_stream_options() -> None:
    _, body = sent(stream_options=False)
    assert "stream_options" not in body


def test_the_key_in_a_header_of_its_own() -> None:
    request, _ = sent(key_header="x-api-key")
    assert request.headers["x-api-key"] == KEY
    assert "authorization" not in request.headers


def test_a_server_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    request, _ = sent(api_key=None, needs_key=False)
    assert request.headers["authorization"] == "Bearer none"
    with pytest.raises(MissingAPIKey, match="MY_GATEWAY_API_KEY"):
        sent(api_key=None)


def test_additional_fields_for_every_request() -> None:
    _, body = sent(Request([Message("user", "Hi")], extra={"b": 3}), extra={"a": 1, "b": 2})
    assert (body["a"], body["b"]) == (1, 3)


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        (True, "reasoning_content"),
        (False, None),
        ("reasoning", "reasoning"),
        (["reasoning", "reasoning_content"], "reasoning"),
    ],
)
def test_reasoning_is_sent_back_if_the_server_accepts_it(setting: Any, field: str | None) -> None:
    kept = {"reasoning_content": "hm"} if field == "reasoning_content" else {"reasoning": "hm"}
    opaque = Opaque("openai-chat", (), kept, "my-gateway at gateway.example")
    turn = Message("assistant", tool_calls=(ToolCall("a", "tide", "{}"),), opaque=opaque)
    _, body = sent(Request([turn, Message("tool", "high", tool_call_id="a")]), send_reasoning=setting)
    fields = body["messages"][0].keys() & {"reasoning", "reasoning_content"}
    assert fields == ({field} if field else set())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"stream_option": False}, "did you mean 'stream_options'"),
        ({"base_url": None}, "base_url"),
    ],
)
def test_a_setting_that_is_wrong_or_missing_is_named(settings: Settings, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        sent(**settings)


def test_a_dialect_that_is_not_known() -> None:
    with pytest.raises(ProviderNotFound, match="did you mean 'openai-chat'"):
        get_provider("my-gateway", dialect="openai-chats", base_url=URL)


def test_the_name_of_an_installed_provider_is_refused() -> None:
    with pytest.raises(ConfigError, match="'deepseek' is the name of an installed provider"):
        get_provider("deepseek", dialect="openai-chat", base_url=URL)


# In YAML


def prompt(tmp_path: Path, provider: str) -> Mapping[str, Any]:
    """Write a prompt with this `provider:`, and return the arguments that stream it."""
    (tmp_path / "greet.yaml").write_text(f"provider: {provider}\nuser: Hi\n", "utf-8")
    return {"prompt_name": "greet", "variables": {}, "prompts_dir": tmp_path}


def test_a_prompt_describes_its_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = Vendor(body_of("openai-chat", Answer.of("ok")))
    monkeypatch.setenv("MY_GATEWAY_API_KEY", KEY)

    def client(*_: object) -> httpx2.AsyncClient:
        return vendor.client()

    monkeypatch.setattr("streamcore.net.clients.new_http_client", client)
    given = prompt(
        tmp_path, f"{{name: my-gateway, dialect: openai-chat, base_url: {URL}, model: m, stream_options: false}}"
    )
    assert asyncio.run(stream_prompt(**given).collect()).text == "ok"
    (request,) = vendor.requests
    assert str(request.url) == f"{URL}/chat/completions"
    body = json.loads(request.content)
    assert (body["model"], "stream_options" in body) == ("m", False)


def test_a_mapping_may_name_an_installed_provider(tmp_path: Path) -> None:
    answer = asyncio.run(stream_prompt(**prompt(tmp_path, "{name: demo}")).collect())
    assert answer.complete


@pytest.mark.parametrize(
    ("provider", "reason"),
    [
        ("{dialect: openai-chat}", "needs the key 'name'"),
        ("{name: my-gateway, api_key: sk-1}", "MY_GATEWAY_API_KEY"),
        ("[demo]", "text or a mapping"),
    ],
)
def test_a_mapping_that_is_wrong_is_found_when_the_file_is_read(tmp_path: Path, provider: str, reason: str) -> None:
    with pytest.raises(PromptError, match=reason):
        asyncio.run(stream_prompt(**prompt(tmp_path, provider)).collect())


# Rows


def test_azure_needs_the_address_of_a_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = Vendor(body_of("openai-chat", Answer.of("ok")))
    provider = get_provider("azure", model="m", api_key=KEY, http_client=vendor.client())
    with pytest.raises(ConfigError, match="AZURE_BASE_URL"):
        asyncio.run(stream_request(ask("Hi"), provider=provider).collect())
    assert vendor.requests == []
    monkeypatch.setenv("AZURE_BASE_URL", "https://here.openai.azure.com/openai/v1")
    provider = get_provider("azure", model="m", api_key=KEY, http_client=vendor.client())
    asyncio.run(stream_request(ask("Hi"), provider=provider).collect())
    assert vendor.requests[0].headers["api-key"] == KEY


def test_minimax_sends_reasoning_separate_from_the_text() -> None:
    vendor = Vendor(body_of("openai-chat", Answer.of("ok")))
    asyncio.run(stream_request(ask("Hi"), provider=vendor.provider("minimax")).collect())
    assert json.loads(vendor.requests[0].content)["reasoning_split"] is True
