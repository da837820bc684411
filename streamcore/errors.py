"""Define the one tree of errors that streamcore raises, and the table that sorts vendors' errors into it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard, cast

from streamcore.completion import Attempt, Completion


def install_command(extra: str) -> str:
    """Return the command that installs an extra of this distribution, from its checkout."""
    return f'pip install -e ".[{extra}]"'


class StreamcoreError(Exception):
    """The root of every error of streamcore. `partial` is the answer as far as it came, None where none began.

    Errors can be pickled and copied: a process pool and `copy.deepcopy` keep all attributes.
    """

    partial: Completion | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args), self.__dict__


def _rebuilt(kind: type[StreamcoreError], args: tuple[Any, ...]) -> StreamcoreError:
    """Make an error again without its constructor, which wants keyword arguments that `args` does not have."""
    error = kind.__new__(kind, *args)
    error.args = args
    return error


class ConfigError(StreamcoreError):
    """Something that the caller wrote cannot work: an argument, a setting, a file."""


class PromptNotFound(ConfigError):  # noqa: N818
    """No prompt of that name; the message lists every path that was tried."""


class PromptError(ConfigError):
    """A prompt file, or the variables for it, are wrong; the message has file and line."""


class GraphError(ConfigError):
    """A graph file is wrong; the message has file and line."""


class ProviderNotFound(ConfigError):  # noqa: N818
    """No provider of that name is installed."""


class ProviderNotInstalled(ConfigError):  # noqa: N818
    """The provider is known but the vendor's SDK is not installed; the message says what to install."""


class MissingAPIKey(ConfigError):  # noqa: N818
    """Neither an argument nor the environment holds the provider's key."""


class ProviderError(StreamcoreError):
    """The vendor said no, or could not be reached.

    Attributes:
        provider, model: whom was asked for what, where known.
        status: the HTTP status, or the one that an error event inside a 200 stream names; else None.
        code: the vendor's word for the error.
        request_id: the vendor's id of the request, for its support.
        retryable: trying the same again may help.
        retry_after: seconds that the vendor asks to wait, or None.
        attempts: every try that was made.
        body: the error as the vendor sent it, decoded from JSON, or its text; None where nothing came.
    """

    default_retryable = False

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        model: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        body: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.model = model
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.attempts: tuple[Attempt, ...] = ()
        self.body = body

    def __str__(self) -> str:
        facts = [
            f"{name} {value}"
            for name, value in (
                ("model", self.model),
                ("status", self.status),
                ("code", self.code),
                ("request", self.request_id),
                ("retry after", None if self.retry_after is None else f"{self.retry_after:g} s"),
            )
            if value is not None
        ]
        prefix = f"{self.provider}: " if self.provider else ""
        return f"{prefix}{self.message}" + (f" ({', '.join(facts)})" if facts else "")


class AuthenticationError(ProviderError):
    """The vendor refused the key or its rights (401, 403)."""


class NotFoundError(ProviderError):
    """The vendor knows no such model or address (404)."""


class RateLimitError(ProviderError):
    """Too much was asked in too short a time (429)."""

    default_retryable = True


class OverloadedError(ProviderError):
    """The vendor has no capacity right now (503, 529)."""

    default_retryable = True


class ServerError(ProviderError):
    """The vendor failed (any other 5xx)."""

    default_retryable = True


class BadRequestError(ProviderError):
    """The vendor does not accept the request (any other 4xx)."""


class ConnectionFailed(ProviderError):  # noqa: N818
    """No answer at all: refused, unresolved, reset before the headers, TLS."""

    default_retryable = True


class ContentRefused(ProviderError):  # noqa: N818
    """The model refused, or a filter stopped it, before any text came."""


class StreamError(StreamcoreError):
    """A stream that had begun did not end properly."""


class StreamInterrupted(StreamError):  # noqa: N818
    """The bytes ended, or the connection broke, before the vendor's mark of the end."""


