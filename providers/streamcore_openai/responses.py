"""Stream from OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Unpack, cast

from streamcore.chunk import Chunk
from streamcore.provider import ProviderSettings, Vendor
from streamcore.request import Request
from streamcore.wire.chat_request import chat_response_format
from streamcore.wire.closed_schema import closed_schema
from streamcore_openai.responses_input import input_items
from streamcore_openai.responses_wire import WIRE, ResponsesVocabulary
from streamcore_openai.sdk import Connection

if TYPE_CHECKING:
    import openai

VENDOR = Vendor(
    name="openai-responses",
    sdk="openai",
    install='-e ".[openai]"',
    default_model="gpt-5.4-mini",
    environment="openai",
    hosts=("openai.com",),
    price_list_id="openai",
    telemetry_name="openai",
)


class OpenAIResponsesProvider:
    """Stream from the Responses API as the provider `openai-responses`; see `streamcore.get_provider` for settings."""

    vendor: ClassVar[Vendor] = VENDOR
    name = VENDOR.name
    wire: ClassVar[str] = WIRE
    """The wire of the requests, whose further parameters `Request.extra` takes."""

    def __init__(self, **settings: Unpack[ProviderSettings]) -> None:
        self._model = settings.get("model")
        self._connection = Connection(VENDOR, settings, modules=["openai.resources.responses"])
        self.secrets, self.warm_up = self._connection.secrets, self._connection.warm_up

    def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Stream the answer; see `Provider.stream`."""
        source = self._connection.source
        body = responses_body(request, self.model_for(request), source)
        return self._connection.stream(
            _create,
            lambda request_id: ResponsesVocabulary(request_id=request_id, source=source),
            body,
            request.extra,
            request.include_raw,
        )

    def model_for(self, request: Request) -> str:
        """Return the model that answers a request."""
        return VENDOR.resolve_model(request, self._model)

    def takes_schema(self, schema: Mapping[str, Any]) -> bool:
        """True if the vendor enforces this schema."""
        return closed_schema(schema) is not None

    async def count_tokens(self, request: Request) -> int | None:
        """Return how many tokens the prompt has; None if the server does not count. See `streamcore.count_tokens`."""
        from streamcore_openai.counting import count_input

        return await count_input(self._connection, request, self.model_for(request), self.name)

    async def aclose(self) -> None:
        """Do nothing: the end of the event loop or `aclose_providers()` closes the shared client."""


def _create(client: openai.AsyncOpenAI) -> Callable[..., Any]:
    return cast("Callable[..., Any]", client.responses.with_streaming_response.create)


def responses_body(request: Request, model: str, source: str | None = None) -> dict[str, Any]:
    """Return the keyword arguments of `responses.create`, without `stream` and `extra`.

    `source` names the server, as in `Opaque.source`.

    Raises:
        ConfigError: this API cannot express something in the request, or a tool call was cut.
    """
    if request.seed is not None:
        raise VENDOR.unsupported("a seed", "its API has none; leave seed= out, or use provider 'openai'", field="seed")
    if request.stop:
        raise VENDOR.unsupported(
            "stop sequences", "its API has none; leave stop= out, or use provider 'openai'", field="stop"
        )
    if isinstance(request.reasoning, int):
        raise VENDOR.unsupported("a budget of reasoning tokens", "give an effort such as 'low'", field="reasoning")
    body: dict[str, Any] = {"model": model, "input": input_items(request, source)}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_output_tokens"] = request.max_tokens
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": dict(tool.parameters),
                "strict": False,
            }
            for tool in request.tools
        ]
    if request.tool_choice is not None:
        modes = ("auto", "none", "required")
        choice = request.tool_choice
        body["tool_choice"] = choice if choice in modes else {"type": "function", "name": choice}
    if request.output_schema is not None:
        schema = chat_response_format(request.output_schema)
        body["text"] = {"format": {"type": schema["type"], **schema["json_schema"]}}
    if request.reasoning is not None:
        body["reasoning"] = {"effort": request.reasoning}
    if isinstance(request.cache, str):
        body["prompt_cache_key"] = request.cache
    return body
