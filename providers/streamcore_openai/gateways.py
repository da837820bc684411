"""List the servers that have OpenAI's Chat Completions API: one row each, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Unpack

from streamcore.provider import ProviderSettings, Vendor
from streamcore_openai.chat import OpenAIProvider, Quirks


@dataclass(frozen=True, slots=True)
class Gateway:
    """Say where a server is and how it differs. Calling a gateway, as an entry point is called, makes its provider."""

    vendor: Vendor
    quirks: Quirks = field(default_factory=Quirks)

    def __call__(self, *, think_tags: bool | None = None, **settings: Unpack[ProviderSettings]) -> OpenAIProvider:
        """Return the provider; see `streamcore.get_provider` for its settings.

        `think_tags` overrides the row: what the models write between `<think>` and `</think>` is reasoning, not text.
        """
        return OpenAIProvider(row=self.vendor, quirks=self.quirks, think_tags=think_tags, **settings)


def _row(name: str, base_url: str, model: str | None, *, key: bool = True, **quirks: Any) -> Gateway:
    vendor = Vendor(
        name=name, sdk="openai", install='-e ".[openai]"', default_model=model, base_url=base_url, needs_key=key
    )
    return Gateway(vendor, Quirks(**quirks))


ollama = _row("ollama", "http://localhost:11434/v1", "llama3.2", key=False)
openrouter = _row(
    "openrouter",
    "https://openrouter.ai/api/v1",
    "openrouter/auto",
    reasoning="reasoning.effort",
    opaque="reasoning_details",
    holds_schema=False,
)
groq = _row("groq", "https://api.groq.com/openai/v1", "llama-3.3-70b-versatile", max_tokens="max_completion_tokens")
deepseek = _row(
    "deepseek", "https://api.deepseek.com/v1", "deepseek-chat", reasoning=None, json_schema=False, holds_schema=False
)
xai = _row("xai", "https://api.x.ai/v1", "grok-4")
together = _row("together", "https://api.together.xyz/v1", None, holds_schema=False)
gemini = _row("gemini", "https://generativelanguage.googleapis.com/v1beta/openai", "gemini-2.5-flash")
vllm = _row("vllm", "http://localhost:8000/v1", None, key=False)
lmstudio = _row("lmstudio", "http://localhost:1234/v1", None, key=False)
