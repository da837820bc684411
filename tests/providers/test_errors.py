"""Provoke every failure that a vendor or the network can answer with, and see which error of ours it becomes."""

from __future__ import annotations

import gzip
import json
import logging
import ssl
import traceback
import zlib
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google import genai
from google.genai.types import HttpOptions, HttpRetryOptions
from mistralai.client import Mistral
from mistralai.client.utils import BackoffStrategy, RetryConfig

from streamcore import (
    AuthenticationError,
    BadRequestError,
    Completion,
    ConfigError,
    ConnectionFailed,
    MalformedStream,
    NotFoundError,
    OverloadedError,
    Provider,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamcoreError,
    StreamInterrupted,
    StreamTimeout,
    get_provider,
    stream_request,
)
from streamcore.testing import Answer, FaultServer
from streamcore.wire.event_stream import encode_exception
from tests.support import (
    EVERY_RUN,
    GATEWAYS,
    KEY,
    RUNS,
    VENDORS,
    Vendor,
    address_of,
    ask,
    body_of,
    patient,
    wire_of,
)

pytestmark = pytest.mark.anyio
every_provider = pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)

TOKENS = ["One", " two", " three — 三", " four"]
TEXT = "".join(TOKENS)


async def failure(provider: Provider, kind: type[StreamcoreError] = StreamcoreError) -> Any:
    """Return the error that reading an answer raises."""
    with pytest.raises(kind) as caught:
        await stream_request(ask(), provider=provider, max_retries=0).collect()
    assert type(caught.value) is kind or kind is StreamcoreError
    return caught.value


# Statuses

STATUSES: list[tuple[int, type[ProviderError], bool]] = [
    (400, BadRequestError, False),
    (401, AuthenticationError, False),
    (403, AuthenticationError, False),
    (404, NotFoundError, False),
    (408, BadRequestError, True),
    (409, BadRequestError, True),
    (413, BadRequestError, False),
    (422, BadRequestError, False),
    (429, RateLimitError, True),
    (500, ServerError, True),
    (502, ServerError, True),
    (503, OverloadedError, True),
    (529, OverloadedError, True),
]
# Anthropic's reference, "Errors"; OpenAI's, "Error codes"; Mistral's OpenAPI description and its gateway.
ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
GOOGLE_WORDS = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
OPENAI_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}
REQUEST_ID_HEADERS = {
    "anthropic": "request-id",
    "openai": "x-request-id",
    "openai-responses": "x-request-id",
    "mistral": "mistral-correlation-id",
    "google": "x-request-id",
    "bedrock": "x-amzn-requestid",
}


AWS_ERRORS = {
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


OWN_STATUS = ("mistral", "google", "bedrock")
"""The providers that read the status themselves, below where their SDK would raise."""


def error_body(name: str, status: int, message: str) -> tuple[dict[str, Any], str | None]:
    """Return an error's body as the vendor writes it, and the word in it that is the code."""
    match name:
        case "anthropic":
            kind = ANTHROPIC_TYPES.get(status, "invalid_request_error")
            return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}, kind
        case "google":
            word = GOOGLE_WORDS.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
            return {"error": {"code": status, "message": message, "status": word}}, word
        case "bedrock":  # the name of the error is in a header
            return {"message": message}, AWS_ERRORS.get(status, "ValidationException")
        case "mistral" if status == 422:
            return {"detail": [{"type": "missing", "loc": ["body", "model"], "msg": message, "input": {}}]}, None
        case "mistral":
            body = {"object": "error", "message": message, "type": "invalid_request_error", "param": None}
            return body | {"code": "1300"}, "1300"
        case _:
            code = OPENAI_CODES.get(status)
            error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
            return {"error": error}, code or "invalid_request_error"


