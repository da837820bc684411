"""List the servers that speak OpenAI's chat dialect: one row each, nothing but data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamcore.provider import Vendor
from streamcore_openai.chat import OpenAIProvider, Quirks

if TYPE_CHECKING:
    import httpx2
    import openai


@dataclass(frozen=True, slots=True)
class Gateway:
    """A row: where a server is and how it differs. Called, as an entry point is, it makes the provider."""

    vendor: Vendor
    quirks: Quirks = field(default_factory=Quirks)

    def __call__(
        self,
        *,
        model: str | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        http_client: httpx2.AsyncClient | None = None,
        client: openai.AsyncOpenAI | None = None,
        headers: Mapping[str, str] | None = None,
        transport: str | None = None,
    ) -> OpenAIProvider:
        """Make the provider; see `streamcore.get_provider` for its settings."""
        return OpenAIProvider(
            model=model,
            api_key=api_key,
            base_url=base_url,
            http_client=http_client,
            client=client,
            headers=headers,
            transport=transport,
            row=self.vendor,
            quirks=self.quirks,
        )


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
