"""Test how provider, model and temperature are resolved, and how settings are checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from streamcore import ConfigError, Message, ProviderNotFound, Request, get_provider, stream_request
from streamcore.provider import ModelChoice, ProviderSettings, ResolvedModel, check_settings, resolve_provider
from streamcore.testing import ScriptedProvider

CALL, NODE, DEFAULTS, PROMPT = "the call", "the node", "the defaults", "the prompt"


def resolve(**choices: Mapping[str, Any]) -> ResolvedModel:
    """Resolve the choices of four sources, in the order in which they override each other."""
    sources = {"call": CALL, "node": NODE, "defaults": DEFAULTS, "prompt": PROMPT}
    return resolve_provider([ModelChoice(**choices.get(key, {}), source=sources[key]) for key in sources], "prompt 'p'")


@pytest.mark.parametrize("first", ["call", "node", "defaults", "prompt"])
def test_each_source_overrides_those_after_it(first: str) -> None:
    sources = ["call", "node", "defaults", "prompt"]
    choices = {
        key: {"provider": "demo", "model": f"model of {key}", "temperature": number / 10}
        for number, key in enumerate(sources)
        if number >= sources.index(first)
    }
    assert resolve(**choices) == ResolvedModel("demo", f"model of {first}", sources.index(first) / 10)


def test_the_environment_comes_after_every_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER", "groq")
    assert resolve() == ResolvedModel("groq", None, None)
    monkeypatch.setenv("STREAMCORE_PROVIDER", "mistral")
    assert resolve().provider == "mistral"
    assert resolve(prompt={"provider": "demo"}).provider == "demo"


def test_without_a_provider_the_error_names_every_source() -> None:
    with pytest.raises(ConfigError, match="no provider for prompt 'p'") as caught:
        resolve(node={"model": "m"})
    named = (CALL, NODE, DEFAULTS, PROMPT, "STREAMCORE_PROVIDER", "PROVIDER", "'demo'")
    assert all(source in str(caught.value) for source in named)


def test_a_name_that_no_provider_has_is_reported_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProviderNotFound, match=r"no provider 'opneai' \(the defaults\); did you mean 'openai'\?"):
        resolve(defaults={"provider": "opneai"})
    monkeypatch.setenv("STREAMCORE_PROVIDER", "opneai")
    with pytest.raises(ProviderNotFound, match=r"no provider 'opneai' \(in the environment\); did you mean"):
        resolve()
    with pytest.raises(ProviderNotFound, match="no provider 'opneai'; did you mean"):
        resolve_provider([ModelChoice("opneai")], "prompt 'p'")


@pytest.mark.parametrize(
    ("choices", "model"),
    [
        # The model of a source that names another vendor is ignored at every place.
        ({"call": {"provider": "groq"}, "node": {"provider": "openai", "model": "gpt"}}, None),
        ({"call": {"provider": "groq"}, "defaults": {"provider": "openai", "model": "gpt"}}, None),
        ({"node": {"provider": "groq"}, "prompt": {"provider": "openai", "model": "gpt"}}, None),
        # It counts if the vendor is the same, also by another API.
        ({"call": {"provider": "openai"}, "defaults": {"provider": "openai", "model": "gpt"}}, "gpt"),
        ({"call": {"provider": "openai-responses"}, "prompt": {"provider": "openai", "model": "gpt"}}, "gpt"),
        # A model without a provider belongs to the next provider that is named.
        ({"call": {"provider": "groq"}, "node": {"model": "gpt"}, "defaults": {"provider": "openai"}}, None),
        ({"call": {"provider": "groq"}, "node": {"model": "gpt"}, "prompt": {"provider": "openai"}}, None),
        ({"node": {"model": "gpt"}, "prompt": {"provider": "openai", "model": "old"}}, "gpt"),
        ({"call": {"provider": "groq"}, "node": {"model": "llama"}}, "llama"),
        # The next source's model is taken if it belongs to the chosen provider.
        (
            {
                "call": {"provider": "groq"},
                "node": {"provider": "openai", "model": "gpt"},
                "prompt": {"provider": "groq", "model": "llama"},
            },
            "llama",
        ),
        ({"call": {"model": "mine"}, "node": {"provider": "openai", "model": "gpt"}}, "mine"),
    ],
)
def test_a_model_belongs_to_a_vendor(choices: dict[str, Any], model: str | None) -> None:
    assert resolve(**choices).model == model


def test_a_ready_provider_is_matched_by_its_name() -> None:
    ready = get_provider("openai", api_key="sk-0123456789")
    file = {"provider": "openai", "model": "gpt"}
    assert resolve(call={"provider": ready}, prompt=file) == ResolvedModel(ready, "gpt", None)
    other = ScriptedProvider("x")
    assert resolve(call={"provider": other}, prompt=file) == ResolvedModel(other, None, None)


def test_a_temperature_of_zero_is_set() -> None:
    choices: dict[str, Any] = {"node": {"temperature": 0.0}, "prompt": {"provider": "demo", "temperature": 0.4}}
    assert resolve(**choices).temperature == 0.0


def test_settings_are_checked_against_those_that_are_known() -> None:
    given: ProviderSettings = {"model": "m", "api_key": "k"}
    check_settings("mine", given)
    check_settings("mine", {**given, "rate": 3}, "rate")
    with pytest.raises(ConfigError, match="'mine' has no setting 'modle'; did you mean 'model'") as caught:
        check_settings("mine", {"modle": "m"})
    assert "transport" in str(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("request_", "sent"),
    [
        (Request([Message("user", "Hi")]), 0.7),
        (Request([Message("user", "Hi")], temperature=0.1), 0.1),
        (Request([Message("user", "Hi")], default_temperature=None), None),
        (Request([Message("user", "Hi")], reasoning="low"), None),
        (Request([Message("user", "Hi")], extra={"temperature": 0.2}), None),
    ],
)
async def test_a_request_is_sent_with_the_default_temperature(request_: Request, sent: float | None) -> None:
    provider = ScriptedProvider("ok")
    await stream_request(request_, provider=provider).collect()
    assert [one.temperature for one in provider.requests] == [sent]
