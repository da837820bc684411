"""Find the tool call that a fragment belongs to; vendors identify it in different ways."""

from __future__ import annotations

import json

from streamcore.chunk import ToolCall, tool_call
from streamcore.wire.chat_structs import CallDelta, Function

_NO_ID = frozenset({"", "null"})  # the Gemini gateway sends "", Mistral's default is the string "null"
_NO_FUNCTION = Function()


class _Call:
    __slots__ = ("arguments", "id", "index", "name", "position")

    def __init__(self, position: int, index: int | None) -> None:
        self.position = position
        self.index = index
        self.id: str | None = None
        self.name: str | None = None
        self.arguments: list[str] = []

    def is_whole(self) -> bool:
        """True if the arguments so far are a JSON value, so that further arguments begin another call."""
        try:
            json.loads("".join(self.arguments))
        except ValueError:
            return False
        return True


class ToolCalls:
    """Merge the tool calls of one answer: a fragment belongs to the call with its id, its index, or the last call."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def merge(self, delta: CallDelta) -> ToolCall:
        """Return the fragment with the position, id and name of its call."""
        function = delta.function or _NO_FUNCTION
        if delta.id is None and function.name is None and self._calls and self._calls[-1].index == delta.index:
            last = self._calls[-1]  # most fragments are further arguments of the last call
            arguments = function.arguments or ""
            if arguments:
                last.arguments.append(arguments)
            return tool_call(last.id, last.name, arguments, last.position)
        identity = None if delta.id is None or delta.id in _NO_ID else delta.id
        name = function.name or None
        call = self._find(identity, delta.index, name)
        if call is None:
            call = _Call(len(self._calls), delta.index)
            self._calls.append(call)
        if identity is not None and call.id is None:
            call.id = identity
        if name is not None and name != call.name:
            call.name = name if call.name is None else call.name + name
        if function.arguments:
            call.arguments.append(function.arguments)
        return ToolCall(call.id, call.name, function.arguments or "", call.position)

    def _find(self, identity: str | None, index: int | None, name: str | None) -> _Call | None:
        """Return the call that a fragment continues; None if it begins another."""
        if identity is not None:
            same = [known for known in self._calls if known.id == identity]
            exact = next((known for known in same if known.index == index), None)
            if exact is not None:
                return exact
            if same:
                last = same[-1]
                unfinished = bool(last.arguments) and not last.is_whole()  # a server that counts fragments, not calls
                continues = index is None or last.index is None or name is None or unfinished
                return last if continues else None  # one id at two indexes: some servers derive ids from names
        if index is None:
            call = self._calls[-1] if self._calls else None
        else:
            call = next((one for one in reversed(self._calls) if one.index == index), None)
        if call is None:
            return None
        other_id = identity is not None and call.id is not None
        if name is None:
            return None if other_id and index is None else call
        if other_id or (call.arguments and (identity is not None or name != call.name or call.is_whole())):
            return None  # some servers reuse an index: another id, or a name after arguments, begins another call
        return None if index is None and name != call.name else call
