"""Answer ASGI requests with runs: a client that reconnects goes on where its connection broke."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from streamcore.errors import RunExists, RunNotFound
from streamcore.relay.producer import Source
from streamcore.relay.relay import Relay
from streamcore.sse import Describe, Format, Place, read_place, sse_response

if TYPE_CHECKING:
    from streamcore.sse.response import SSEResponse


async def relay_response(
    relay: Relay,
    source: Source,
    last_event_id: str | None,
    format: Format = "text",  # noqa: A002  the word that users know
    *,
    run_id: str | None = None,
    owner: str = "",
    headers: Mapping[str, str] | None = None,
    describe: Describe | None = None,
    heartbeat: float = 15.0,
) -> SSEResponse:
    """Produce an answer in the background and stream it; or stream the rest of the one that a client had begun to read.

    The messages' ids name the run, so that an EventSource or HTMX that reconnects to the same URL, at whichever worker
    of this relay's log, gets exactly the rest. It gets an error and an end, and no second run, if there is no rest.

    Args:
        relay: the open relay.
        source: what to stream, as in `Relay.start`; best a function, which is not called for a client that comes back.
        last_event_id: the request's header `Last-Event-ID`, None without one.
        format: see `streamcore.sse.Format`.
        run_id: the run's name, if the page has chosen one, which nobody can guess: then also a client that comes back
            without an id begins no second run. It gets the run from its beginning.
        owner: who asks; nobody else can read or stop the run.
        headers: see `sse_response`.
        describe: see `sse_response`.
        heartbeat: see `sse_response`.

    Raises:
        TooManyRuns: as many runs are going on as may be; a status 429 would be right.
        RelayError: the log cannot be reached.
        ConfigError: the relay is not open, or sse-starlette is missing.
    """
    place = None
    if last_event_id:
        await _close(source)
        place = read_place(last_event_id) or Place()
        run_id = place.run
    else:
        run_id = run_id or secrets.token_urlsafe(9)
        try:
            await relay.start(run_id, source, owner=owner)
        except RunExists:
            await _close(source)
    return await run_response(
        relay, run_id, place, format, who=owner, headers=headers, describe=describe, heartbeat=heartbeat
    )


async def run_response(
    relay: Relay,
    run_id: str,
    place: Place | None = None,
    format: Format = "text",  # noqa: A002  the word that users know
    *,
    who: str = "",
    headers: Mapping[str, str] | None = None,
    describe: Describe | None = None,
    heartbeat: float = 15.0,
) -> SSEResponse:
    """Stream a run to a browser from a place on, which its `Last-Event-ID` tells (`streamcore.sse.read_place`).

    A client that goes ends nothing. One that has had the end gets the end again.

    Args:
        relay: the open relay.
        run_id: the run's name.
        place: how far the client has come; None: it comes for the first time, and gets the run from its beginning.
        format: see `streamcore.sse.Format`.
        who: who reads, for the relay's `access`.
        headers: see `sse_response`.
        describe: see `sse_response`.
        heartbeat: see `sse_response`.

    Raises:
        RunNotFound: there is no such run for this reader, who gave no place; with one, the stream tells it.
        RelayError: the log cannot be reached.
    """
    if place is None:
        await relay.status(run_id, who=who)
        place = Place()
    after = place.after
    if after is None:
        try:
            after = (await relay.status(run_id, who=who)).seq - 1
        except RunNotFound:
            after = 0
    reader = relay.read(run_id, after, who=who)
    retry = random.uniform(0.5, 1.5)  # noqa: S311  a broken proxy's clients must not all come back at once
    return sse_response(
        reader,
        format,
        ids=run_id,
        after=Place(run_id, after, place.held),
        retry=retry,
        headers=headers,
        describe=describe,
        heartbeat=heartbeat,
    )


async def _close(source: Source) -> None:
    """Close a source that is not needed."""
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
