"""Make the encoders of the formats that client libraries read."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Literal

from streamcore.sse.agui.encoder import AguiEncoder, AguiRun
from streamcore.sse.ai_sdk.encoder import UIMessageEncoder
from streamcore.sse.encoder import Describe, EventEncoder, status_of
from streamcore.sse.public import public_message
from streamcore.wire.encoding.wire import Problem

ClientFormat = Literal["ai-sdk", "agui"]
"""`ai-sdk`: the UI message stream of the AI SDK, for `useChat`; `agui`: the events of AG-UI, for its `HttpAgent`."""

Body = Mapping[str, Any]
"""The JSON of a request."""


def client_encoder(
    format: ClientFormat,  # noqa: A002
    *,
    wait: bool,
    describe: Describe | None,
    run_input: Body | None = None,
) -> EventEncoder:
    """Return the encoder of one stream; with `wait`, nothing is sent before the first content.

    Raises:
        ConfigError: `run_input` is not valid.
    """
    return _ENCODERS[format](wait, describe, run_input)


def client_headers(format: ClientFormat) -> Mapping[str, str]:  # noqa: A002
    """Return the headers of a response in this format."""
    return _HEADERS.get(format, {})


def _agui(wait: bool, describe: Describe | None, run_input: Body | None) -> AguiEncoder:
    describe = describe or public_message

    def problem_of(error: Exception) -> Problem:
        return Problem("failed", describe(error), code=type(error).__name__, status=status_of(error))

    return AguiEncoder(AguiRun.of(run_input or {}, secrets.token_hex(8)), problem_of, waits=wait)


_ENCODERS: Mapping[str, Callable[[bool, Describe | None, Body | None], EventEncoder]] = {
    "ai-sdk": lambda wait, describe, _: UIMessageEncoder(waits=wait, describe=describe),
    "agui": _agui,
}
_HEADERS: Mapping[str, Mapping[str, str]] = {"ai-sdk": UIMessageEncoder.headers}
