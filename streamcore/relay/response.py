"""Answer ASGI requests with runs: a client that reconnects continues where its connection broke."""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from streamcore.errors import InvalidRunId, RunExists, RunNotFound
from streamcore.relay.producer import Source
from streamcore.relay.relay import Relay
from streamcore.sse import Describe, EventId, Format, parse_event_id, sse_response

if TYPE_CHECKING:
    from starlette.responses import Response

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


async def history_response(
    relay: Relay,
    run_id: str,
    format: Format = "json",  # noqa: A002  the word that users know
    *,
    who: str = "",
    if_none_match: str | None = None,
    max_age: float = 0.0,
    headers: Mapping[str, str] | None = None,
    describe: Describe | None = None,
    heartbeat: float = 15.0,
    cost: bool = False,
) -> Response:
    """Send a run from its beginning, so that browsers and proxies can keep it once it has ended.

    A run that has ended never changes: its response has an `ETag`, and `Cache-Control: private`, or `public` if the run
    has no owner. A client that sends the tag back gets status 304 and no body. A run that has not ended is streamed as
    by `run_response`, and is not kept.

    Args:
        relay: the open relay.
        run_id: the run's name.
        format: see `streamcore.sse.Format`.
        who: who reads, for the relay's `access`.
        if_none_match: the request's header `If-None-Match`, None without one.
        max_age: seconds for which a client may show it without asking again, at most what the log's `keep` leaves; 0:
            it asks each time, so that access is checked each time.
        headers: see `sse_response`.
        describe: see `sse_response`.
        heartbeat: see `sse_response`.
        cost: see `sse_response`.

    Raises:
        RunNotFound: this reader has no such run.
        RelayError: the log cannot be reached.
    """
    status = await relay.status(run_id, who=who)
    end = None
    if status.state == "ended":
        last = await relay.log.read(run_id, status.seq - 1, 0)
        end = None if last is None else last.end
    if end is None:
        return await run_response(
            relay, run_id, None, format, who=who, headers=headers, describe=describe, heartbeat=heartbeat, cost=cost
        )
    # The name alone would not do: once it has expired, another run may have it.
    tag = f'"{hashlib.sha256(f"{run_id} {status.seq} {format} {cost} ".encode() + end).hexdigest()[:32]}"'
    whose, age = "private" if status.owner else "public", f"max-age={max_age:.0f}" if max_age > 0 else "no-cache"
    known = {**(headers or {}), "ETag": tag, "Cache-Control": f"{whose}, {age}"}
    if if_none_match is not None and {"*", tag} & {one.strip().removeprefix("W/") for one in if_none_match.split(",")}:
        from starlette.responses import Response

        return Response(status_code=304, headers=known)
    reader = relay.read(run_id, 0, who=who)
    return sse_response(reader, format, ids=run_id, headers=known, describe=describe, heartbeat=heartbeat, cost=cost)


async def _close(source: Source) -> None:
    """Close a source that is not used."""
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
