"""Make the errors that end an answer, and describe what arrived before it."""

from __future__ import annotations

from collections.abc import Mapping

from streamcore.completion import Completion
from streamcore.errors import AnswerTooLarge, ConfigError, StreamcoreError, StreamInterrupted, StreamTimeout

_WHAT: Mapping[str, str] = {
    "first_token": "no content arrived",
    "stall": "no more content arrived",
    "silence": "no data arrived",
    "total": "the answer was not complete",
}


def received(answer: Completion) -> str:
    """Describe what was received so far, for the message of a timeout."""
    counts = [
        f"{len(text)} characters of {kind}"
        for kind, text in (("text", answer.text), ("reasoning", answer.reasoning), ("refusal", answer.refusal))
        if text
    ]
    counts += [f"{len(answer.tool_calls)} tool calls"] if answer.tool_calls else []
    return f"received before: {', '.join(counts) or 'nothing'}"


def timed_out(clock: str, seconds: float, received: str) -> StreamTimeout:
    """Return the error for a read that took longer than a clock allows; `received` describes what arrived before it."""
    message = f"{_WHAT[clock]} within {seconds:g} s (clock {clock!r}); {received}"
    return StreamTimeout(message, clock=clock, seconds=seconds)


def too_large(limit: int) -> AnswerTooLarge:
    """Return the error for an answer of more bytes than its limit."""
    return AnswerTooLarge(
        f"the answer has more than {limit:,} bytes and was ended; what arrived is in .partial; "
        "ask for a shorter answer, or set a higher max_bytes",
        limit=limit,
    )


def without_mark(provider: str) -> StreamInterrupted:
    """Return the error for a stream that ended without the vendor's mark."""
    return StreamInterrupted(
        f"the stream of provider {provider!r} ended without its terminal mark; what arrived is in .partial"
    )


def after_fallback(error: StreamcoreError, failure: StreamcoreError | None) -> StreamcoreError:
    """Return the last error of an answer. If a fallback is not valid, its cause becomes the error that led to it.

    Args:
        error: the error that ends the answer.
        failure: the error that led to the last fallback; None if there was none.
    """
    if isinstance(error, ConfigError) and failure is not None:
        error.__cause__ = failure
    return error
