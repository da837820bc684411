"""Play a recording back: `streamcore replay FILE`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from streamcore.cli.options import Debug, Json, Raw, Stats
from streamcore.cli.output import bad_input, fail, note
from streamcore.cli.terminal import show
from streamcore.errors import StreamcoreError
from streamcore.execute import stream_request
from streamcore.provider import Provider, get_provider
from streamcore.request import Message, Request
from streamcore.testing import Exchange, Recording
from streamcore.testing.recordings.exchange import Pace


def replay(
    file: Annotated[Path, typer.Argument(help="A recording, as `streamcore record` writes it.")],
    pace: Annotated[
        str, typer.Option(metavar="PACE", help="`recorded`, a number of network reads per second, or 0 for at once.")
    ] = "recorded",
    as_json: Json = False,
    stats: Stats = False,
    debug: Debug = False,
    raw: Raw = False,
) -> None:
    """Play a recording back, through the SDK and the decoder of the vendor that sent it.

    Example: streamcore replay greet.yaml --pace 20

    A recorded failure fails again in the same way. Needs no key and no network.
    """
    try:
        recording = Recording.load(file).at_pace(_pace(pace))
        providers = [_only(exchange, recording) for exchange in recording.exchanges]
    except StreamcoreError as error:
        if debug:
            raise
        fail(error, as_json=as_json)
    if not providers:
        bad_input(f"{str(file)!r} has no exchanges")
    for number, (exchange, provider) in enumerate(zip(recording.exchanges, providers, strict=True), 1):
        if len(providers) > 1 and not as_json:
            note(f"--- {number} of {len(providers)}: {exchange.request.method} {exchange.request.url}")
        request = Request([Message("user", "(the request is in the recording)")])
        stream = stream_request(request, provider=provider, max_retries=0)
        show(stream, as_json=as_json, stats=stats, debug=debug, raw=raw)


def _pace(text: str) -> Pace:
    if text == "recorded":
        return "recorded"
    try:
        return float(text)
    except ValueError:
        bad_input(f"--pace takes 'recorded', a number of reads per second, or 0 for at once; got {text!r}")


def _only(exchange: Exchange, recording: Recording) -> Provider:
    """Return a provider that plays this exchange for any request."""
    body = exchange.request.body
    model = cast("dict[str, Any]", body).get("model") if isinstance(body, dict) else None
    anything = Recording((replace(exchange, request=replace(exchange.request, body=None)),))
    speaks = exchange.provider or recording.provider
    return get_provider("replay", recording=anything, pace="recorded", model=str(model or "recorded"), speaks=speaks)
