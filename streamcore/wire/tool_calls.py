"""Find the tool call that a fragment belongs to; vendors identify it in different ways."""

from __future__ import annotations

from streamcore.chunk import ToolCall, tool_call
from streamcore.errors import MalformedStream
from streamcore.structured.json_end import JSONEnd
from streamcore.wire.chat_structs import CallDelta, Function

_NO_ID = frozenset({"", "null"})  # the Gemini gateway sends "", Mistral's default is the string "null"
_NO_FUNCTION = Function()
MAX_NAME = 8192
"""The maximum length of the name of a tool, in characters; it may come in pieces."""


class _Call:
    __slots__ = ("arguments", "end", "id", "index", "name", "position")

    def __init__(self, position: int, index: int | None) -> None:
        self.position = position
        self.index = index
        self.id: str | None = None
        self.name: str | None = None
        self.arguments: list[str] = []  # those that `end` has not read
        self.end: JSONEnd | None = None

    def is_whole(self) -> bool:
        """True if the arguments so far are a JSON value, so that further arguments begin another call."""
        end = self.end = self.end or JSONEnd()
        end.add("".join(self.arguments))
        self.arguments.clear()
        return end.whole()


class ToolCalls:
    """Merge the tool calls of one answer: a fragment belongs to the call with its id, its index, or the last call."""

    def __init__(self) -> None:
        self._last: _Call | None = None
        self._count = 0
        self._by_index: dict[int | None, _Call] = {}  # the last one of each index
        self._by_id: dict[str, _Call] = {}  # the last one of each id
        self._exact: dict[tuple[str, int | None], _Call] = {}  # the first one of each id and index

    def merge(self, delta: CallDelta) -> ToolCall:
        """Return the fragment with the position, id and name of its call.

        Raises:
            MalformedStream: a name is longer than `MAX_NAME`.
        """
        function = delta.function or _NO_FUNCTION
        last = self._last
        if delta.id is None and function.name is None and last is not None and last.index == delta.index:
            arguments = function.arguments or ""  # most fragments are further arguments of the last call
            if arguments:
                last.arguments.append(arguments)
            return tool_call(last.id, last.name, arguments, last.position)
        identity = None if delta.id is None or delta.id in _NO_ID else delta.id
        name = function.name or None
        call = self._find(identity, delta.index, name)
        if call is None:
            call = self._last = self._by_index[delta.index] = _Call(self._count, delta.index)
            self._count += 1
        if identity is not None and call.id is None:
            call.id = identity
            self._exact[identity, call.index] = self._by_id[identity] = call
        if name is not None and name != call.name:
            call.name = name if call.name is None else call.name + name
            if len(call.name) > MAX_NAME:
                raise MalformedStream(f"the name of a tool call has more than {MAX_NAME} characters")
        if function.arguments:
            call.arguments.append(function.arguments)
        return ToolCall(call.id, call.name, function.arguments or "", call.position)

    def _find(self, identity: str | None, index: int | None, name: str | None) -> _Call | None:
        """Return the call that a fragment continues; None if it begins another."""
        if identity is not None:
            exact = self._exact.get((identity, index))
            if exact is not None:
                return exact
            last = self._by_id.get(identity)
            if last is not None:
                unfinished = (last.arguments or last.end) and not last.is_whole()  # a server that counts fragments
                continues = index is None or last.index is None or name is None or unfinished
                return last if continues else None  # one id at two indexes: some servers derive ids from names
        call = self._last if index is None else self._by_index.get(index)
        if call is None:
            return None
        other_id = identity is not None and call.id is not None
        if name is None:
            return None if other_id and index is None else call
        begun = call.arguments or call.end
        if other_id or (begun and (identity is not None or name != call.name or call.is_whole())):
            return None  # some servers reuse an index: another id, or a name after arguments, begins another call
        return None if index is None and name != call.name else call
