"""Use the endpoints with the vendors' own SDKs, over real sockets: answers, tools, errors, cuts, disconnects."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import anyio
import httpx2
import openai
import pytest

from streamcore.testing import Answer, FaultServer, Simulator
from streamcore.testing.faults.fault_server import ANSWER
from streamcore.testing.simulator.answers import PlannedCall
from tests.support import wait_until
from tests.web.endpoints.conftest import Serve

HELLO: Any = [{"role": "user", "content": "Hello"}]
TEXT = "".join(ANSWER.tokens)
PROVIDERS = {
    "anthropic/claude": "anthropic-messages",
    "openai/gpt": "openai-chat",
    "openai-responses/gpt": "openai-responses",
    "mistral/large": "mistral-chat",
}
FULL = Answer(ANSWER.tokens, ["thin", "king"], [PlannedCall("clock", {"zone": "UTC"}, "call_1")])


def chat(url: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="client-key", max_retries=0, **options)


def messages(url: str, **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="client-key", max_retries=0, **options)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Simulator]:
    with Simulator(FULL) as simulator:
        yield simulator


# Answers


def events_of(url: str, model: str) -> list[dict[str, Any]]:
    """Return the events of a streamed chat completion, without what differs between two answers."""
    with chat(url) as client:
        stream = client.chat.completions.create(
            model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        return [{**event.model_dump(exclude_unset=True), "id": "", "created": 0, "model": ""} for event in stream]


def test_the_model_name_alone_swaps_the_vendor(serve: Serve, upstream: Simulator) -> None:
    with serve(upstream) as url:
        found = {model: events_of(url, model) for model in PROVIDERS}
    for events in found.values():
        for event in events:
            if event.get("usage"):  # vendors count reasoning, or do not
                event["usage"].pop("completion_tokens_details", None)
    first = found["openai/gpt"]
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in first if event["choices"]) == TEXT
    for model, events in found.items():
        assert events == first, model
    assert first[-1]["choices"] == []
    assert first[-1]["usage"]["prompt_tokens"] == 12
    assert first[-2]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("model", PROVIDERS)
def test_whole_answers(serve: Serve, upstream: Simulator, model: str) -> None:
    with serve(upstream) as url, chat(url) as client, messages(url) as other:
        answer = client.chat.completions.create(model=model, messages=HELLO)
        message = answer.choices[0].message
        assert (message.content, answer.choices[0].finish_reason, answer.model) == (TEXT, "tool_calls", model)
        assert message.tool_calls is not None
        call = message.tool_calls[0]
        assert call.type == "function"
        assert json.loads(call.function.arguments) == {"zone": "UTC"}
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == 12
        response = client.responses.create(model=model, input="Hello")
        assert (response.output_text, response.status) == (TEXT, "completed")
        assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
        found = other.messages.create(model=model, max_tokens=50, messages=HELLO)
        assert [block.type for block in found.content] == ["thinking", "text", "tool_use"]
        assert (found.stop_reason, found.usage.input_tokens) == ("tool_use", 12)


@pytest.mark.parametrize("model", PROVIDERS)
def test_the_helpers_of_the_sdks(serve: Serve, upstream: Simulator, model: str) -> None:
    with serve(upstream) as url, chat(url) as client, messages(url) as other:
        with client.chat.completions.stream(model=model, messages=HELLO) as stream:
            for _ in stream:
                pass
            assert stream.get_final_completion().choices[0].message.content == TEXT
        with client.responses.stream(model=model, input="Hello") as events:
            kinds = [event.type for event in events]
            response = events.get_final_response()
        assert kinds[:2] == ["response.created", "response.in_progress"]
        assert response.output_text == TEXT
        assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
        with other.messages.stream(model=model, max_tokens=50, messages=HELLO) as stream_of_blocks:
            assert "".join(stream_of_blocks.text_stream) == TEXT
            final = stream_of_blocks.get_final_message()
        assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
        assert (final.stop_reason, final.usage.output_tokens) == ("tool_use", final.usage.output_tokens)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the SDKs leave generators open on trio
async def test_async_clients(serve: Serve, upstream: Simulator) -> None:
    with serve(upstream) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
            stream = await client.chat.completions.create(model="anthropic/c", messages=HELLO, stream=True)
            pieces = [event.choices[0].delta.content or "" async for event in stream if event.choices]
            assert "".join(pieces) == TEXT
        async with anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as other:
            async with other.messages.stream(model="openai/g", max_tokens=9, messages=HELLO) as blocks:
                assert "".join([piece async for piece in blocks.text_stream]) == TEXT


def test_a_tool_of_the_client_comes_back_to_it(serve: Serve) -> None:
    tool: Any = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
    with Simulator() as simulator, serve(simulator) as url, chat(url) as client:
        asked: list[Any] = [*HELLO]
        answer = client.chat.completions.create(model="anthropic/c", messages=asked, tools=[tool])
        message = answer.choices[0].message
        assert message.tool_calls is not None
        asked += [
            message.model_dump(exclude_unset=True),
            {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "12:00"},
        ]
        answer = client.chat.completions.create(model="anthropic/c", messages=asked, tools=[tool])
        assert answer.choices[0].message.content == "The tool says: 12:00"


# Errors before the answer


@pytest.mark.long
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("bad-request", 400),
        ("no-such-model", 404),
        ("rate-limited", 429),
        ("wrong-key", 500),
        ("server-error", 500),
        ("overloaded", 503),
        ("closed-before-headers", 500),
        ("error-event-first", 503),
        ("empty-200", 500),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_an_error_before_the_answer_is_a_status(serve: Serve, fault: str, status: int, stream: bool) -> None:
    with FaultServer(fault, wire="openai-chat") as server, serve(server) as url:
        with chat(url) as client, pytest.raises(openai.APIStatusError) as raised:
            client.chat.completions.create(model="openai/gpt", messages=HELLO, stream=stream)
        assert raised.value.status_code == status
        assert raised.value.request_id
        assert "operator-key" not in str(raised.value)
        with messages(url) as other, pytest.raises(anthropic.APIStatusError) as refused:
            other.messages.create(model="openai/gpt", max_tokens=5, messages=HELLO, stream=stream)
        assert refused.value.status_code == (529 if status == 503 else status)
        assert refused.value.request_id


def test_what_a_model_cannot_honour_is_refused_with_the_clients_parameter(serve: Serve, upstream: Simulator) -> None:
    with serve(upstream) as url, chat(url) as client, messages(url) as other:
        refused: dict[str, Any] = {"seed": 5, "n": 2, "presence_penalty": 0.5, "prompt_cache_key": "x"}
        for param, value in refused.items():
            more: Any = {param: value}
            with pytest.raises(openai.BadRequestError) as raised:
                client.chat.completions.create(model="anthropic/c", messages=HELLO, **more)
            assert raised.value.param == param
        with pytest.raises(anthropic.BadRequestError, match="stop_sequences"):
            other.messages.create(model="openai-responses/g", max_tokens=5, messages=HELLO, stop_sequences=["x"])
        with pytest.raises(anthropic.BadRequestError, match="thinking"):
            other.messages.create(
                model="openai/g", max_tokens=5000, messages=HELLO, thinking={"type": "enabled", "budget_tokens": 1024}
            )
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="demo/x", messages=HELLO)
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model="openai/g", input="Hello", tools=[{"type": "web_search"}])
    assert upstream.requests == [] or all("web_search" not in str(one.body) for one in upstream.requests)


def test_parameters_of_the_same_wire_are_passed_on(serve: Serve) -> None:
    with Simulator() as simulator, serve(simulator) as url, chat(url) as client, messages(url) as other:
        client.chat.completions.create(model="openai/g", messages=HELLO, presence_penalty=0.5, user="ada", top_p=0.5)
        assert simulator.requests[-1].body["presence_penalty"] == 0.5
        assert simulator.requests[-1].body["user"] == "ada"
        other.messages.create(model="anthropic/c", max_tokens=5, messages=HELLO, extra_body={"top_k": 3})
        assert simulator.requests[-1].body["top_k"] == 3
        other.messages.create(model="openai/g", max_tokens=5, messages=HELLO, extra_body={"top_p": 0.5})
        assert simulator.requests[-1].body["top_p"] == 0.5
        assert "temperature" not in simulator.requests[-1].body


# Errors in the answer

CUTS = ("closed-mid-stream", "reset-mid-stream", "end-without-mark", "malformed-json", "error-event", "cut-event")


@pytest.mark.parametrize("fault", CUTS)
def test_no_client_takes_a_cut_for_an_end(serve: Serve, fault: str) -> None:
    read: dict[str, Callable[[str], list[str]]] = {
        "chat": read_chat,
        "chat helper": read_chat_helper,
        "responses": read_responses,
        "messages": read_messages,
        "messages helper": read_messages_helper,
    }
    with FaultServer(fault, wire="openai-chat") as server, serve(server) as url:
        for name, reader in read.items():
            got: list[str] = []
            with pytest.raises((openai.APIError, anthropic.APIError, httpx2.HTTPError)):
                for piece in reader(url):
                    got.append(piece)
            assert "".join(got) == "".join(ANSWER.tokens[:2]), name


def read_chat(url: str) -> Any:
    with chat(url) as client:
        for event in client.chat.completions.create(model="openai/gpt", messages=HELLO, stream=True):
            yield event.choices[0].delta.content or ""


def read_chat_helper(url: str) -> Any:
    with chat(url) as client, client.chat.completions.stream(model="openai/gpt", messages=HELLO) as stream:
        for event in stream:
            if event.type == "content.delta":
                yield event.delta


def read_responses(url: str) -> Any:
    with chat(url) as client:
        for event in client.responses.create(model="openai/gpt", input="Hello", stream=True):
            if event.type == "response.output_text.delta":
                yield event.delta


def read_messages(url: str) -> Any:
    with messages(url) as client:
        for event in client.messages.create(model="openai/gpt", max_tokens=5, messages=HELLO, stream=True):
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                yield event.delta.text


def read_messages_helper(url: str) -> Any:
    with messages(url) as client, client.messages.stream(model="openai/gpt", max_tokens=5, messages=HELLO) as stream:
        yield from stream.text_stream


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_the_connection_is_broken_after_an_error_event(serve: Serve, path: str) -> None:
    body = {"model": "openai/g", "stream": True, "max_tokens": 9, "messages": HELLO}
    if path.endswith("responses"):
        body = {"model": "openai/g", "stream": True, "input": "Hello"}
    with FaultServer("end-without-mark", wire="openai-chat") as server, serve(server) as url:
        got = b""
        with httpx2.stream("POST", url + path, json=body, timeout=60) as response:
            with pytest.raises(httpx2.RemoteProtocolError):
                for piece in response.iter_raw():
                    got += piece
    assert b"cut off" in got
    for mark in (b"[DONE]", b'finish_reason":"', b"message_stop", b"response.completed", b"message_delta"):
        assert mark not in got


# Disconnects


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_a_client_that_disconnects_closes_the_upstream(serve: Serve, path: str, stream: bool) -> None:
    body = {"model": "openai/g", "stream": stream, "max_tokens": 9, "messages": HELLO}
    if path.endswith("responses"):
        body = {"model": "openai/g", "stream": stream, "input": "Hello"}
    with Simulator(Answer(["w "] * 5000), rate=50) as simulator, serve(simulator) as url:
        target = httpx2.URL(url)
        with socket.create_connection((target.host, target.port or 80), timeout=60) as client:
            content = json.dumps(body).encode()
            head = f"POST {path} HTTP/1.1\r\nhost: {target.netloc.decode()}\r\ncontent-type: application/json\r\n"
            client.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
            wait_until(lambda: simulator.open == 1, "the upstream answers")
        wait_until(lambda: simulator.open == 0 and simulator.abandoned == 1, "the upstream was closed")
        wait_until(lambda: httpx2.get(f"{url}/health").json()["running"] == 0, "the place is free again")


# Access


def test_keys_of_the_operator(serve: Serve, upstream: Simulator) -> None:
    with serve(upstream, api_keys=["one", "two"]) as url:
        for key in ("one", "two"):
            with openai.OpenAI(base_url=f"{url}/v1", api_key=key) as client:
                assert client.chat.completions.create(model="openai/g", messages=HELLO).choices
            with anthropic.Anthropic(base_url=url, api_key=key) as other:
                assert other.messages.create(model="openai/g", max_tokens=5, messages=HELLO).content
            with anthropic.Anthropic(base_url=url, auth_token=key, api_key=None) as bearer:
                assert bearer.messages.create(model="openai/g", max_tokens=5, messages=HELLO).content
        with chat(url) as client, pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="openai/g", messages=HELLO)
        with messages(url) as other, pytest.raises(anthropic.AuthenticationError):
            other.messages.create(model="openai/g", max_tokens=5, messages=HELLO)
        assert httpx2.get(f"{url}/v1/models").status_code == 401
        assert httpx2.get(f"{url}/health").status_code == 200


def test_a_page_of_another_site_is_refused(serve: Serve, upstream: Simulator) -> None:
    with serve(upstream) as url:
        body = {"model": "openai/g", "messages": HELLO}
        response = httpx2.post(f"{url}/v1/chat/completions", json=body, headers={"Origin": "https://example.org"})
        assert response.status_code == 403
        assert response.json()["error"]["message"].startswith("Pages of https://example.org may not")


def test_limits(serve: Serve) -> None:
    with Simulator(Answer(["w "] * 5000), rate=50) as simulator:
        with serve(simulator, max_streams=1, max_input=10) as url, chat(url) as client:
            stream = client.chat.completions.create(model="openai/g", messages=HELLO, stream=True)
            next(iter(stream))
            with pytest.raises(openai.RateLimitError):
                client.chat.completions.create(model="openai/g", messages=HELLO)
            stream.close()
            with pytest.raises(openai.APIStatusError) as raised:
                client.chat.completions.create(model="openai/g", messages=[{"role": "user", "content": "x" * 11}])
            assert raised.value.status_code == 413
            response = httpx2.post(f"{url}/v1/chat/completions", content=b"{not json", timeout=60)
            assert response.status_code == 400


def test_the_list_of_models(serve: Serve, upstream: Simulator) -> None:
    with serve(upstream, "chat", provider="demo", allow_models=["openai/gpt-x", "mistral/*"]) as url:
        with chat(url) as client, messages(url) as other:
            names = [model.id for model in client.models.list()]
            assert names[:2] == ["chat", "openai/gpt-x"]
            assert any(name.startswith("mistral/") for name in names)
            assert [model.id for model in other.models.list()] == names
            assert client.models.retrieve("openai/gpt-x").id == "openai/gpt-x"
            with pytest.raises(openai.NotFoundError):
                client.models.retrieve("nothing")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the SDKs leave generators open on trio
async def test_two_streams_at_once_do_not_mix(serve: Serve, upstream: Simulator) -> None:
    found: list[str] = []

    async def read(client: openai.AsyncOpenAI, model: str) -> None:
        stream = await client.chat.completions.create(model=model, messages=HELLO, stream=True)
        found.append("".join([event.choices[0].delta.content or "" async for event in stream if event.choices]))

    with serve(upstream) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k") as client, anyio.create_task_group() as group:
            for model in [*PROVIDERS] * 5:
                group.start_soon(read, client, model)
    assert found == [TEXT] * 20
