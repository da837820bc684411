"""Read answers with the vendors' SDKs, in every way that they have, and return what they say of the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import openai

Then = Callable[[], None]
HELLO: Any = [{"role": "user", "content": "Hi"}]
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Reader:
    """One way to read an answer.

    `read` gets the URL, the model and what is called at the first event; it returns the reason of the end.
    """

    name: str
    endpoint: str
    stream: bool
    read: Callable[[str, str, Then], Any]

    def outcome(self, url: str, model: str, then: Then) -> str:
        """Return the reason of the end, or `raised` with the error's class."""
        try:
            return str(self.read(url, model, then))
        except openai.LengthFinishReasonError:  # how OpenAI's helpers report these two
            return "length"
        except openai.ContentFilterFinishReasonError:
            return "content_filter"
        except (openai.APIError, anthropic.APIError, httpx2.HTTPError) as error:
            return f"raised {type(error).__name__}"


def _openai(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="client-key", max_retries=0, timeout=PATIENCE)


def _anthropic(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="client-key", max_retries=0, timeout=PATIENCE)


@asynccontextmanager
async def _async_openai(url: str) -> AsyncGenerator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0, timeout=PATIENCE) as client:
        yield client


@asynccontextmanager
async def _async_anthropic(url: str) -> AsyncGenerator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0, timeout=PATIENCE) as client:
        yield client


def _last(events: Iterable[Any], reason: Callable[[Any], Any], then: Then) -> Any:
    """Return the last reason that an event has."""
    found, called = None, False
    for event in events:
        if not called:
            called = True
            then()
        found = reason(event) or found
    return found


async def _alast(events: AsyncIterable[Any], reason: Callable[[Any], Any], then: Then) -> Any:
    found, called = None, False
    async for event in events:
        if not called:
            called = True
            await asyncio.to_thread(then)
        found = reason(event) or found
    return found


def _chat_reason(event: Any) -> Any:
    return event.choices[0].finish_reason if event.choices else None


def _messages_reason(event: Any) -> Any:
    return event.delta.stop_reason if event.type == "message_delta" else None


def _responses_reason(event: Any) -> Any:
    return event.type if event.type in ("response.completed", "response.incomplete") else None


def chat_stream(url: str, model: str, then: Then) -> Any:
    with _openai(url) as client:
        return _last(client.chat.completions.create(model=model, messages=HELLO, stream=True), _chat_reason, then)


def chat_helper(url: str, model: str, then: Then) -> Any:
    with _openai(url) as client, client.chat.completions.stream(model=model, messages=HELLO) as stream:
        _last(stream, lambda event: None, then)
        return stream.get_final_completion().choices[0].finish_reason


def chat_whole(url: str, model: str, then: Then) -> Any:
    with _openai(url) as client:
        return client.chat.completions.create(model=model, messages=HELLO).choices[0].finish_reason


def responses_stream(url: str, model: str, then: Then) -> Any:
    with _openai(url) as client:
        return _last(client.responses.create(model=model, input="Hi", stream=True), _responses_reason, then)


def responses_helper(url: str, model: str, then: Then) -> Any:
    with _openai(url) as client, client.responses.stream(model=model, input="Hi") as stream:
        return _last(stream, _responses_reason, then)


def responses_whole(url: str, model: str, then: Then) -> Any:
    with _openai(url) as client:
        return client.responses.create(model=model, input="Hi").status


def messages_stream(url: str, model: str, then: Then) -> Any:
    with _anthropic(url) as client:
        stream = client.messages.create(model=model, max_tokens=900, messages=HELLO, stream=True)
        return _last(stream, _messages_reason, then)


def messages_helper(url: str, model: str, then: Then) -> Any:
    with _anthropic(url) as client, client.messages.stream(model=model, max_tokens=900, messages=HELLO) as stream:
        _last(stream, lambda event: None, then)
        return stream.get_final_message().stop_reason


def messages_whole(url: str, model: str, then: Then) -> Any:
    with _anthropic(url) as client:
        return client.messages.create(model=model, max_tokens=900, messages=HELLO).stop_reason


def _in_loop(read: Callable[[str, str, Then], Awaitable[Any]]) -> Callable[[str, str, Then], Any]:
    async def run(url: str, model: str, then: Then) -> Any:
        return await read(url, model, then)

    return lambda url, model, then: asyncio.run(run(url, model, then))


async def async_chat(url: str, model: str, then: Then) -> Any:
    async with _async_openai(url) as client:
        stream = await client.chat.completions.create(model=model, messages=HELLO, stream=True)
        async with stream:
            return await _alast(stream, _chat_reason, then)


async def async_chat_helper(url: str, model: str, then: Then) -> Any:
    async with _async_openai(url) as client:
        async with client.chat.completions.stream(model=model, messages=HELLO) as stream:
            await _alast(stream, lambda event: None, then)
            return (await stream.get_final_completion()).choices[0].finish_reason


async def async_responses(url: str, model: str, then: Then) -> Any:
    async with _async_openai(url) as client, client.responses.stream(model=model, input="Hi") as stream:
        return await _alast(stream, _responses_reason, then)


async def async_messages(url: str, model: str, then: Then) -> Any:
    async with _async_anthropic(url) as client:
        async with client.messages.stream(model=model, max_tokens=900, messages=HELLO) as stream:
            await _alast(stream, lambda event: None, then)
            return (await stream.get_final_message()).stop_reason


READERS = (
    Reader("openai chat, stream", "chat", True, chat_stream),
    Reader("openai chat, helper", "chat", True, chat_helper),
    Reader("openai chat, whole", "chat", False, chat_whole),
    Reader("openai chat, async stream", "chat", True, _in_loop(async_chat)),
    Reader("openai chat, async helper", "chat", True, _in_loop(async_chat_helper)),
    Reader("openai responses, stream", "responses", True, responses_stream),
    Reader("openai responses, helper", "responses", True, responses_helper),
    Reader("openai responses, whole", "responses", False, responses_whole),
    Reader("openai responses, async helper", "responses", True, _in_loop(async_responses)),
    Reader("anthropic, stream", "messages", True, messages_stream),
    Reader("anthropic, helper", "messages", True, messages_helper),
    Reader("anthropic, whole", "messages", False, messages_whole),
    Reader("anthropic, async helper", "messages", True, _in_loop(async_messages)),
)
