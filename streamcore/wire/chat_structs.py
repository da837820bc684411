"""Describe the JSON of a `chat.completion.chunk` for msgspec, so that one call checks and decodes an event.

Fields of type `Raw` are known and contain nothing of the answer (ids repeated on every event, timings, padding) or
repeat another field; they are skipped. Fields that are not declared here make msgspec refuse the event: the lenient
reader then decodes it, and the event is also passed on as `other`, so that a vendor's new field is never dropped.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType, field

Known = Raw | UnsetType
Simple = str | int | float | None  # decoded faster than `Raw`
_X_GROQ = frozenset({"id", "seed", "usage"})


class TextDelta(Struct, gc=False, forbid_unknown_fields=True, kw_only=True):
    """Describe a `delta` that has only text."""

    role: Simple = None
    content: str


class TextChoice(Struct, gc=False, forbid_unknown_fields=True, kw_only=True):
    """Describe a choice that has only text."""

    index: int
    delta: TextDelta
    logprobs: None = None
    finish_reason: None = None


class TextEvent(Struct, gc=False, forbid_unknown_fields=True, kw_only=True):
    """Describe the most frequent event, a token of a single answer; it is tried first, since it is decoded fastest.

    Its fields have the order in which most servers send them, in which msgspec finds them fastest.
    """

    id: Simple = None
    object: Simple = None
    created: Simple = None
    model: Simple = None
    service_tier: Simple = None
    system_fingerprint: Simple = None
    choices: tuple[TextChoice]
    usage: None = None
    obfuscation: Simple = None
    p: Simple = None
    provider: Simple = None


class Function(Struct, gc=False, forbid_unknown_fields=True):
    """Describe the `function` of a tool call's fragment."""

    name: str | None = None
    arguments: str | None = None
    description: Known = UNSET


class CallDelta(Struct, gc=False, forbid_unknown_fields=True):
    """Describe an entry of `delta.tool_calls`."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None
    type: str | None = None
    kept: dict[str, Any] | None = field(default=None, name=" kept")
    """The fields that must be sent back with the call; only the lenient reader sets them."""


class Delta(Struct, gc=False, forbid_unknown_fields=True):
    """Describe the `delta` of a choice."""

    content: str | list[Any] | None = None
    role: Known = UNSET
    tool_calls: list[CallDelta] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    reasoning_details: list[Any] | None = None
    annotations: list[dict[str, Any]] | None = None
    function_call: Any = None
    audio: Any = None
    images: Any = None
    channel: Known = UNSET
    token_id: Known = UNSET
    kept: dict[str, Any] | None = field(default=None, name=" kept")
    """The fields that must be sent back with the message; only the lenient reader sets them."""

    def extras(self) -> Any:
        """Return content that has no normal form: any value that is not empty, or one that is empty."""
        return self.function_call or self.audio or self.images or self.kept


class Choice(Struct, gc=False, forbid_unknown_fields=True):
    """Describe an entry of `choices`."""

    delta: Delta | None = None
    index: int | None = 0
    finish_reason: str | None = None
    logprobs: Any = None
    native_finish_reason: Any = None
    stop_reason: Any = None
    matched_stop: Any = None
    usage: dict[str, Any] | None = None
    seed: Known = UNSET
    text: Known = UNSET
    message: Known = UNSET
    token_ids: Known = UNSET
    content_filter_results: Any = None
    content_filter_offsets: Known = UNSET

    def extras(self) -> bool:
        """True if there is content here that has no normal form."""
        if self.delta is None and not (self.message is UNSET and self.text is UNSET):
            return True  # usually they repeat the delta, but this choice has none
        return bool(self.content_filter_results)


class ChatEvent(Struct, gc=False, forbid_unknown_fields=True):
    """Describe an event."""

    choices: list[Choice] | None = None
    id: str | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None
    object: Known = UNSET
    created: Known = UNSET
    system_fingerprint: Known = UNSET
    service_tier: Known = UNSET
    obfuscation: Known = UNSET
    p: Known = UNSET
    provider: Known = UNSET
    type: Known = UNSET
    stream_options: Known = UNSET
    x_groq: dict[str, Any] | None = None
    error: Any = None
    citations: Any = None
    search_results: Any = None
    prompt_filter_results: Any = None

    def extras(self) -> Any:
        """Return content that has no normal form: any value that is not empty, or one that is empty."""
        if self.x_groq is not None and not self.x_groq.keys() <= _X_GROQ:
            return self.x_groq
        return self.citations or self.search_results or self.prompt_filter_results