@every_provider
@pytest.mark.parametrize(("status", "kind", "retryable"), STATUSES)
async def test_a_status_becomes_its_class(name: str, status: int, kind: type[ProviderError], retryable: bool) -> None:
    body, code = error_body(name, status, "The vendor's own words.")
    headers = [("content-type", "application/json"), (REQUEST_ID_HEADERS[name], "req_42")]
    if name == "bedrock":
        headers.append(("x-amzn-errortype", f"{code}:http://internal.amazon.com/coral/com.amazon.bedrock/"))
    vendor = Vendor(json.dumps(body).encode(), status=status, headers=headers)
    error = await failure(vendor.provider(name), kind)
    assert "The vendor's own words." in str(error)
    assert (error.provider, error.model, error.status, error.code) == (name, "m", status, code)
    assert (error.request_id, error.retryable, error.retry_after) == ("req_42", retryable, None)
    assert isinstance(error.partial, Completion)
    assert (error.partial.text, error.partial.complete) == ("", False)
    assert [(attempt.provider, attempt.model) for attempt in error.attempts] == [(name, "m")]
    assert len(vendor.requests) == 1, "the SDK has retried"
    assert vendor.bodies[0].closed


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", [*VENDORS, *GATEWAYS])
@pytest.mark.parametrize("ready", [False, True])
async def test_no_sdk_retries_with_a_shared_or_a_given_client(name: str, ready: bool) -> None:
    vendor = Vendor(b"{}", status=503, headers=[("retry-after", "0")])
    http = vendor.client()
    clients: dict[str, Any] = {
        "anthropic": lambda: anthropic.AsyncAnthropic(api_key=KEY, http_client=http, max_retries=5),
        "mistral": lambda: Mistral(api_key=KEY, async_client=http, retry_config=eager()),
        "google": lambda: genai.Client(
            api_key=KEY,
            http_options=HttpOptions(httpx_async_client=http, retry_options=HttpRetryOptions(attempts=5)),
        ),
    }
    client = clients.get(name, lambda: openai.AsyncOpenAI(api_key=KEY, http_client=http, max_retries=5))
    given_client = ready and name != "bedrock"  # whose SDK has no asynchronous client
    settings: dict[str, Any] = {"client": client()} if given_client else {"http_client": http, "api_key": KEY}
    await failure(get_provider(name, model="m", **address_of(name), **settings), OverloadedError)
    assert len(vendor.requests) == 1


def eager() -> RetryConfig:
    return RetryConfig("backoff", BackoffStrategy(1, 2, 1.0, 1000), retry_connection_errors=True)


@every_provider
async def test_errors_without_json_keep_the_text_or_name_the_status(name: str) -> None:
    page = Vendor(b"<h1>upstream sent too big header</h1>", status=502, headers=[("content-type", "text/html")])
    assert "upstream sent too big header" in str(await failure(page.provider(name), ServerError))
    empty = Vendor(status=503)
    error = await failure(empty.provider(name), OverloadedError)
    assert "503" in str(error)
    listed = Vendor(
        b'[{"error": {"code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED"}}]', status=429
    )
    assert "Quota exceeded" in str(await failure(listed.provider(name), RateLimitError))


@every_provider
async def test_a_long_error_page_is_shortened(name: str) -> None:
    vendor = Vendor(b"x" * 100_000, status=500)
    assert len(str(await failure(vendor.provider(name), ServerError))) < 3000


@pytest.mark.parametrize(("anyio_backend", "name"), [("asyncio", "openai"), ("asyncio", "openai-responses")])
async def test_no_money_left_is_a_rate_limit_that_no_retry_helps(name: str) -> None:
    body = {
        "error": {
            "message": "You exceeded your current quota.",
            "code": "insufficient_quota",
            "type": "insufficient_quota",
        }
    }
    error = await failure(Vendor(json.dumps(body).encode(), status=429).provider(name), RateLimitError)
    assert (error.code, error.retryable) == ("insufficient_quota", False)


@every_provider
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "3600"}, 3600.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 10.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 -0000", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 10.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
    ],
    ids=str,
)
async def test_how_long_to_wait_is_read_from_every_form(
    name: str, headers: dict[str, str], expected: float | None
) -> None:
    error = await failure(Vendor(b"{}", status=429, headers=list(headers.items())).provider(name), RateLimitError)
    assert error.retry_after == expected


# No answer at all


def at(name: str, url: str) -> Provider:
    """Return a provider whose vendor is at this address."""
    paths = {"anthropic": "", "mistral": ""}
    return get_provider(name, api_key=KEY, model="m", base_url=url + paths.get(name, "/v1"))


