"""List the servers that have OpenAI's Chat Completions API: one row each, as data; and make custom ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Unpack

from streamcore.errors import ConfigError
from streamcore.provider import ProviderSettings, Vendor, check_settings
from streamcore.request import ThinkTags
from streamcore_openai.chat import OpenAIProvider, Quirks


@dataclass(frozen=True, slots=True)
class Gateway:
    """Describe a server with OpenAI's API: its address, and how it differs. Calling a gateway returns its provider."""

    vendor: Vendor
    quirks: Quirks = field(default_factory=Quirks)

    def __call__(self, *, think_tags: ThinkTags | None = None, **settings: Unpack[ProviderSettings]) -> OpenAIProvider:
        """Return the provider; see `streamcore.get_provider` for its settings.

        `think_tags` overrides the row: what the models write between `<think>` and `</think>` is reasoning, not text.
        """
        return OpenAIProvider(row=self.vendor, quirks=self.quirks, think_tags=think_tags, **settings)


_QUIRKS = frozenset(field.name for field in fields(Quirks))


_SWITCHES = frozenset(
    {"needs_key", *(field.name for field in fields(Quirks) if isinstance(field.default, bool))}
    - {"think_tags", "send_reasoning"}
)
"""The settings that are true or false, and nothing else."""


def custom_gateway(name: str, *, needs_key: bool = True, **settings: Any) -> OpenAIProvider:
    """Return a provider for a server that has no row: `get_provider(name, dialect="openai-chat", base_url=...)`.

    Args:
        name: its name, from which `<NAME>_API_KEY`, `<NAME>_BASE_URL` and `<NAME>_MODEL` follow.
        needs_key: the server wants an API key.
        settings: those of every provider (`base_url`, `model`, ...) and the fields of `Quirks`.

    Raises:
        ConfigError: a setting is unknown or has a wrong type, or there is no address.
    """
    check_settings(name, settings, *_QUIRKS)
    for setting, value in {"needs_key": needs_key, **settings}.items():
        if setting in _SWITCHES and not isinstance(value, bool):
            raise ConfigError(f"{setting} of provider {name!r} is true or false, not {value!r}")
    quirks: Mapping[str, Any] = {key: value for key, value in settings.items() if key in _QUIRKS}
    common: Any = {key: value for key, value in settings.items() if key not in _QUIRKS}
    if not (
        settings.get("base_url") or settings.get("client") or _vendor(name, needs_key).from_environment("BASE_URL")
    ):
        raise ConfigError(f"provider {name!r} needs base_url=, the address of the server with its /v1")
    return OpenAIProvider(row=_vendor(name, needs_key), quirks=Quirks(**quirks), **common)


_PRICE_LISTS = {"gemini": "google", "xai": "x-ai", "moonshot": "moonshotai"}
"""The ids of vendors in `genai-prices`, where they are not the name of the gateway."""

_TELEMETRY = {"gemini": "gcp.gemini", "xai": "x_ai", "azure": "azure.ai.openai"}
"""The names of vendors in OpenTelemetry's conventions, where they are not the name of the gateway."""


def _vendor(name: str, needs_key: bool, base_url: str | None = None, model: str | None = None) -> Vendor:
    return Vendor(
        name=name,
        sdk="openai",
        install='-e ".[openai]"',
        default_model=model,
        base_url=base_url,
        needs_key=needs_key,
        needs_base_url=base_url is None,
        price_list_id=_PRICE_LISTS.get(name, ""),
        telemetry_name=_TELEMETRY.get(name, ""),
    )


def _row(name: str, base_url: str | None, model: str | None, *, key: bool = True, **quirks: Any) -> Gateway:
    return Gateway(_vendor(name, key, base_url, model), Quirks(**quirks))


# The default models are those that the vendors' own lists and deprecation pages name in November 2026.
openrouter = _row(
    "openrouter",
    "https://openrouter.ai/api/v1",
    "openrouter/auto",
    reasoning_key="reasoning.effort",
    details_key="reasoning_details",
    enforces_schema=False,
    documents=("data", "url"),
)
groq = _row("groq", "https://api.groq.com/openai/v1", "openai/gpt-oss-120b", max_tokens_key="max_completion_tokens")
deepseek = _row(
    "deepseek",
    "https://api.deepseek.com/v1",
    "deepseek-flash",
    reasoning_key=None,
    json_schema=False,
    enforces_schema=False,
)
xai = _row("xai", "https://api.x.ai/v1", "grok-4.3")
together = _row("together", "https://api.together.xyz/v1", None, enforces_schema=False)
gemini = _row("gemini", "https://generativelanguage.googleapis.com/v1beta/openai", "gemini-3.5-flash-lite")
moonshot = _row(
    "moonshot",
    "https://api.moonshot.ai/v1",
    "kimi-k2.6",
    max_tokens_key="max_completion_tokens",
    reasoning_key=None,
    enforces_schema=False,
)
minimax = _row(
    "minimax",
    "https://api.minimax.io/v1",
    "MiniMax-M3",
    max_tokens_key="max_completion_tokens",
    reasoning_key=None,
    json_schema=False,
    enforces_schema=False,
    details_key="reasoning_details",
    extra={"reasoning_split": True},  # else the text contains the reasoning, between think tags
)
perplexity = _row("perplexity", "https://api.perplexity.ai", "sonar", stream_options=False)
zai = _row(
    "zai",
    "https://api.z.ai/api/paas/v4",
    "glm-5.3",
    stream_options=False,
    json_schema=False,
    enforces_schema=False,
)
azure = _row(
    "azure",
    None,  # https://RESOURCE.openai.azure.com/openai/v1
    None,
    max_tokens_key="max_completion_tokens",
    key_header="api-key",
    call_ids=r"[\x21-\x7e]{1,40}",
)
# Servers on the same machine. Their templates accept reasoning under either name.
_LOCAL = ("reasoning_content", "reasoning")
ollama = _row("ollama", "http://localhost:11434/v1", "llama3.2", key=False, send_reasoning=_LOCAL)
vllm = _row("vllm", "http://localhost:8000/v1", None, key=False, send_reasoning=_LOCAL)
lmstudio = _row("lmstudio", "http://localhost:1234/v1", None, key=False, send_reasoning=_LOCAL)
