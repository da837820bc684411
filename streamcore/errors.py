"""Define all errors that streamcore raises, and the table that maps vendors' errors to them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard, cast

from streamcore.base.error import StreamcoreError as StreamcoreError
from streamcore.base.error import ToolArgumentsError as ToolArgumentsError
from streamcore.base.redact import encodable
from streamcore.completion import Attempt
from streamcore.request import Message


def install_command(extra: str) -> str:
    """Return the command that installs an extra of this distribution, from its checkout."""
    return f'pip install -e ".[{extra}]"'


class ConfigError(StreamcoreError):
    """Report an argument, a setting or a file that is not valid.

    If a fallback cannot be asked, for example because its key is missing, `__cause__` is the error that led to it.
    """

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every attempt that was made, in order; empty if the error was raised before the first one."""
        return () if self.partial is None else self.partial.attempts


class PromptNotFound(ConfigError):  # noqa: N818
    """Report that there is no prompt with this name; the message lists every path that was tried."""


class PromptError(ConfigError):
    """Report a prompt file, or variables for it, that are not valid; the message has the file and the line."""


class GraphError(ConfigError):
    """Report a graph file that is not valid; the message has the file and the line."""


class ProviderNotFound(ConfigError):  # noqa: N818
    """Report that no provider with this name is installed."""


class ProviderNotInstalled(ConfigError):  # noqa: N818
    """Report that a known provider's SDK is not installed; the message has the command that installs it."""


class MissingAPIKey(ConfigError):  # noqa: N818
    """Report that neither an argument nor the environment has the provider's API key."""


class UnsupportedField(ConfigError):  # noqa: N818
    """Report a part of a request that a provider's API cannot express.

    Attributes:
        field: the field of `Request`, as in `seed`.
    """

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class ProviderError(StreamcoreError):
    """Report that a vendor refused a request, failed, or could not be reached.

    Attributes:
        provider: the provider's name; None if it is not known.
        model: the model of the request; None if it is not known.
        status: the HTTP status, or the status in an error event of a stream that began with 200; else None.
        code: the vendor's code or type of the error.
        request_id: the vendor's id of the request, for its support.
        retryable: True if the same request may succeed later.
        retry_after: the seconds that the vendor asks to wait, or None.
        attempts: every attempt that was made, in order.
        body: the error as the vendor sent it: decoded JSON, or text; None if there was no body.
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
    """Report that the vendor refused the API key or its permissions (401, 403)."""


class NotFoundError(ProviderError):
    """Report that the vendor has no such model or address (404)."""


class RateLimitError(ProviderError):
    """Report that a rate limit or a quota of the vendor was exceeded (429)."""

    default_retryable = True


class OverloadedError(ProviderError):
    """Report that the vendor has no capacity at the moment (503, 529)."""

    default_retryable = True


class ServerError(ProviderError):
    """Report a failure of the vendor's server (any other 5xx)."""

    default_retryable = True


class BadRequestError(ProviderError):
    """Report that the vendor does not accept the request (any other 4xx)."""


class ConnectionFailed(ProviderError):  # noqa: N818
    """Report that there was no response: the connection was refused or reset, or DNS or TLS failed."""

    default_retryable = True


class ContentRefused(ProviderError):  # noqa: N818
    """Report that the model refused, or that a content filter stopped it, before any text was received."""