@every_provider
async def test_an_untrusted_certificate_is_not_retryable(name: str, self_signed: ssl.SSLContext) -> None:
    with FaultServer("none", tls=self_signed) as server:
        error = await failure(at(name, server.url), ConnectionFailed)
        assert not error.retryable
        assert "certificate" in str(error).lower()
        assert server.requests == []


@every_provider
@pytest.mark.parametrize("url", ["localhost:8000", "ftp://127.0.0.1", "http://127.0.0.1:port"])
async def test_an_invalid_base_url_is_a_config_error(name: str, url: str) -> None:
    with pytest.raises(ConfigError, match=name):
        await stream_request(ask(), provider=at(name, url), max_retries=0).collect()


# A stream that breaks


@every_provider
@pytest.mark.parametrize("kept", range(len(TOKENS) + 1))
async def test_a_reset_in_the_middle_keeps_the_text_to_the_last_character(name: str, kept: int) -> None:
    body = body_of(wire_of(name), Answer(TOKENS, cut=kept))
    vendor = Vendor(body, httpx2.ReadError("connection reset by peer"))
    error = await failure(vendor.provider(name), StreamInterrupted)
    assert (error.partial.text, error.partial.complete) == ("".join(TOKENS[:kept]), False)
    assert isinstance(error.__cause__, httpx2.ReadError)
    assert vendor.bodies[0].closed
    assert len(vendor.requests) == 1


@every_provider
async def test_the_sdks_own_read_timeout(name: str) -> None:
    body = body_of(wire_of(name), Answer(TOKENS, cut=1))
    error = await failure(Vendor(body, httpx2.ReadTimeout("too slow")).provider(name), StreamTimeout)
    assert (error.clock, error.partial.text) == ("silence", TOKENS[0])


@pytest.mark.parametrize("fault", ["mute", "stall"])
@patient
async def test_a_read_timeout_of_the_callers_client_is_named_without_noise(fault: str, pace: float) -> None:
    with FaultServer(fault) as server:
        async with httpx2.AsyncClient(timeout=httpx2.Timeout(None, read=0.3 * pace)) as http:
            provider = get_provider("openai", api_key=KEY, base_url=f"{server.url}/v1", http_client=http)
            error = await failure(provider, ConnectionFailed if fault == "mute" else StreamTimeout)
    assert "within the HTTP client's read timeout (ReadTimeout)" in str(error)
    assert "scope" not in str(error)


TRANSPORT_ERRORS = [
    httpx2.ReadError,
    httpx2.ReadTimeout,
    httpx2.RemoteProtocolError,
    httpx2.LocalProtocolError,
    httpx2.WriteError,
    httpx2.CloseError,
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.DecodingError,
    httpx2.TooManyRedirects,
]


@every_provider
@pytest.mark.parametrize("kind", TRANSPORT_ERRORS)
async def test_no_error_of_the_http_client_or_the_sdk_leaks(name: str, kind: type[Exception]) -> None:
    begun = body_of(wire_of(name), Answer(TOKENS, cut=1))
    error = await failure(Vendor(begun, kind("broken")).provider(name))
    assert error.partial.text == TOKENS[0]

    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise kind("broken")

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(refuse)) as http:
        await failure(get_provider(name, api_key=KEY, model="m", http_client=http))


# Content encodings


def gzipped(events: list[bytes]) -> bytes:
    """Compress events one by one, so that each can be read as soon as its bytes are there; no end of the file yet."""
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) for event in events)


GZIP = [("content-type", "text/event-stream"), ("content-encoding", "gzip")]


@every_provider
async def test_a_compressed_stream_is_read(name: str) -> None:
    packed = gzip.compress(body_of(wire_of(name), Answer(TOKENS)))
    vendor = Vendor(*[packed[start : start + 7] for start in range(0, len(packed), 7)], headers=GZIP)
    answer = await stream_request(ask(), provider=vendor.provider(name), max_retries=0).collect()
    assert (answer.text, answer.complete) == (TEXT, True)
    assert vendor.bodies[0].closed


# Status 200 with a body that is not valid


