"""Send a request whose answer is one small JSON object, and read a number in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

import msgspec

from streamcore.errors import ServerError
from streamcore.net.credentials import credentials, scrub_error
from streamcore.net.http_errors import request_id
from streamcore.net.raw_response import not_encodable

if TYPE_CHECKING:
    import httpx2


async def read_count(
    send: Callable[[], Awaitable[httpx2.Response]],
    field: str,
    secrets: Callable[[], Iterable[str]],
    *,
    provider: str,
    model: str,
) -> int:
    """Send a request and return the number in one field of its answer.

    Args:
        send: sends the request and returns the response, of status 200; it maps the errors of its SDK.
        field: the field of the answer.
        secrets: returns what no error may show.
        provider: the provider's name, for errors.
        model: the model, for errors.

    Raises:
        ProviderError: the vendor refused the request, or its answer has no such number.
        ConfigError: the request cannot be sent.
    """
    from streamcore.net.error_body import with_short_body

    response: httpx2.Response | None = None
    try:
        response = await with_short_body(await send())
        return _number(response, field, provider, model)
    except UnicodeEncodeError as error:
        raise not_encodable(error) from None  # the error has the whole text, which may be the API key
    except Exception as error:
        scrub_error(error, [*secrets(), *([] if response is None else credentials(response.request))])
        raise


def _number(response: httpx2.Response, field: str, provider: str, model: str) -> int:
    try:
        body: object = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, ValueError, RecursionError):
        body = None
    value: object = cast("dict[str, Any]", body).get(field) if isinstance(body, dict) else None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ServerError(
            f"the answer to a count of tokens has no number {field!r}",
            provider=provider,
            model=model,
            status=response.status_code,
            request_id=request_id(response),
        )
    return value
