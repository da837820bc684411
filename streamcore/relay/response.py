"""Answer ASGI requests with runs: a client that reconnects continues where its connection broke."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from streamcore.errors import InvalidRunId, RunExists, RunNotFound
from streamcore.relay.producer import Source
from streamcore.relay.relay import Relay
from streamcore.sse import Describe, EventId, Format, parse_event_id, sse_response

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
    """Produce an answer in the background and stream it, or stream the rest of an answer to a client that reconnects.

    The events' ids name the run. An EventSource or HTMX that reconnects to the same URL, at any worker that shares this
    relay's log, gets exactly the rest. If there is no rest, it gets an error and an end, and no second run.

    Args:
        relay: the open relay.
        source: what to stream, see `Relay.start`; a function is not called for a client that reconnects.
        last_event_id: the request's header `Last-Event-ID`, None without one.
        format: see `streamcore.sse.Format`.
        run_id: a name that the page chose and no client can guess, 1 to 64 characters of A-Z a-z 0-9 _ ~ -. A client
            that reconnects without an id then starts no second run, but gets the run from its beginning. None: a
            random name.
        owner: the user; no other user can read or stop the run.
        headers: see `sse_response`.
        describe: see `sse_response`.
        heartbeat: see `sse_response`.

    Raises:
        InvalidRunId: `run_id` has other characters, or too many; answer with status 400.
        TooManyRuns: the relay's limit is reached; answer with status 429.
        RelayError: the log cannot be reached.
        ConfigError: the relay is not open, or starlette is not installed.
    """
    event_id = None
    if last_event_id:
        await _close(source)
        event_id = parse_event_id(last_event_id) or EventId()
        run_id = event_id.run
    else:
        run_id = run_id or secrets.token_urlsafe(9)
        try:
            await relay.start(run_id, source, owner=owner)
        except RunExists:
            await _close(source)
        except InvalidRunId:
            await _close(source)
            raise
    return await run_response(
        relay, run_id, event_id, format, who=owner, headers=headers, describe=describe, heartbeat=heartbeat
    )


async def run_response(
    relay: Relay,
    run_id: str,
    event_id: EventId | None = None,
    format: Format = "text",  # noqa: A002  the word that users know
    *,
    who: str = "",
    headers: Mapping[str, str] | None = None,
    describe: Describe | None = None,
    heartbeat: float = 15.0,
    cost: bool = False,
) -> SSEResponse:
    """Stream a run to a browser, from the event that its `Last-Event-ID` names (`streamcore.sse.parse_event_id`).

    A client that disconnects does not end the run. One that has received the end gets the end again.

    Args:
        relay: the open relay.
        run_id: the run's name.
        event_id: the last event that the client has; None: it has none, and gets the run from its beginning.
        format: see `streamcore.sse.Format`.
        who: who reads, for the relay's `access`.
        headers: see `sse_response`.
        describe: see `sse_response`.
        heartbeat: see `sse_response`.
        cost: see `sse_response`.

    Raises:
        RunNotFound: this reader has no such run, and `event_id` is None; with an `event_id`, the stream reports it.
        RelayError: the log cannot be reached.
    """
    if event_id is None:
        await relay.status(run_id, who=who)
        event_id = EventId()
    after = event_id.after
    if after is None:
        try:
            after = (await relay.status(run_id, who=who)).seq - 1
        except RunNotFound:
            after = 0
    reader = relay.read(run_id, after, who=who)
    retry = random.uniform(0.5, 1.5)  # noqa: S311  clients of a broken proxy must not all reconnect at once
    return sse_response(
        reader,
        format,
        ids=run_id,
        after=EventId(run_id, after, event_id.withheld),
        retry=retry,
        headers=headers,
        describe=describe,
        heartbeat=heartbeat,
        cost=cost,
    )


async def _close(source: Source) -> None:
    """Close a source that is not used."""
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