@every_provider
async def test_a_200_with_a_streams_content_type_and_another_body(name: str) -> None:
    body = b"\xef\xbb\xbfService Unavailable" + b"x" * 1000
    vendor = Vendor(body[:5], body[5:])
    error = await failure(vendor.provider(name), MalformedStream)
    shown = body.decode("utf-8-sig")
    assert repr(shown[:200]) in str(error)
    assert shown[:201] not in str(error)


# An error in a stream that had begun: class, code, retryable. Anthropic's reference, "Error events"; OpenAI's,
# "Streaming events", `error` and `response.failed`; the chat dialect's `error` object; Mistral's error object.
ERROR_EVENTS: list[tuple[str, bytes, type[ProviderError], str, bool]] = [
    (
        "anthropic",
        b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "Too busy"}}\n\n',
        OverloadedError,
        "overloaded_error",
        True,
    ),
    (
        "anthropic",
        b'event: error\ndata: {"type": "error", "error": {"type": "invalid_request_error", "message": "Too busy"}}\n\n',
        BadRequestError,
        "invalid_request_error",
        False,
    ),
    (
        "openai",
        b'data: {"error": {"message": "Too busy", "type": "server_error", "param": null, "code": null}}\n\n',
        ServerError,
        "server_error",
        True,
    ),
    (
        "openai",
        b'data: {"error": {"message": "Too busy", "code": 429}, "choices": []}\n\n',
        RateLimitError,
        "429",
        True,
    ),
    (
        "openai-responses",
        b'event: error\ndata: {"type": "error", "code": "rate_limit_exceeded", "message": "Too busy"}\n\n',
        RateLimitError,
        "rate_limit_exceeded",
        True,
    ),
    (
        "openai-responses",
        (
            b'event: response.failed\ndata: {"type": "response.failed", "response": {"id": "r", "status": "failed", '
            b'"error": {"code": "invalid_prompt", "message": "Too busy"}}}\n\n'
        ),
        BadRequestError,
        "invalid_prompt",
        False,
    ),
    (
        "bedrock",
        encode_exception("throttlingException", b'{"message": "Too busy"}'),
        RateLimitError,
        "throttlingException",
        True,
    ),
    (
        "bedrock",
        encode_exception("modelStreamErrorException", b'{"message": "Too busy", "originalStatusCode": 500}'),
        ServerError,
        "modelStreamErrorException",
        True,
    ),
    (
        "bedrock",
        encode_exception("validationException", b'{"message": "Too busy"}'),
        BadRequestError,
        "validationException",
        False,
    ),
    (
        "mistral",
        b'data: {"object": "error", "message": "Too busy", "type": "internal_server_error", "code": "1000"}\n\n',
        ServerError,
        "1000",
        True,
    ),
]


@pytest.mark.parametrize(
    ("anyio_backend", "name", "event", "kind", "code", "retryable"),
    [(backend, *row) for row in ERROR_EVENTS for backend, name in RUNS if name == row[0]],
)
async def test_an_error_event_is_the_class_of_its_type(
    name: str, event: bytes, kind: type[ProviderError], code: str, retryable: bool
) -> None:
    begun = body_of(wire_of(name), Answer(TOKENS, cut=2))
    error = await failure(Vendor(begun + event).provider(name), kind)
    assert "Too busy" in str(error)
    model = "m" if name == "bedrock" else "simulated"  # Converse does not name the model
    assert (error.provider, error.model, error.code, error.retryable) == (name, model, code, retryable)
    assert error.status != 200
    assert (error.partial.text, error.partial.complete) == ("".join(TOKENS[:2]), False)


@pytest.mark.parametrize(("anyio_backend", "name"), [run for run in RUNS if run[1] != "google"])
@pytest.mark.parametrize("together", [True, False])
async def test_what_follows_the_terminal_mark_is_not_part_of_the_answer(
    name: str, together: bool, caplog: pytest.LogCaptureFixture
) -> None:
    body = body_of(wire_of(name), Answer(TOKENS))
    more = body_of(wire_of(name), Answer(["MORE"]))
    vendor = Vendor(body + more) if together else Vendor(body, more, httpx2.ReadError("and then it broke"))
    with caplog.at_level(logging.DEBUG, "streamcore"):
        answer = await stream_request(ask(), provider=vendor.provider(name), max_retries=0).collect()
    assert (answer.text, answer.complete, answer.finish_reason) == (TEXT, True, "stop")
    assert "ignored" in caplog.text
    assert vendor.bodies[0].closed


