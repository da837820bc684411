"""Reduce an error to what the reader of a stream may know: its kind, and a reference to the log."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from streamcore import errors
from streamcore.completion import Attempt
from streamcore.errors import ConfigError, NodeError, OutputValidationError, StreamcoreError, StreamInterrupted

E = TypeVar("E", bound=Exception)

_REFERENCE = "reference"
_PUBLIC = "public"

_TROUBLES: Sequence[tuple[type[StreamcoreError], str]] = (
    (errors.RateLimitError, "the model's provider accepts no more requests at the moment; try again later"),
    (errors.OverloadedError, "the model's provider is overloaded; try again later"),
    (errors.ServerError, "the model's provider failed; try again later"),
    (errors.ConnectionFailed, "the model's provider cannot be reached; try again later"),
    (errors.ContentRefused, "the model refused to answer"),
    (errors.AuthenticationError, "the model's provider refused the service; tell its operator"),
    (errors.ProviderError, "the model's provider refused the request; tell the service's operator"),
    (errors.StreamTimeout, "the answer took too long; ask again"),
    (errors.StreamInterrupted, "the answer was cut off; ask again"),
    (errors.StreamError, "the answer could not be read; ask again"),
    (errors.OutputValidationError, "the answer does not have the form that the service needs; ask again"),
    (errors.RunLimitReached, "the run reached a limit of the service"),
    (errors.ThreadConflict, "another request has changed this conversation; ask again"),
    (errors.RunExpired, "this answer can no longer be read; ask again"),
    (errors.RelayError, "answers cannot be stored at the moment; try again later"),
    (errors.DurableError, "answers cannot be stored at the moment; try again later"),
    (errors.CheckpointError, "the conversation cannot be saved or loaded at the moment; try again later"),
)
OTHER = "the service failed; its log has the details"


def public_message(error: Exception) -> str:
    """Return what the reader of a stream may know about an error: its category, and a reference id.

    Never the text of the error, which may have words of the vendor, names of files and hosts, or secrets. The log has
    the text, with the same id. Only messages of streamcore itself, about a stream that it ended, are returned as they
    are.
    """
    if vars(error).get(_PUBLIC) is True:
        return str(error)
    return f"{_trouble(error)} (reference {reference(error)})"


def reference(error: Exception) -> str:
    """Return the id of an error in messages and in the log; it is made once for each error."""
    found = vars(error).get(_REFERENCE)
    if not isinstance(found, str):
        found = secrets.token_hex(4)
        with suppress(AttributeError, TypeError):  # an error with attributes of its own kind
            setattr(error, _REFERENCE, found)
    return found


def described_in_log(error: Exception) -> tuple[str, Exception | None]:
    """Return the log's message about an error, and the error if its traceback helps.

    The text of an answer is not logged, so of an answer that does not fit its schema there is only the class.
    """
    cause = error.__cause__ if isinstance(error, NodeError) else None
    silent = isinstance(error, OutputValidationError) or isinstance(cause, OutputValidationError)
    text = "" if silent else f": {error}"
    unexpected = cause if isinstance(cause, Exception) else error
    trace = not isinstance(unexpected, StreamcoreError) or isinstance(unexpected, ConfigError)
    return f"{type(error).__name__} (reference {reference(error)}){text}", error if trace else None


def failure_fields(error: Exception) -> dict[str, Any]:
    """Return the attributes of the log's record about an error: its class, its reference, what the vendor sent."""
    cause = error.__cause__ if isinstance(error, NodeError) else None
    failed = error if cause is None else cause
    return {
        "event": "failure",
        "error": type(failed).__name__,
        "reference": reference(error),
        **vendor_fields(failed),
    }


def vendor_fields(error: BaseException | None) -> dict[str, Any]:
    """Return what a vendor's error says beside its text, for attributes of the log's records."""
    if not isinstance(error, errors.ProviderError):
        return {}
    return {name: getattr(error, name) for name in ("provider", "model", "status", "code", "request_id")}


def interrupted(message: str) -> StreamInterrupted:
    """Return the error for a stream that streamcore ended, whose message may be sent to readers."""
    return public(StreamInterrupted(message))


def public(error: E) -> E:
    """Mark an error whose message is streamcore's own and may be sent to readers; return it."""
    setattr(error, _PUBLIC, True)
    return error


def without_texts(attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """Return the attempts of an answer with the classes of their errors only."""
    return tuple([one if one.error is None else replace(one, error=_class_of(one.error)) for one in attempts])


def _class_of(text: str) -> str:
    name = text.partition(":")[0]
    return name if hasattr(errors, name) else "error"


def _trouble(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, NodeError) else None
    if cause is not None:
        return _trouble(cause)
    return next((text for kind, text in _TROUBLES if isinstance(error, kind)), OTHER)