class StreamTimeout(StreamError):  # noqa: N818
    """A clock ran out; `clock` names it (`first_token`, `stall`, `silence`, `total`), `seconds` how long it was."""

    def __init__(self, message: str, *, clock: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.clock = clock
        self.seconds = seconds


class MalformedStream(StreamError):  # noqa: N818
    """What came is no such stream: broken JSON, invalid UTF-8, an HTML page, an event beyond the limit."""


class OutputValidationError(StreamcoreError):
    """The answer is whole but does not fit its schema.

    `errors` says why, as pydantic's `ValidationError.errors()` does: mappings with `type`, `loc`, `msg` and `input`.
    It is empty where there was nothing to check: the model refused, a filter or the token limit cut the answer.
    """

    def __init__(self, message: str, *, errors: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class NodeError(StreamcoreError):
    """A node of a graph failed; `graph` and `node` are their names, `cause` is the error itself."""

    def __init__(self, message: str, *, graph: str = "", node: str = "") -> None:
        super().__init__(message)
        self.graph = graph
        self.node = node

    @property
    def cause(self) -> BaseException | None:
        """What went wrong in the node."""
        return self.__cause__


class CheckpointError(StreamcoreError):
    """A thread could not be saved or loaded: not plain JSON, damaged, a full disk, a server that is gone."""


class ThreadConflict(StreamcoreError):  # noqa: N818
    """Another worker has changed the thread meanwhile: it stands at version `found`, not at `expected` (0: none)."""

    def __init__(self, message: str, *, thread: str, expected: int, found: int) -> None:
        super().__init__(message)
        self.thread = thread
        self.expected = expected
        self.found = found


class RelayError(StreamcoreError):
    """A run of the relay cannot be had: its log failed, or one of the reasons below."""


class RunNotFound(RelayError):  # noqa: N818
    """There is no run of that name, or it is not the reader's; the two look the same."""


class RunExpired(RunNotFound):
    """The run was there, since its reader has some of it, and is gone: too old, or the store came back empty."""


class RunExists(RelayError):  # noqa: N818
    """There is a run of that name already, on this worker or another; it can be read."""


class InvalidRunId(RelayError):  # noqa: N818
    """The name of a run is not 1 to 64 characters of A-Z a-z 0-9 _ ~ -; answer its client with status 400."""


class TooManyRuns(RelayError):  # noqa: N818
    """The limit of simultaneous runs is reached, of this worker or of this owner."""


_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    429: RateLimitError,
    503: OverloadedError,
    529: OverloadedError,
}
_RETRYABLE_STATUS = frozenset({408, 409, 429})

BY_WORD: dict[str, type[ProviderError]] = {
    "api_error": ServerError,
    "authentication_error": AuthenticationError,
    "billing_error": BadRequestError,
    "context_length_exceeded": BadRequestError,
    "insufficient_quota": RateLimitError,
    "insufficient_system_resource": OverloadedError,
    "internal_error": ServerError,
    "internal_server_error": ServerError,
    "invalid_api_key": AuthenticationError,
    "invalid_argument": BadRequestError,
    "invalid_model": NotFoundError,
    "invalid_prompt": BadRequestError,
    "invalid_request_error": BadRequestError,
    "model_not_found": NotFoundError,
    "not_found": NotFoundError,
    "not_found_error": NotFoundError,
    "overloaded": OverloadedError,
    "overloaded_error": OverloadedError,
    "permission_denied": AuthenticationError,
    "permission_error": AuthenticationError,
    "rate_limit_error": RateLimitError,
    "rate_limit_exceeded": RateLimitError,
    "rate_limited": RateLimitError,
    "request_too_large": BadRequestError,
    "resource_exhausted": RateLimitError,
    "server_error": ServerError,
    "server_is_overloaded": OverloadedError,
    "service_unavailable": OverloadedError,
    "slow_down": OverloadedError,
    "timeout_error": ServerError,
    "tokens": RateLimitError,
    "too_many_requests": RateLimitError,
    "unauthenticated": AuthenticationError,
    "unavailable": OverloadedError,
}
"""The class for each `type` and `code` of an error event inside a stream whose HTTP status was 200."""
_NEVER_RETRYABLE = frozenset({"insufficient_quota"})


def class_for_status(status: int) -> type[ProviderError]:
    """Return the class of an HTTP status of 400 or above."""
    return _BY_STATUS.get(status, ServerError if status >= 500 else BadRequestError)


def provider_error(
    body: object,
    *,
    status: int | None = None,
    fallback: str = "the provider reported an error",
    **facts: Any,
) -> ProviderError:
    """Sort a vendor's error into the tree.

    `body` is its JSON, decoded: the object under `error`, or one that has it. With a `status` of 400 or above, the
    status decides the class; without one, the words under `type` and `code` do. `facts` are attributes of
    `ProviderError`.
    """
    error = _error_object(body)
    words = [str(error[key]) for key in _CODE_KEYS if error.get(key) not in (None, "")]
    if status is None:
        # Gateways put the status that they got upstream into the event.
        status = next((int(word) for word in words if re.fullmatch(r"[45]\d\d", word)), None)
    by_word = next((BY_WORD[word.lower()] for word in words if word.lower() in BY_WORD), None)
    kind = class_for_status(status) if status is not None and status >= 400 else by_word or ServerError
    if status == 400 and by_word is NotFoundError:
        kind = NotFoundError  # several gateways answer 400 to a model that they do not have
    retryable = kind.default_retryable or status in _RETRYABLE_STATUS
    if _NEVER_RETRYABLE.intersection(words):
        retryable = False
    message = next((error[key] for key in _MESSAGE_KEYS if error.get(key)), fallback)
    return kind(
        _encodable(message if isinstance(message, str) else str(message)),
        status=status,
        code=_encodable(words[0]) if words else None,
        retryable=retryable,
        body=body or None,
        **facts,
    )


_CODE_KEYS = ("code", "type", "status", "status_code", "error_code", "errorCode")
_MESSAGE_KEYS = ("message", "detail", "msg", "error_msg", "errorMessage", "error_message", "status_msg", "title")
_NESTED_KEYS = ("error", "errors", "fault", "detail", "base_resp")  # where vendors put the error's own object


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _encodable(text: str) -> str:
    """Return the text with U+FFFD for each lone half of a surrogate pair, which no encoding can write."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _error_object(body: object) -> Mapping[str, Any]:
    if isinstance(body, str):
        return {"message": body} if body.strip() else {}
    if not isinstance(body, Mapping):
        return {}
    given = cast("Mapping[str, Any]", body)
    for key in _NESTED_KEYS:
        inner = given.get(key)
        if _is_list(inner) and inner:
            inner = inner[0]
        if isinstance(inner, Mapping):
            nested = cast("Mapping[str, Any]", inner)
            if key == "detail" and isinstance(given[key], list) and nested.get("msg"):  # FastAPI: what is invalid
                return {"message": nested["msg"]}
            if key in ("error", "fault") or any(nested.get(name) for name in (*_MESSAGE_KEYS, *_CODE_KEYS)):
                return nested
        if isinstance(inner, str) and inner and key != "detail":
            return {**given, "message": given.get("message") or inner}
    return given


def scrub(text: str, secrets: Iterable[str | None]) -> str:
    """Replace every secret in a text by `[secret]`; vendors and gateways echo keys in their answers."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[secret]")
    return text


def scrub_json(value: Any, secrets: Iterable[str | None]) -> Any:
    """Replace every secret in the strings of a JSON value by `[secret]`."""
    secrets = tuple(secrets)
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, Mapping):
        given = cast("Mapping[str, Any]", value)
        return {scrub(key, secrets): scrub_json(item, secrets) for key, item in given.items()}
    if _is_list(value):
        return [scrub_json(item, secrets) for item in value]
    return value