# Keys are not in errors or logs

# (The conformance suite has the common forms of answers that echo a key.)
ECHO = f"Incorrect API key provided: {KEY}. (Authorization: Bearer {KEY})"
ECHOES: dict[str, tuple[int, bytes]] = {
    "list": (400, json.dumps([{"error": {"message": ECHO}}]).encode()),
    "detail": (422, json.dumps({"detail": [{"input": {"authorization": f"Bearer {KEY}"}}]}).encode()),
}


def assert_hidden(error: BaseException, secret: str, logged: str) -> None:
    """Check that a secret is in none of the texts that an error ends up in."""
    printed = "".join(traceback.format_exception(error))
    for text in (str(error), repr(error), printed, repr(getattr(error, "partial", None)), logged):
        assert secret not in text
    attempts = getattr(error, "attempts", ())
    assert secret not in repr(attempts)


@every_provider
@pytest.mark.parametrize("echo", ECHOES)
async def test_a_key_that_the_vendor_echoes_is_not_shown(
    name: str, echo: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, body = ECHOES[echo]
    with caplog.at_level(logging.DEBUG, "streamcore"):
        error = await failure(Vendor(body, status=status).provider(name))
    assert "[secret]" in str(error)
    assert_hidden(error, KEY, caplog.text)


@every_provider
async def test_a_key_from_the_environment_a_header_or_a_ready_client_is_not_shown_either(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sk-another-secret-0123456789"
    vendor = Vendor(json.dumps({"error": {"message": f"bad key {secret}"}}).encode(), status=401)
    http = vendor.client()
    monkeypatch.setenv("OPENAI_API_KEY" if name.startswith("openai") else f"{name.upper()}_API_KEY", secret)
    clients: dict[str, Any] = {
        "anthropic": lambda: anthropic.AsyncAnthropic(api_key=secret, http_client=http),
        "mistral": lambda: Mistral(api_key=secret, async_client=http),
        "google": lambda: genai.Client(api_key=secret, http_options=HttpOptions(httpx_async_client=http)),
    }
    client = clients.get(name, lambda: openai.AsyncOpenAI(api_key=secret, http_client=http))()
    ways: list[dict[str, Any]] = [
        {"http_client": http},
        {"http_client": http} if name == "bedrock" else {"client": client},
        {"http_client": http, "api_key": KEY, "headers": {"X-Gateway-Token": secret}},
    ]
    for settings in ways:
        given: dict[str, Any] = settings if "client" in settings else {**settings, **address_of(name)}
        error = await failure(get_provider(name, model="m", **given), AuthenticationError)
        assert "bad key [secret]" in str(error)
        assert_hidden(error, secret, "")


@pytest.mark.parametrize(("anyio_backend", "name"), [run for run in RUNS if run[1] != "google"])
async def test_a_key_with_a_line_end_is_the_callers_error_and_not_shown(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with FaultServer("none") as server, caplog.at_level(logging.DEBUG, "streamcore"):
        provider = get_provider(name, api_key=KEY + "\n", model="m", base_url=server.url)
        error = await failure(provider, ConfigError)
        assert server.requests == []
    assert "key" in str(error)
    assert_hidden(error, KEY, caplog.text)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_placeholder_of_a_keyless_gateway_is_not_cut_out_of_messages() -> None:
    body = json.dumps({"error": {"message": "none of the models is loaded"}}).encode()
    provider = get_provider("ollama", http_client=Vendor(body, status=404).client())
    assert "none of the models is loaded" in str(await failure(provider, NotFoundError))


@pytest.mark.parametrize(("anyio_backend", "name"), [run for run in RUNS if run[1] not in OWN_STATUS])
async def test_errors_have_their_cause(name: str) -> None:
    error = await failure(Vendor(b"{}", status=500).provider(name), ServerError)
    assert isinstance(error.__cause__, anthropic.APIStatusError | openai.APIStatusError)