class StreamError(StreamcoreError):
    """Report a stream that began and did not end as its format requires."""

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every attempt that was made, in order."""
        return () if self.partial is None else self.partial.attempts


class StreamInterrupted(StreamError):  # noqa: N818
    """Report that the bytes or the connection ended before the vendor marked the end of the answer."""


class StreamTimeout(StreamError):  # noqa: N818
    """Report that one of the limits in `Timeouts` was exceeded.

    Attributes:
        clock: the name of the limit: `first_token`, `stall`, `silence` or `total`.
        seconds: the limit in seconds; None if it is not known.
    """

    def __init__(self, message: str, *, clock: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.clock = clock
        self.seconds = seconds


class AnswerTooLarge(StreamError):  # noqa: N818
    """Report an answer of more bytes than `max_bytes` (`limit`) allows; `partial` has what was received."""

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class MalformedStream(StreamError):  # noqa: N818
    """Report data that are not a valid stream: broken JSON, invalid UTF-8, an HTML page, an event that is too long."""


class OutputValidationError(StreamcoreError):
    """Report that a complete answer does not fit its schema.

    Attributes:
        errors: the reasons, as pydantic's `ValidationError.errors()` returns them: mappings with `type`, `loc`, `msg`
            and `input`. Empty if there was nothing to validate: the model refused, or a filter or the token limit
            ended the answer.
    """

    def __init__(self, message: str, *, errors: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class NodeError(StreamcoreError):
    """Report that a node of a graph failed.

    Attributes:
        graph: the graph's name.
        node: the node's name.
    """

    def __init__(self, message: str, *, graph: str = "", node: str = "") -> None:
        super().__init__(message)
        self.graph = graph
        self.node = node

    @property
    def cause(self) -> BaseException | None:
        """The error that the node raised."""
        return self.__cause__


class RunLimitReached(StreamcoreError):  # noqa: N818
    """Report that a run of a graph reached one of its limits (`streamcore.graph.limits.RunLimits`), or an answer its
    `max_cost`; see `limit`."""

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


class AgentLimitReached(StreamcoreError):  # noqa: N818
    """Report that an agent reached `max_steps`, `max_tool_calls` or `max_cost`; `partial` has everything that arrived.

    Attributes:
        limit: the name of the limit.
        messages: the whole conversation (`Message`), with a result for every call, so that it can be continued.
    """

    def __init__(self, message: str, *, limit: str, messages: Sequence[Message] = ()) -> None:
        super().__init__(message)
        self.limit = limit
        self.messages = tuple(messages)


class ToolError(StreamcoreError):
    """Report that a tool failed, with a text that the model gets without the name of the class; a tool may raise it.

    The tools of an MCP server raise it for errors that the server reports.
    """


class ToolServerError(StreamcoreError):
    """Report that an MCP server cannot be started or reached, has ended, or did not answer in time."""


class CheckpointError(StreamcoreError):
    """Report that a thread cannot be saved or loaded: not plain JSON, damaged data, a full disk, a lost server."""


class ThreadConflict(StreamcoreError):  # noqa: N818
    """Report that another worker changed the thread after it was loaded.

    Attributes:
        thread: the thread's id.
        expected: the version that was loaded; 0 for a new thread.
        found: the version that is saved now; 0 if there is none.
    """

    def __init__(self, message: str, *, thread: str, expected: int, found: int) -> None:
        super().__init__(message)
        self.thread = thread
        self.expected = expected
        self.found = found


class DurableError(StreamcoreError):
    """Report that the database of durable runs cannot be reached, or refused an operation."""


class RelayError(StreamcoreError):
    """Report that a run of the relay cannot be started or read, since its log failed; subclasses have other reasons."""


class RunNotFound(RelayError):  # noqa: N818
    """Report that there is no run with this id, or that it belongs to another owner; the error is the same for both."""


class RunExpired(RunNotFound):
    """Report that a run is no longer stored: it is too old, or the store lost its data."""


class RunExists(RelayError):  # noqa: N818
    """Report that a run with this id already exists, on this worker or another; it can be read."""


class InvalidRunId(RelayError):  # noqa: N818
    """Report a run id that is not 1 to 64 characters of A-Z a-z 0-9 _ ~ -; answer its client with status 400."""


class TooManyRuns(RelayError):  # noqa: N818
    """Report that this worker, or this owner, already has its maximum number of simultaneous runs."""


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
    "accessdeniedexception": AuthenticationError,
    "api_error": ServerError,
    "authentication_error": AuthenticationError,
    "billing_error": BadRequestError,
    "context_length_exceeded": BadRequestError,
    "expiredtokenexception": AuthenticationError,
    "insufficient_quota": RateLimitError,
    "insufficient_system_resource": OverloadedError,
    "internal_error": ServerError,
    "internal_server_error": ServerError,
    "internalserverexception": ServerError,
    "invalid_api_key": AuthenticationError,
    "invalid_argument": BadRequestError,
    "invalid_model": NotFoundError,
    "invalid_prompt": BadRequestError,
    "invalid_request_error": BadRequestError,
    "modelerrorexception": ServerError,
    "modelnotreadyexception": OverloadedError,
    "modelstreamerrorexception": ServerError,
    "modeltimeoutexception": ServerError,
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
    "resourcenotfoundexception": NotFoundError,
    "server_error": ServerError,
    "server_is_overloaded": OverloadedError,
    "service_unavailable": OverloadedError,
    "servicequotaexceededexception": RateLimitError,
    "serviceunavailableexception": OverloadedError,
    "slow_down": OverloadedError,
    "throttlingexception": RateLimitError,
    "timeout_error": ServerError,
    "tokens": RateLimitError,
    "too_many_requests": RateLimitError,
    "unauthenticated": AuthenticationError,
    "unavailable": OverloadedError,
    "unrecognizedclientexception": AuthenticationError,
    "validationexception": BadRequestError,
}
"""The error class for each `type` and `code` in an error event of a stream whose HTTP status was 200."""
_NEVER_RETRYABLE = frozenset({"insufficient_quota"})


def class_for_status(status: int) -> type[ProviderError]:
    """Return the error class for an HTTP status of 400 or above."""
    return _BY_STATUS.get(status, ServerError if status >= 500 else BadRequestError)


def provider_error(
    body: object,
    *,
    status: int | None = None,
    fallback: str = "the provider reported an error",
    **facts: Any,
) -> ProviderError:
    """Return the `ProviderError` for an error that a vendor sent.

    Args:
        body: the decoded JSON: the object under `error`, or an object that contains it; or a text.
        status: the HTTP status; one of 400 or above selects the class. Without it, `type` and `code` in the body do.
        fallback: the message if the body has none.
        facts: other attributes of `ProviderError`, as `provider` and `model`.
    """
    error = _error_object(body)
    codes = [str(error[key]) for key in _CODE_KEYS if error.get(key) not in (None, "")]
    if status is None:
        # Gateways put the status that they received upstream into the event.
        status = next((int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)), None)
    by_code = next((BY_WORD[code.lower()] for code in codes if code.lower() in BY_WORD), None)
    kind = class_for_status(status) if status is not None and status >= 400 else by_code or ServerError
    if status == 400 and by_code is NotFoundError:
        kind = NotFoundError  # several gateways answer 400 to a model that they do not have
    retryable = kind.default_retryable or status in _RETRYABLE_STATUS
    if _NEVER_RETRYABLE.intersection(codes):
        retryable = False
    message = next((error[key] for key in _MESSAGE_KEYS if error.get(key)), fallback)
    return kind(
        encodable(message if isinstance(message, str) else str(message)),
        status=status,
        code=encodable(codes[0]) if codes else None,
        retryable=retryable,
        body=body or None,
        **facts,
    )


_CODE_KEYS = ("code", "type", "status", "status_code", "error_code", "errorCode")
_MESSAGE_KEYS = ("message", "detail", "msg", "error_msg", "errorMessage", "error_message", "status_msg", "title")
_NESTED_KEYS = ("error", "errors", "fault", "detail", "base_resp")  # where vendors put the error's own object


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


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
