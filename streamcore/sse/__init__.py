"""Send a stream to a browser: encode it as Server-Sent Events, and answer an ASGI request with them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from typing import TYPE_CHECKING

from streamcore.errors import ConfigError, install_command
from streamcore.sse.encoder import Describe, Encoder, Format, Item, encode, public_message
from streamcore.sse.event_id import Place, read_place

if TYPE_CHECKING:
    from streamcore.sse.response import SSEResponse

__all__ = ["Describe", "Encoder", "Format", "Item", "Place", "encode", "public_message", "read_place", "sse_response"]


def sse_response(
    source: AsyncIterable[Item],
    format: Format = "text",  # noqa: A002  the word that users know
    *,
    ids: bool | str = True,
    after: int | Place | None = None,
    retry: float | None = None,
    wait: bool = False,
    heartbeat: float = 15.0,
    grace: float = 2.0,
    send_timeout: float | None = 60.0,
    headers: Mapping[str, str] | None = None,
    describe: Describe | None = None,
) -> SSEResponse:
    """Return the response that streams `source` to a browser, for Starlette, FastAPI and any other ASGI service.

    It owns the source and closes it, and with it the vendor's response, in every case: at the end, when the client
    goes (before the first token, in the middle, or while it does not read), when the server stops. It always sends an
    end, see `Encoder`; a client that reconnects all the same, which `ids` show, gets an end and no second answer.

    Args:
        source: a `Stream`, what `execute_prompt_streaming`, `stream_graph_with_tokens` or `stream_node_output`
            return, or any async iterable of `str`, chunks or graph events.
        format: see `Format`; `json` alone can tell a restart.
        ids: say in each message how many items have come; a str names the stream in them, see `encode`.
        after: the place that the first message follows, where the source goes on for a client that reconnects.
        retry: seconds after which a browser that lost the connection comes back; without, it decides.
        wait: send no headers before the first message, so that an error before it becomes a status (502, 503, 504,
            500) with a JSON body; without, everything is told inside a 200.
        heartbeat: seconds between comments that keep the connection alive; 0 for none.
        grace: seconds for the end to reach the client when the server is told to stop (SIGTERM, under uvicorn).
        send_timeout: seconds that a heartbeat may take; a client that does not take it counts as gone. None: never.
        headers: more headers.
        describe: what an error says to the client; without, `public_message`.

    Raises:
        ConfigError: sse-starlette is not installed, there is no such format, or the source may restart and the
            format cannot tell.
    """
    try:
        from streamcore.sse.response import SSEResponse
    except ImportError as error:
        raise ConfigError(
            f"sse_response needs the package 'sse-starlette', which is not installed; run: {install_command('server')}"
        ) from error
    return SSEResponse(
        source,
        encode(format, ids=ids, after=after or 0, retry=retry, describe=describe),
        resumes=after is not None,
        wait=wait,
        heartbeat=heartbeat,
        grace=grace,
        send_timeout=send_timeout,
        headers=headers,
    )
