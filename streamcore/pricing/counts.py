"""Bring the token counts of all vendors into one form, in which they can be priced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from streamcore.chunk import Usage


@dataclass(frozen=True, slots=True)
class Counts:
    """What an answer is billed for: `input` has the cached tokens, `output` the reasoning."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    details: Mapping[str, int] = field(default_factory=dict[str, int])
    """Further counts, by the names that `genai-prices` has for them, as `cache_write_1h_tokens`."""
    context: Mapping[str, str] = field(default_factory=dict[str, str])
    """What else the price depends on, by the names of `genai-prices`, as `service_tier`."""


# Where the usage objects of vendors have what `Usage` has no field for, and its name in `genai-prices`.
_DETAILS: tuple[tuple[tuple[str, str], str], ...] = (
    (("cache_creation", "ephemeral_5m_input_tokens"), "cache_write_5m_tokens"),
    (("cache_creation", "ephemeral_1h_input_tokens"), "cache_write_1h_tokens"),
    (("prompt_tokens_details", "audio_tokens"), "input_audio_tokens"),
    (("input_tokens_details", "audio_tokens"), "input_audio_tokens"),
    (("completion_tokens_details", "audio_tokens"), "output_audio_tokens"),
    (("output_tokens_details", "audio_tokens"), "output_audio_tokens"),
    (("server_tool_use", "web_search_requests"), "web_searches"),
)
_MODALITIES: tuple[tuple[str, str], ...] = (("promptTokensDetails", "input"), ("candidatesTokensDetails", "output"))
_PRICED_MODALITIES = frozenset({"audio", "image", "video"})


def counts_of(usage: Usage | None, *, cache_apart: bool, tier: str | None = None) -> Counts | None:
    """Return the counts of an answer; None if its vendor reported neither input nor output.

    Args:
        usage: the counts as the vendor has them.
        cache_apart: its `input_tokens` leave the cached tokens out.
        tier: the service tier, as the vendor names it.
    """
    if usage is None or (usage.input_tokens is None and usage.output_tokens is None):
        return None
    read, write = _count(usage.cache_read_tokens), _count(usage.cache_write_tokens)
    prompt, output, reasoning = map(_count, (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens))
    if cache_apart or read + write > prompt:
        prompt += read + write
    raw = usage.raw
    if reasoning and raw.get("total_tokens") == prompt + output + reasoning:
        output += reasoning  # one vendor's chat dialect leaves it out of the completion's tokens
    context = {"service_tier": tier} if tier else {}
    if isinstance(raw.get("speed"), str):
        context["speed"] = raw["speed"]
    return Counts(prompt, output, read, write, min(reasoning, output), _details(raw), context)


def _details(raw: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for (outer, inner), name in _DETAILS:
        value = raw.get(outer)
        count = _count(cast("Mapping[str, Any]", value).get(inner)) if isinstance(value, Mapping) else 0
        if count:
            found[name] = count
    for key, direction in _MODALITIES:
        rows = raw.get(key)
        for row in cast("Sequence[Any]", rows) if isinstance(rows, list) else ():
            if isinstance(row, Mapping):
                entry = cast("Mapping[str, Any]", row)
                modality, count = str(entry.get("modality")).lower(), _count(entry.get("tokenCount"))
                if count and modality in _PRICED_MODALITIES:
                    name = f"{direction}_{modality}_tokens"
                    found[name] = found.get(name, 0) + count
    return found


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
