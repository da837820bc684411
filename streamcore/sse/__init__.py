"""Send a stream to a browser: encode it as Server-Sent Events, and answer an ASGI request with them."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Mapping
from typing import TYPE_CHECKING, Any, cast, get_args

from streamcore.errors import ConfigError, install_command
from streamcore.sse.client_formats import ClientFormat, client_encoder, client_headers
from streamcore.sse.encoder import Describe, Encoder, Format, Item, encode, unknown_format
from streamcore.sse.event_id import EventId, parse_event_id
from streamcore.sse.public import public_message
from streamcore.sse.shutdown import end_streams

if TYPE_CHECKING:
    from streamcore.sse.response import SSEResponse

__all__ = [
    "ClientFormat",
    "Describe",
    "Encoder",
    "EventId",
    "Format",
    "Item",
    "Place",
    "encode",
    "end_streams",
    "parse_event_id",
    "public_message",
    "read_place",
    "sse_response",
]

Place = EventId
"""The name of `EventId` in earlier versions."""
read_place = parse_event_id
"""The name of `parse_event_id` in earlier versions."""


def sse_response(
    source: AsyncIterable[Item],
    format: Format | ClientFormat = "text",  # noqa: A002  the word that users know
    *,
    ids: bool | str = True,
    after: int | EventId | None = None,
    retry: float | None = None,
    wait: bool = False,
    heartbeat: float = 15.0,
    grace: float = 2.0,
    send_timeout: float | None = 60.0,
    headers: Mapping[str, str] | None = None,
    describe: Describe | None = None,
    cost: bool = False,
    run_input: Mapping[str, Any] | None = None,
) -> SSEResponse:
    """Return the response that streams `source` to a browser, for Starlette, FastAPI and any other ASGI service.

    The response owns the source and closes it, and with it the vendor's response, in every case: at the end, when the
    client disconnects (before the first token, in the middle, or while it does not read), when the server stops. It
    always sends an end, see `Encoder`. A client that reconnects, recognized by `ids`, gets an end and no second answer.

    Args:
        source: a `Stream`, what `execute_prompt_streaming`, `stream_graph_with_tokens` or `stream_node_output`
            return, or any async iterable of `str`, chunks or graph events.
        format: see `Format`; of these only `json` can tell a restart. Or see `ClientFormat`: then `ids`, `after` and
            `retry` have no meaning, and after an error the connection is broken, since these clients take a body that
            ends properly for a complete answer.
        ids: add an id to each event, see `encode`.
        after: what the client already has, where the source continues for a client that reconnects.
        retry: seconds that a browser waits before it reconnects; None: the browser's default.
        wait: send no headers before the first event, so that an error before it becomes a status (502, 503, 504, 500)
            with a JSON body. Without, the status is 200 and the error an event.
        heartbeat: seconds between comments that keep the connection alive; 0 for none.
        grace: seconds for the end to reach the client when the server stops: uvicorn at SIGTERM, any server that
            cancels open requests, or `end_streams`.
        send_timeout: seconds that a heartbeat or the end may take before the client counts as gone; None: no limit.
        headers: more headers.
        describe: returns the message that clients get for an error; None: `public_message`.
        cost: add the cost to the last event, see `encode`.
        run_input: in the format `agui` the request, a `RunAgentInput` as JSON: the events have its `threadId` and
            `runId`, `state` is what a graph starts with, and with its `messages` an answer that began again is taken
            back. Without, the ids are random.

    Raises:
        TypeError: the source is not an async iterable, for example a coroutine that was not awaited.
        ConfigError: starlette is not installed, there is no such format, or the source may restart and the format
            cannot tell.
    """
    given: Any = source
    if not isinstance(given, AsyncIterable):
        if inspect.iscoroutine(given):
            given.close()
        raise TypeError(
            "source is a Stream, the result of execute_prompt_streaming or of a graph, or another async iterable, "
            f"not a {type(given).__name__}"
        )
    try:
        from streamcore.sse.response import SSEResponse
    except ImportError as error:
        raise ConfigError(
            f"sse_response needs the package 'starlette', which is not installed; run: {install_command('server')}"
        ) from error
    of_client = format in get_args(ClientFormat)
    if of_client:
        encoder = client_encoder(cast("ClientFormat", format), wait=wait, describe=describe, run_input=run_input)
        headers = {**client_headers(cast("ClientFormat", format)), **(headers or {})}
    elif format not in get_args(Format):
        raise unknown_format(format, Format, ClientFormat)
    else:
        encoder = encode(cast("Format", format), ids=ids, after=after or 0, retry=retry, describe=describe, cost=cost)
    return SSEResponse(
        source,
        encoder,
        resumes=after is not None or of_client,
        wait=wait,
        heartbeat=heartbeat,
        grace=grace,
        send_timeout=send_timeout,
        headers=headers,
        breaks=of_client,
    )
