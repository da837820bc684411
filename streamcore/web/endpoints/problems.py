"""Say what a client of an endpoint learns about an error: its kind, and a text without secrets."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import HTTPException

from streamcore import errors
from streamcore.sse.public import described_in_log, public_message
from streamcore.web.request_log import log_failed_request, log_refused_request
from streamcore.wire.encoding.wire import Problem, ProblemKind, RequestRefused, WireRequest

KINDS: tuple[tuple[type[Exception], ProblemKind], ...] = (
    (errors.RateLimitError, "rate_limit"),
    (errors.TooManyRuns, "rate_limit"),
    (errors.OverloadedError, "overloaded"),
    (errors.AuthenticationError, "failed"),
    (errors.NotFoundError, "not_found"),
    (errors.BadRequestError, "invalid"),
    (errors.StreamTimeout, "timeout"),
    (errors.RunNotFound, "not_found"),
    (errors.RelayError, "overloaded"),
    (errors.DurableError, "overloaded"),
    (errors.CheckpointError, "overloaded"),
)
"""The kind of each error; any other is `failed`. The operator's key is not the client's: its refusal is `failed`."""

_BY_STATUS: Mapping[int, ProblemKind] = {
    400: "invalid",
    401: "authentication",
    403: "permission",
    404: "not_found",
    408: "invalid",
    409: "conflict",
    413: "too_large",
    429: "rate_limit",
    503: "overloaded",
}
_SHOWN = (errors.NotFoundError, errors.BadRequestError, errors.TooManyRuns)
"""The errors about the client's own request, whose text it needs. Secrets have been removed from it."""


def problem_of(error: Exception, asked: WireRequest | None = None, *, passes_on: bool = False) -> Problem:
    """Return what the client learns about an error.

    Args:
        error: the error.
        asked: the request that failed, whose names of parameters are used.
        passes_on: whether the request went to a vendor as the client wrote it. Then the vendor's text about it is
            sent; else it would tell the client about the operator's prompts.
    """
    if isinstance(error, RequestRefused):
        return error.problem
    if isinstance(error, HTTPException):
        return Problem(_BY_STATUS.get(error.status_code, "failed"), str(error.detail), status=error.status_code)
    if isinstance(error, errors.UnsupportedField):
        param = asked.param(error.field) if asked is not None else error.field
        return Problem("invalid", f"{param} is not supported by this model, or not with this value", param)
    kind = _kind(error)
    shown = isinstance(error, _SHOWN) and (passes_on or isinstance(error, errors.TooManyRuns))
    if not shown and kind in ("invalid", "not_found") and not isinstance(error, errors.RunNotFound):
        kind = "failed"  # the operator's prompt or model is at fault, and not the client's request
    own = isinstance(error, errors.AuthenticationError)  # its code would read as if the client's key were refused
    code = error.code if isinstance(error, errors.ProviderError) and passes_on and not own else None
    message = error.message if shown and isinstance(error, errors.ProviderError) else str(error)
    return Problem(kind, message if shown else public_message(error), code=code, status=_gateway_status(error))


def _gateway_status(error: Exception) -> int | None:
    """Return the status of a vendor's gateway that failed, which clients try again on; None: that of the wire."""
    status = error.status if isinstance(error, errors.ServerError) else None
    return status if status in (502, 504) else None


def _kind(error: Exception) -> ProblemKind:
    for known, kind in KINDS:
        if isinstance(error, known):
            return kind
    return "failed"


def log_failure(error: Exception) -> None:
    """Write an error to the log, with the reference that the client has."""
    if isinstance(error, HTTPException):
        log_refused_request(error)
    elif not isinstance(error, RequestRefused | errors.UnsupportedField):  # those are the client's own fault
        log_failed_request(error, *described_in_log(error))
