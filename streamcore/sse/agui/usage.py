"""Sum up the token counts of a run as AG-UI counts them: totals, and named parts of them."""

from __future__ import annotations

from typing import Any

from streamcore.chunk import Usage

_SEPARATE = ("cache_read_input_tokens", "cacheReadInputTokens")
"""Keys of vendors that do not count cached tokens as tokens of the prompt."""


class TokenUsage:
    """Sum up counts by model; `model` replaces the vendors' names."""

    def __init__(self, model: str | None) -> None:
        self._model = model
        self._sums: dict[str | None, dict[str, int]] = {}

    def add(self, model: str | None, usage: Usage) -> None:
        """Add the counts of an answer."""
        sums = self._sums.setdefault(self._model or model, {})
        for key, value in _counts(usage).items():
            if value is not None:
                sums[key] = sums.get(key, 0) + value

    def entries(self) -> list[dict[str, Any]]:
        """Return an entry for each model that has counts."""
        named = [(model, sums) for model, sums in self._sums.items() if sums]
        return [{**({"model": model} if model else {}), **sums} for model, sums in named]


def _counts(usage: Usage) -> dict[str, int | None]:
    read, write = usage.cache_read_tokens, usage.cache_write_tokens
    total = usage.input_tokens
    cached = (read or 0) + (write or 0)
    if total is not None and (cached > total or any(key in usage.raw for key in _SEPARATE)):
        total += cached
    both = None if total is None or usage.output_tokens is None else total + usage.output_tokens
    return {
        "inputTokens": total,
        "outputTokens": usage.output_tokens,
        "totalTokens": both,
        "reasoningTokens": usage.reasoning_tokens,
        "cachedInputTokens": read,
        "cacheWriteInputTokens": write,
    }
