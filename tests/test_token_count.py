"""Count tokens by each vendor's endpoint, map its errors, and estimate where there is none."""

from __future__ import annotations

import json
from typing import Any

import anyio
import httpx2
import pytest

from streamcore import (
    AuthenticationError,
    BadRequestError,
    ConnectionFailed,
    Document,
    Image,
    Message,
    RateLimitError,
    Request,
    ServerError,
    StreamTimeout,
    Text,
    TokenCount,
    Tool,
    ToolCall,
    count_tokens,
    get_provider,
)
from streamcore.provider import Provider

pytestmark = pytest.mark.anyio
KEY = "sk-test-not-a-real-key-0123456789"
REQUEST = Request(
    [Message("system", "Be brief."), Message("user", "How high is the tide?")],
    temperature=0.2,
    max_tokens=50,
    tools=[Tool("tide", "Look the tide up.", {"type": "object", "properties": {"port": {"type": "string"}}})],
)
JSON = [("content-type", "application/json")]


class Server(httpx2.MockTransport):
    """A vendor that answers every request with the same JSON, and keeps the requests."""

    def __init__(self, answer: Any, status: int = 200) -> None:
        self.requests: list[httpx2.Request] = []
        self._answer, self._status = answer, status
        super().__init__(self._handle)

    def _handle(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        content = self._answer if isinstance(self._answer, bytes) else json.dumps(self._answer).encode()
        return httpx2.Response(self._status, headers=JSON, content=content)

    def provider(self, name: str, **settings: Any) -> Provider:
        return get_provider(name, api_key=KEY, model="m", http_client=httpx2.AsyncClient(transport=self), **settings)

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.requests[-1].content)
        return body


async def test_anthropic() -> None:
    server = Server({"input_tokens": 403})
    count = await count_tokens(REQUEST, server.provider("anthropic"))
    assert count == TokenCount(403, False, "anthropic", "m")
    assert server.requests[0].url.path == "/v1/messages/count_tokens"
    assert server.body.keys() == {"model", "messages", "system", "tools"}  # the endpoint refuses all other keys


@pytest.mark.parametrize("name", ["openai", "openai-responses"])
async def test_openai(name: str) -> None:
    server = Server({"object": "response.input_tokens", "input_tokens": 61})
    request = Request(REQUEST.messages, tools=REQUEST.tools, seed=3, stop=("END",), reasoning=2000)
    count = await count_tokens(request, server.provider(name))
    assert count == TokenCount(61, False, name, "m")
    assert server.requests[0].url == "https://api.openai.com/v1/responses/input_tokens"
    assert server.body.keys() == {"model", "input", "tools"}


async def test_gemini() -> None:
    server = Server({"totalTokens": 31, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 31}]})
    count = await count_tokens(REQUEST, server.provider("google"))
    assert count == TokenCount(31, False, "google", "m")
    assert server.requests[0].url.path == "/v1/models/m:countTokens"
    inner = server.body["generateContentRequest"]
    assert inner["model"] == "models/m"
    assert inner["systemInstruction"] == {"parts": [{"text": "Be brief."}]}


async def test_vertex(anyio_backend_name: str) -> None:
    server = Server({"totalTokens": 31})
    await count_tokens(REQUEST, server.provider("google", vertexai=True))
    assert server.requests[0].url.path.endswith("/publishers/google/models/m:countTokens")
    assert server.body.keys() == {"contents", "systemInstruction", "tools", "generationConfig"}


ERRORS = [
    (401, AuthenticationError),
    (400, BadRequestError),
    (429, RateLimitError),
    (500, ServerError),
]


@pytest.mark.parametrize("name", ["anthropic", "openai", "openai-responses", "google"])
@pytest.mark.parametrize(("status", "error"), ERRORS)
async def test_errors_are_those_of_a_request(name: str, status: int, error: type[Exception]) -> None:
    server = Server({"error": {"message": f"no, said the server, not with {KEY}", "type": "x"}}, status)
    with pytest.raises(error, match="said the server") as caught:
        await count_tokens(REQUEST, server.provider(name))
    assert KEY not in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [b"<html>", {"tokens": 3}, {"input_tokens": True, "totalTokens": -1}, [3]])
@pytest.mark.parametrize("name", ["anthropic", "openai", "google"])
async def test_an_answer_without_a_number_is_an_error(name: str, answer: Any) -> None:
    with pytest.raises(ServerError, match="has no number"):
        await count_tokens(REQUEST, Server(answer).provider(name))


async def test_a_lost_connection() -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(fail))
    with pytest.raises(ConnectionFailed):
        await count_tokens(REQUEST, get_provider("anthropic", api_key=KEY, http_client=client))


async def test_a_vendor_that_does_not_answer() -> None:
    class Silent:
        name = "silent"
        stream: Any = None

        async def count_tokens(self, request: Request) -> int:
            await anyio.sleep_forever()
            raise AssertionError

        async def aclose(self) -> None: ...

    with pytest.raises(StreamTimeout, match=r"'silent' did not count the tokens within 0\.01 s") as caught:
        await count_tokens(REQUEST, Silent(), timeout=0.01)
    assert caught.value.clock == "total"


@pytest.mark.parametrize("name", ["anthropic", "openai-responses"])
async def test_another_server_that_does_not_count_is_estimated(name: str) -> None:
    server = Server({"error": {"message": "no such path"}}, 404)
    count = await count_tokens(REQUEST, server.provider(name, base_url="https://models.example"))
    assert count.estimated
    assert server.requests


@pytest.mark.parametrize("name", ["mistral", "groq", "demo"])
async def test_an_estimate_says_that_it_is_one(name: str) -> None:
    server = Server({})
    provider = get_provider(name) if name == "demo" else server.provider(name)
    count = await count_tokens(REQUEST, provider)
    assert count.estimated
    assert (count.provider, not server.requests) == (name, True)
    assert 20 < count.input_tokens < 60


async def estimate(*messages: Message, **more: Any) -> int:
    return (await count_tokens(Request(messages, **more), "demo")).input_tokens


async def test_what_an_estimate_counts() -> None:
    plain = await estimate(Message("user", "x" * 400))
    assert plain == 104
    assert await estimate(Message("user", [Text("x" * 400)])) == plain
    assert await estimate(Message("user", [Text("x" * 400), Image(url="https://example.com/a.png")])) == plain + 1500
    note = Document(data=b"x" * 400, media_type="text/plain")
    assert await estimate(Message("user", [note])) == plain
    call = ToolCall("1", "tide", '{"port": "Husum"}')
    assert await estimate(Message("assistant", "", tool_calls=(call,))) > 4
    assert await estimate(Message("user", "x" * 400), output_schema={"type": "object"}) > plain
    assert await estimate(Message("user", "潮" * 100)) == 79  # three bytes each
