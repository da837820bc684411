"""Send the arguments of a call so that they are valid JSON in the end, also if the model is cut or breaks them.

AG-UI wants valid JSON at `TOOL_CALL_END` (AGUI204 of ag-ui-validate): its client runs the tool with `{}` if it is not.
What was sent cannot be taken back. So a piece is sent only as far as the text can still become valid.
"""

from __future__ import annotations

import json
import re

BROKEN = "INVALID_JSON"
"""The key under which arguments that are not valid are sent as the text that the model wrote."""

_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_ESCAPE_BEGIN = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
_SCALAR = re.compile(r"[-+.0-9A-Za-z]*")
_VALID_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
_MAX_DEPTH = 500  # above, parsers give up


class ArgumentText:
    """Read the JSON object that a call's arguments are, piece by piece.

    `add` returns what of the pieces may be sent; `close` returns the rest, which completes the object. Arguments that
    are no object are sent whole, by `close`.
    """

    __slots__ = ("_brackets", "_broken", "_key", "_next", "_pieces", "_string", "_unsent")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._unsent = ""
        self._brackets = ""
        self._next = "begin"  # what may come: begin, key, key or }, :, value, value or ], comma, end
        self._string = self._key = False  # within a string; which is a key
        self._broken = False

    def add(self, piece: str) -> str:
        """Add a piece; return what may be sent."""
        self._pieces.append(piece)
        if self._broken:
            return ""
        self._unsent += piece
        done = 0
        while (at := self._token_end(done)) is not None:
            done = at
        sent, self._unsent = self._unsent[:done], self._unsent[done:]
        return "" if self._next == "begin" else sent

    @property
    def complete(self) -> bool:
        """True if the arguments are valid JSON, or empty."""
        if self._next == "begin":
            text = "".join(self._pieces)
            return not text.strip() or _is_json(text)
        return self._next == "end" and not self._broken

    @property
    def broken(self) -> bool:
        """True if no more text could make the arguments valid."""
        return self._broken

    def close(self) -> str:
        """Return what completes the JSON; arguments that are not valid are added to it as a text."""
        text = "".join(self._pieces)
        if self._next == "begin":
            return text if _is_json(text) else json.dumps({BROKEN: text}) if text.strip() else ""
        if self._next == "end":
            return "" if self._broken else self._unsent
        end = '"' if self._string else ""
        waits = (":" if self._key else "comma") if self._string else self._next
        end += {":": ":null", "value": "null", "value or ]": ""}.get(waits, "")
        first = waits == "key or }"
        if waits == "key" and len(self._brackets) > 1:
            end += f'"{BROKEN}":null'
        for bracket in reversed(self._brackets[1:]):
            end += "}" if bracket == "{" else "]"
            first = False
        comma = "" if (first or waits == "key") and len(self._brackets) == 1 else ","
        return f'{end}{comma}"{BROKEN}":{json.dumps(text)}}}'

    def _token_end(self, at: int) -> int | None:
        """Return where the token at a position ends; None: it has not ended, or is not valid."""
        text = self._unsent
        if self._string:
            end = _end(_STRING, text, at)
            if text[end : end + 1] == '"':
                self._string, self._next = False, ":" if self._key else "comma"
                return end + 1
            escape = _ESCAPE_BEGIN.match(text, end)
            self._broken = end < len(text) and (escape is None or escape.end() < len(text))
            return end if end > at else None
        at = _end(_SPACE, text, at)
        if at == len(text):
            return None
        found = self._expected(text, at)
        self._broken = found is None
        return found or None

    def _expected(self, text: str, at: int) -> int | None:
        """Return where the token that begins at a position ends; 0: it is not whole yet; None: it is not valid here."""
        char, state = text[at], self._next
        if state == "begin":
            return self._opened(char, at) if char == "{" else None
        if char == '"' and state in ("key", "key or }", "value", "value or ]"):
            self._string, self._key = True, state.startswith("key")
            return at + 1
        if state in ("value", "value or ]") and char in "{[" and len(self._brackets) < _MAX_DEPTH:
            return self._opened(char, at)
        if (char == "}" and state in ("key or }", "comma") and self._brackets[-1] == "{") or (
            char == "]" and state in ("value or ]", "comma") and self._brackets[-1] == "["
        ):
            self._brackets = self._brackets[:-1]
            self._next = "comma" if self._brackets else "end"
            return at + 1
        if char == "," and state == "comma":
            self._next = "key" if self._brackets[-1] == "{" else "value"
            return at + 1
        if char == ":" and state == ":":
            self._next = "value"
            return at + 1
        if state not in ("value", "value or ]"):
            return None
        end = _end(_SCALAR, text, at)
        if end == len(text):
            return 0
        if _VALID_SCALAR.fullmatch(text, at, end) is None:
            return None
        self._next = "comma"
        return end

    def _opened(self, bracket: str, at: int) -> int:
        self._brackets += bracket
        self._next = "key or }" if bracket == "{" else "value or ]"
        return at + 1


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _is_json(text: str) -> bool:
    """Return whether a text is valid JSON, which has no NaN."""
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not valid JSON")
