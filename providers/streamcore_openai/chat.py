"""Stream from Chat Completions: OpenAI's own, and every server with the same API."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Unpack, cast

from streamcore.chunk import Chunk
from streamcore.provider import ProviderSettings, Vendor
from streamcore.request import Request, ThinkTags
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.chat_request import (
    WIRE,
    ChatTurns,
    chat_messages,
    chat_response_format,
    chat_tool_choice,
    chat_tools,
)
from streamcore.wire.closed_schema import closed_schema
from streamcore_openai.documents import FORMS, file_part
from streamcore_openai.sdk import Connection

if TYPE_CHECKING:
    import openai

VENDOR = Vendor(
    name="openai", sdk="openai", install='-e ".[openai]"', default_model="gpt-5.4-mini", hosts=("openai.com",)
)


@dataclass(frozen=True, slots=True)
class Quirks:
    """List how a server differs from OpenAI's own Chat Completions.

    The fields are also the settings of a custom gateway, in code and in YAML; the guide "Providers" shows both.
    """

    max_tokens_key: str = "max_tokens"
    """The key of the limit on tokens; OpenAI's newer models accept only `max_completion_tokens`."""
    stream_options: bool = True
    """True if the server accepts `stream_options.include_usage`."""
    reasoning_key: Literal["reasoning_effort", "reasoning.effort"] | None = "reasoning_effort"
    """The key of the reasoning effort; None if the server has none."""
    json_schema: bool = True
    """True if the server accepts `response_format.type: json_schema`."""
    enforces_schema: bool = True
    """True if the server enforces a schema, or refuses it with 400. False if that depends on the model: then the
    schema is also added to the instructions."""
    send_reasoning: bool | str | Sequence[str] = True
    """The fields in which the server accepts reasoning with tool calls, if it sent them; True: `reasoning_content`,
    False: none."""
    details_key: str | None = None
    """The key of an assistant's message in which the server accepts `reasoning_details`; None if it accepts none."""
    think_tags: ThinkTags = False
    """How to treat `<think>` and `</think>` in the text of its models; see `ThinkTags`."""
    cache_key: bool = False
    """True if the server accepts `prompt_cache_key`."""
    call_ids: str = ".+"
    """A regular expression for the ids of tool calls that the server accepts; others are replaced."""
    custom_tools: bool = False
    """True if the server has custom tools; else their calls are sent as functions with the argument `input`."""
    documents: Sequence[str] = ()
    """The forms in which the server accepts PDF documents as `file` parts: `data`, `file_id`, `url`; empty: in none."""
    key_header: str | None = None
    """The header of the API key; None: `Authorization: Bearer`."""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Additional keys for the body of every request; `Request.extra` overrides them."""

    def turns(self, vendor: Vendor, source: str | None) -> ChatTurns:
        """Return a description of the messages that the server accepts."""
        fields = self.send_reasoning
        if isinstance(fields, bool):
            fields = ("reasoning_content",) if fields else ()
        return ChatTurns(
            source=source,
            ids=re.compile(self.call_ids, re.DOTALL),
            custom_tools=self.custom_tools,
            details=self.details_key,
            reasoning=frozenset((fields,) if isinstance(fields, str) else fields),
            document=partial(file_part, vendor, self.documents),
        )


_IDS = r"[\x21-\x7e]{1,40}"
OPENAI = Quirks(
    max_tokens_key="max_completion_tokens", cache_key=True, call_ids=_IDS, custom_tools=True, documents=FORMS
)


class OpenAIProvider:
    """Stream from Chat Completions as the provider `openai`, or as the gateway of another `row` and `quirks`.

    See `streamcore.get_provider` for the settings.
    """

    vendor: ClassVar[Vendor] = VENDOR
    wire: ClassVar[str] = WIRE
    """The wire of the requests, whose further parameters `Request.extra` takes."""

    def __init__(
        self,
        *,
        row: Vendor = VENDOR,
        quirks: Quirks = OPENAI,
        think_tags: ThinkTags | None = None,
        **settings: Unpack[ProviderSettings],
    ) -> None:
        self.name = row.name
        self.think_tags: ThinkTags = quirks.think_tags if think_tags is None else think_tags
        """How to treat `<think>` and `</think>` in the text; the request overrides it."""
        self._row = row
        self._quirks = quirks
        self._model = settings.get("model")
        self._connection = Connection(
            row, settings, gateway=row is not VENDOR, key_header=quirks.key_header, modules=["openai.resources.chat"]
        )
        self.secrets, self.warm_up = self._connection.secrets, self._connection.warm_up

    def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Stream the answer; see `Provider.stream`."""
        source = self._connection.source
        body = chat_body(request, self.model_for(request), self._row, self._quirks, source)
        return self._connection.stream(
            _create,
            lambda request_id: ChatVocabulary(request_id=request_id, source=source),
            body,
            {**self._quirks.extra, **request.extra} if self._quirks.extra else request.extra,
            request.include_raw,
        )

    def model_for(self, request: Request) -> str:
        """Return the model that answers a request."""
        return self._row.resolve_model(request, self._model)

    def takes_schema(self, schema: Mapping[str, Any]) -> bool:
        """True if the server enforces this schema."""
        return self._quirks.enforces_schema and closed_schema(schema) is not None

    async def count_tokens(self, request: Request) -> int | None:
        """Return how many tokens the prompt has; None if the server does not count. See `streamcore.count_tokens`."""
        if self._row is not VENDOR:
            return None
        from streamcore_openai.counting import count_input

        return await count_input(self._connection, request, self.model_for(request), self.name)

    async def aclose(self) -> None:
        """Do nothing: the end of the event loop or `aclose_providers()` closes the shared client."""


