"""Define the provider `demo`: no network and no key, made-up answers through the real chat decoder."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, ClassVar

import anyio

from streamcore.chunk import Chunk
from streamcore.errors import BadRequestError, ConfigError
from streamcore.provider import Vendor
from streamcore.request import Request
from streamcore.testing.simulator.answers import Asked, plausible
from streamcore.testing.simulator.frames import frames
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.decoder import StreamDecoder

VENDOR = Vendor(name="demo", sdk=None, install=None, default_model="demo", needs_key=False)

RATE = 60.0
"""Tokens per second, about as fast as people read."""


class DemoProvider:
    """Stream a plausible answer to anything: with a schema a fitting object, with tools a call.

    Args:
        model: the model that the answers name.
        rate: tokens per second; 0 sends all at once.
        transport: ignored, since nothing is sent; accepted so that `demo` can replace a vendor.
    """

    vendor: ClassVar[Vendor] = VENDOR
    name = VENDOR.name

    def __init__(self, *, model: str | None = None, rate: float = RATE, transport: str | None = None) -> None:
        if rate < 0:
            raise ConfigError(f"the rate {rate:g} is not valid: give tokens per second, 0 or more")
        self._model = model
        self._pause = 1 / rate if rate else 0.0

    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Stream the answer; see `Provider.stream`.

        Raises:
            BadRequestError: no answer fits the schema, as a vendor reports it.
        """
        last = request.messages[-1] if request.messages else None
        users = [message for message in request.messages if message.role == "user"]
        asked = Asked(
            text=users[-1].text if users else "",
            model=VENDOR.resolve_model(request, self._model),
            tools=[
                (tool.name, tool.parameters)
                for tool in request.tools
                if request.tool_choice in (None, "auto", "required", tool.name)
            ],
            schema=request.output_schema,
            answered=last.text if last is not None and last.role == "tool" else None,
        )
        try:
            answer = plausible(asked)
        except ConfigError as error:
            raise BadRequestError(str(error), provider=self.name, model=asked.model, status=400) from error
        decoder = StreamDecoder(ChatVocabulary(), include_raw=request.include_raw)
        due = anyio.current_time()
        for data, paced in frames("openai-chat", answer):
            if paced and self._pause:
                due += self._pause
                await anyio.sleep_until(due)
            yield decoder.feed(data)
        decoder.close()

    def takes_schema(self, schema: Mapping[str, Any]) -> bool:
        """Return True: answers are made to fit the schema."""
        return True

    async def aclose(self) -> None:
        """Do nothing: no resource is open."""
