"""Collect the parts of one candidate, as the next request sends them back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from streamcore.chunk import Chunk, Opaque, ToolCall, content
from streamcore.wire.lenient import is_object, items, mapping, text
from streamcore_google.partial_args import PartialArguments

WIRE = "gemini"


class OpenCall:
    """A function call whose arguments are streamed."""

    __slots__ = ("arguments", "id", "name", "part", "position")

    def __init__(self, call_id: str | None, name: str, part: Mapping[str, Any], position: int) -> None:
        self.id = call_id
        self.name = name
        self.part = part
        self.position = position
        self.arguments = PartialArguments()

    def fragment(self, arguments: str) -> ToolCall:
        """Return a fragment of the call."""
        return ToolCall(self.id, self.name, arguments, self.position)


class Turn:
    """Collect what one candidate sends, part by part.

    Texts are joined, except those with a signature: the API wants each signature back in its own part.
    """

    __slots__ = ("_run", "calls", "choice", "message", "open_call", "parts", "ratings", "raw", "reason", "thought")

    def __init__(self, choice: int) -> None:
        self.choice = choice
        self.parts: list[Mapping[str, Any]] = []
        self.calls = 0
        """The number of function calls so far."""
        self.open_call: OpenCall | None = None
        """The call whose arguments continue in the next event."""
        self.reason: str | None = None
        """The last finish reason; only the end of the body shows that it is the last."""
        self.message: str | None = None
        """What the vendor says about the finish reason."""
        self.ratings: list[Any] = []
        """The last safety ratings."""
        self.raw: bytes | None = None
        """The event of the last finish reason."""
        self.thought = False  # the open run of text is reasoning
        self._run: list[str] = []

    def add_text(self, piece: str, thought: bool) -> None:
        """Add text without a signature."""
        if thought is not self.thought:
            self._close_run()
            self.thought = thought
        self._run.append(piece)

    def add_part(self, part: Mapping[str, Any]) -> None:
        """Add a part that stays as it is."""
        self._close_run()
        self.parts.append(part)

    def _close_run(self) -> None:
        if self._run:
            joined: dict[str, Any] = {"text": "".join(self._run)}
            self.parts.append({**joined, "thought": True} if self.thought else joined)
            self._run = []

    def call(self, part: Mapping[str, Any], arguments: str, out: list[Chunk]) -> bool:
        """Append the chunks of a function call or of a piece of one; return False for a piece of no call."""
        given = mapping(part.get("functionCall"))
        name, more = text(given.get("name")), given.get("willContinue") is True
        if name is None and self.open_call is None:
            return not given
        if name is not None:
            self.end_call(out)
            call_id = text(given.get("id")) or None
            if not more and "partialArgs" not in given:
                self.add_part(part)
                self._append(ToolCall(call_id, name, arguments, self.calls), out)
                self.calls += 1
                return True
            self._close_run()
            self.open_call = OpenCall(call_id, name, part, self.calls)
            self.calls += 1
            self._append(self.open_call.fragment(""), out)
        call = self.open_call
        if call is not None:
            for piece in items(given.get("partialArgs")):
                fragment = call.arguments.add(mapping(piece))
                if fragment:
                    self._append(call.fragment(fragment), out)
            if not more:
                self.end_call(out)
        return True

    def end_call(self, out: list[Chunk]) -> None:
        """Append the last fragment of the open call, if there is one; the event that ends a call can be missing."""
        call, self.open_call = self.open_call, None
        if call is None:
            return
        rest = call.arguments.end()
        if rest:
            self._append(call.fragment(rest), out)
        known = {key: value for key, value in mapping(call.part["functionCall"]).items() if key in ("name", "id")}
        self.add_part({**call.part, "functionCall": {**known, "args": call.arguments.value}})

    def _append(self, fragment: ToolCall, out: list[Chunk]) -> None:
        out.append(content("tool_call", "", 0, self.choice, fragment))

    def opaque(self, source: str | None) -> Opaque | None:
        """Return the parts for the next turn; None if text and calls represent them."""
        self._close_run()
        plain = all(_is_plain(part) for part in self.parts)
        texts = [index for index, part in enumerate(self.parts) if "text" in part]
        if plain and texts in ([], [0]):
            return None
        return Opaque(WIRE, tuple(self.parts), source=source)


def _is_plain(part: Mapping[str, Any]) -> bool:
    keys = set(part)
    return keys == {"text"} or (
        keys == {"functionCall"} and not mapping(part["functionCall"]).keys() - {"name", "args"}
    )


def arguments_text(given: object) -> str:
    """Return the arguments of a call as JSON, for an event whose bytes cannot be used; "" if there are none."""
    return json.dumps(given, ensure_ascii=False) if is_object(given) else ""