def _create(client: openai.AsyncOpenAI) -> Callable[..., Any]:
    return cast("Callable[..., Any]", client.chat.completions.with_streaming_response.create)


def chat_body(
    request: Request, model: str, vendor: Vendor, quirks: Quirks, source: str | None = None
) -> dict[str, Any]:
    """Return the keyword arguments of `chat.completions.create`, without `stream` and `extra`.

    `source` names the server, as in `Opaque.source`.

    Raises:
        ConfigError: this server cannot express something in the request, or a tool call was cut.
    """
    body: dict[str, Any] = {"model": model, "messages": chat_messages(request, quirks.turns(vendor, source))}
    if quirks.stream_options:
        body["stream_options"] = {"include_usage": True}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body[quirks.max_tokens_key] = request.max_tokens
    if request.stop:
        body["stop"] = list(request.stop)
    if request.tools:
        body["tools"] = chat_tools(request.tools)
    if request.tool_choice is not None:
        body["tool_choice"] = chat_tool_choice(request.tool_choice)
    if request.seed is not None:
        body["seed"] = request.seed
    if request.output_schema is not None:
        if not quirks.json_schema:
            raise vendor.unsupported("an output schema", "its API has no JSON-schema mode", field="output_schema")
        body["response_format"] = chat_response_format(request.output_schema)
    if isinstance(request.cache, str):
        if not quirks.cache_key:
            raise vendor.unsupported("a cache key", "leave cache= out", field="cache")
        body["prompt_cache_key"] = request.cache
    if request.reasoning is not None:
        _reasoning(request.reasoning, body, vendor, quirks)
    return body


def _reasoning(effort: str | int, body: dict[str, Any], vendor: Vendor, quirks: Quirks) -> None:
    if quirks.reasoning_key == "reasoning.effort":
        # OpenRouter's unified parameter is an effort or a budget; the SDK has no parameter with this name.
        key = "max_tokens" if isinstance(effort, int) else "effort"
        body["extra_body"] = {"reasoning": {key: effort}}
    elif quirks.reasoning_key is None or isinstance(effort, int):
        raise vendor.unsupported(
            f"reasoning={effort!r}", "give an effort such as 'low', or leave it out", field="reasoning"
        )
    else:
        body["reasoning_effort"] = effort
