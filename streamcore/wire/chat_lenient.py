"""Decode a chat event that the strict structs refuse: wrong number types, wrong shapes, undeclared fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from msgspec import UNSET

from streamcore.wire.chat_structs import CallDelta, ChatEvent, Choice, Delta, Function
from streamcore.wire.lenient import is_array, items, mapping

SENT_BACK = frozenset(
    {
        "extra_content",  # Gemini: thought signatures
        "provider_specific_fields",  # LiteLLM's name for the same
        "thought_signature",
        "thinking_blocks",  # LiteLLM: Anthropic's thinking
        "reasoning_opaque",  # GitHub Copilot
    }
)
"""Fields that have no normal form, and that the next turn must send back to the server that sent them."""


class _Reader:
    """Read fields by name and type; `known` becomes False if a field with a value could not be read."""

    def __init__(self) -> None:
        self.known = True

    def fields(self, struct: type, value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            self.known = self.known and value is None
            return {}
        given = cast("Mapping[str, Any]", value)
        declared = set(cast("Any", struct).__struct_fields__)
        if any(item is not None for key, item in given.items() if key not in declared):
            self.known = False
        return {key: item for key, item in given.items() if key in declared and item is not None}

    def text(self, value: object) -> str | None:
        if value is None or isinstance(value, str):
            return value
        self.known = False
        return None

    def number(self, value: object) -> int | None:
        if isinstance(value, int) or value is None:
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
            return int(value)
        self.known = False
        return None

    def mapping(self, value: object) -> dict[str, Any] | None:
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
        self.known = self.known and value is None
        return None

    def items(self, value: object) -> list[Any]:
        self.known = self.known and (value is None or is_array(value))
        return items(value)

    def event(self, value: object) -> ChatEvent:
        given = self.fields(ChatEvent, value)
        return ChatEvent(
            choices=[self.choice(item) for item in self.items(given.get("choices"))],
            id=self.text(given.get("id")),
            model=self.text(given.get("model")),
            usage=self.mapping(given.get("usage")),
            x_groq=self.mapping(given.get("x_groq")),
            citations=given.get("citations"),
            search_results=given.get("search_results"),
            prompt_filter_results=given.get("prompt_filter_results"),
            error=given.get("error"),
        )

    def choice(self, value: object) -> Choice:
        given = self.fields(Choice, value)
        return Choice(
            delta=self.delta(given["delta"]) if "delta" in given else None,
            index=self.number(given.get("index")),
            finish_reason=self.text(given.get("finish_reason")),
            logprobs=given.get("logprobs"),
            native_finish_reason=given.get("native_finish_reason"),
            stop_reason=given.get("stop_reason"),
            matched_stop=given.get("matched_stop"),
            usage=self.mapping(given.get("usage")),
            message=given.get("message", UNSET),
            text=given.get("text", UNSET),
            content_filter_results=given.get("content_filter_results"),
        )

    def delta(self, value: object) -> Delta:
        given = self.fields(Delta, value)
        body = given.get("content")
        return Delta(
            content=body if is_array(body) else self.text(body),
            tool_calls=[self.call(item) for item in self.items(given.get("tool_calls"))],
            reasoning_content=self.text(given.get("reasoning_content")),
            reasoning=self.text(given.get("reasoning")),
            refusal=self.text(given.get("refusal")),
            reasoning_details=self.items(given.get("reasoning_details")),
            annotations=[item for item in map(self.mapping, self.items(given.get("annotations"))) if item],
            function_call=given.get("function_call"),
            audio=given.get("audio"),
            images=given.get("images"),
            kept=_kept(value),
        )

    def call(self, value: object) -> CallDelta:
        given = self.fields(CallDelta, value)
        function = self.fields(Function, given.get("function"))
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping | list):
            arguments = json.dumps(arguments, ensure_ascii=False)  # some servers send the object itself
        return CallDelta(
            index=self.number(given.get("index")),
            id=self.text(given.get("id")),
            function=Function(name=self.text(function.get("name")), arguments=self.text(arguments)),
            kept=_kept(value),
        )


def _kept(value: object) -> dict[str, Any] | None:
    return {key: item for key, item in mapping(value).items() if key in SENT_BACK and item} or None


def lenient_event(value: object) -> tuple[ChatEvent, bool]:
    """Return the fields of the event that can be read, and True if these are all that have a value."""
    reader = _Reader()
    event = reader.event(value)
    return event, reader.known
