"""Find the JSON in an answer: complete at the end, partial while it grows, in a code fence or with prose around it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_FENCE = re.compile(r"(`{3,}|~{3,})[^\n`]*\n")
_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"?|[{}\[\]]')  # a string that is not closed ends with its line
_OPENING = re.compile(r"[{\[]")
_LIKE_JSON = re.compile(r'\{\s*["}]|\[\s*(?:["{\[\]\-\d]|true\b|false\b|null\b)')
_NUMBER = re.compile(r"(?<=[\s:,\[])-?\d[\d.eE+-]*\Z")
_NUMBER_LENGTH = 64
_THINK_TAG = re.compile("</?think>")
_TAG_BEGINNING = re.compile(r"<(?:/?(?:t(?:h(?:i(?:n(?:k)?)?)?)?)?)?\Z")
_STRING = re.compile(r'"(?:\\.|[^"\\])*"?', re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f]")
_STRING_OR_BRACKET = re.compile(rf"{_STRING.pattern}|[{{}}\[\]]", re.DOTALL)
_decode = json.JSONDecoder(strict=False).raw_decode  # models write line ends in strings without an escape

_MAX_FAILURES = 16  # broken documents that are parsed to their end, not only to the bracket that closes them
_EXACT = 8192  # characters; beyond, a growing document is parsed each time that it has grown by a part of `_GROWTH`
_GROWTH = 64

MAX_DEPTH = 200
"""How many levels of objects and arrays a document may have, as in pydantic's parser."""

NOTHING: Any = object()
"""A placeholder for no value, since null is a value."""


def documents(text: str) -> Iterator[str]:
    """Yield every separate JSON text in an answer, in order, but none that is part of another.

    The parts of a cut or broken document are not yielded: they are not the answer. Neither are documents with more
    than `MAX_DEPTH` levels. Line ends and other control characters in strings are escaped, as JSON requires.
    """
    text = unfenced(without_thinking(text))
    if text[:1] not in ("{", "["):
        try:
            json.loads(text, strict=False)
        except (ValueError, RecursionError):
            pass
        else:
            yield escaped(text)
            return
    for start, end in _spans(text):
        document = text[start:end]
        if not is_too_deep(document):
            yield escaped(document)


def escaped(text: str) -> str:
    """Return JSON, perhaps cut, with the control characters in its strings escaped."""
    if _CONTROL.search(text) is None:
        return text
    return _STRING.sub(lambda string: _CONTROL.sub(_escape, string.group()), text)


def _escape(control: re.Match[str]) -> str:
    return json.dumps(control.group())[1:-1]


def is_too_deep(text: str) -> bool:
    """True if JSON, perhaps cut, has more than `MAX_DEPTH` levels of objects and arrays."""
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        depth += 1 if token.group() in "{[" else -1 if token.group() in "}]" else 0
        if depth > MAX_DEPTH:
            return True
    return False


def without_thinking(text: str) -> str:
    """Return the text without `<think>`, `</think>` and the text between them.

    Text before a closing tag that nothing opened is thinking, too: many chat templates write the opening tag. A tag
    inside a JSON document belongs to it.
    """
    if "think>" not in text:
        return text
    spans = list(_spans(text))
    kept: list[str] = []
    start, thinking, span = 0, False, 0
    for tag in _THINK_TAG.finditer(text):
        while span < len(spans) and spans[span][1] <= tag.start():
            span += 1
        inside = span < len(spans) and spans[span][0] < tag.start()
        if inside or (thinking and tag.group() == "<think>"):
            continue
        if tag.group() == "<think>":
            kept.append(text[start : tag.start()])
            thinking = True
            continue
        if not thinking:
            kept.clear()
        start, thinking = tag.end(), False
    return "".join(kept) + ("" if thinking else text[start:])


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each JSON object or array that is not part of another."""
    at, failures = 0, 0
    ends: dict[int, int] | None = None
    while (opening := _OPENING.search(text, at)) is not None:
        start = opening.start()
        if _LIKE_JSON.match(text, start):
            end = None if ends is None or failures < _MAX_FAILURES else ends.get(start)
            try:
                if end is None:  # an error costs as much as all the text before it
                    _, at = _decode(text, start)
                else:
                    at = start + _decode(text[start:end])[1]
            except (ValueError, RecursionError):
                failures += 1
            else:
                yield start, at
                continue
        ends = _ends(text) if ends is None else ends
        after = _after_broken(text, start, ends)
        if after is None:
            return
        at = after


def unfenced(text: str) -> str:
    """Return the text without surrounding whitespace, and without a code fence around all of it."""
    text = text.strip()
    opening = _FENCE.match(text)
    if opening is None:
        return text
    fence = opening[1]
    if fence[0] == "~":  # what follows three of them may be more of them
        fence = fence[: max(3, len(text) - len(text.rstrip("~")))]
    if not text.endswith(fence) or len(text) < opening.end() + len(fence):
        return text
    return text[opening.end() : len(text) - len(fence)].strip()


def _ends(text: str) -> dict[int, int]:
    """Return the end of each closed bracket by its start; brackets in strings do not count."""
    ends: dict[int, int] = {}
    open_at: list[int] = []
    for token in _TOKEN.finditer(text):
        if token.group() in "{[":
            open_at.append(token.start())
        elif token.group() in "}]" and open_at:
            ends[open_at.pop()] = token.end()
    return ends


def _after_broken(text: str, start: int, ends: dict[int, int]) -> int | None:
    """Return where to continue after a bracket that opens no JSON; None if it opens JSON that is not closed."""
    if start in ends:
        return ends[start]
    return None if _LIKE_JSON.match(text, start) else start + 1


class GrowingJson:
    """Parse JSON that is still being received: plain data that only grows until it is complete."""

    def __init__(self) -> None:
        from pydantic_core import from_json

        self._from_json = from_json
        self._pieces: list[str] = []
        self._length = 0
        self._start = 0
        self._last: Any = NOTHING
        self._thinking = False
        self._tag = ""  # text that may be the beginning of a think tag
        self._idle_until = 0  # up to this length, parsing costs more than it finds
        self._is_open_until = 0  # up to this length, the JSON is taken to be open

    def add(self, text: str) -> Any:
        """Add text; return the data so far if they have changed, else `NOTHING`.

        Strings grow letter by letter; a number, true, false or null appears when it is complete. Data of more than
        8,192 characters are parsed each time that they have grown by 1/64, so that the work is linear.
        """
        new = self._outside_thinking(text)
        self._pieces.append(new)
        self._length += len(new)
        if self._length < self._idle_until:
            return NOTHING
        text, ends = self._text(), None
        if len(text) > _EXACT:
            self._idle_until = len(text) + len(text) // _GROWTH
        while (opening := _OPENING.search(text, self._start)) is not None:
            self._start = opening.start()
            rest = text[self._start : None if ends is None else ends.get(self._start)]
            if not rest[1:].lstrip():
                return NOTHING  # the next character shows whether `{` begins JSON
            number = _NUMBER.search(rest, max(0, len(rest) - _NUMBER_LENGTH))
            try:
                data = self._parsed(rest[: number.start()] if number else rest)
            except ValueError:
                if ends is None or len(text) <= _EXACT:
                    ends = {self._start + start: self._start + end for start, end in _ends(rest).items()}
                after = _after_broken(text, self._start, ends)
                if after is None:
                    self._idle_until = len(text) * 3 // 2
                    return NOTHING
                self._start = after
                if len(text) <= _EXACT:
                    ends = None
            else:
                return self._changed(data)
        return NOTHING

    def end(self, document: str) -> Any:
        """Return the data of the document that fits the schema ("": of the first), if they differ from the last."""
        document = document or next(documents(self._text()), "")
        return self._changed(json.loads(document)) if document else NOTHING

    def _text(self) -> str:
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def _parsed(self, text: str) -> Any:
        """Return the data of JSON that may be cut, and whose strings may have control characters."""
        try:
            return self._from_json(text, allow_partial="trailing-strings")
        except ValueError:
            corrected = escaped(text)
            if corrected == text:
                raise
            return self._from_json(corrected, allow_partial="trailing-strings")

    def _outside_thinking(self, text: str) -> str:
        """Return the part of new text that is not between think tags; a lone closing tag voids all before it."""
        text, self._tag = self._tag + text, ""
        beginning = _TAG_BEGINNING.search(text)
        if beginning is not None:
            text, self._tag = text[: beginning.start()], beginning.group()
        if "think>" not in text:
            return "" if self._thinking else text
        start, kept = 0, ""
        for tag in _THINK_TAG.finditer(text):
            before = "" if self._thinking else text[start : tag.start()]
            if not self._thinking and self._is_open(kept, before):
                continue
            kept += before
            if tag.group() == "</think>" and not self._thinking:
                self._pieces, self._length, self._start, self._idle_until, kept = [], 0, 0, 0, ""
                self._is_open_until = 0
            self._thinking = tag.group() == "<think>"
            start = tag.end()
        return kept if self._thinking else kept + text[start:]

    def _is_open(self, kept: str, before: str) -> bool:
        """True if the JSON so far, with more of it, is not closed, so that a tag is part of a string."""
        length = self._length + len(kept) + len(before)
        if length < self._is_open_until:
            return True
        text = self._text() + kept + before
        spans = list(_spans(text))
        rest = text[spans[-1][1] :] if spans else text
        is_open = _LIKE_JSON.search(rest) is not None
        if is_open and length > _EXACT:
            self._is_open_until = length + length // _GROWTH
        return is_open

    def _changed(self, data: Any) -> Any:
        if self._last is not NOTHING and data == self._last:
            return NOTHING
        self._last = data
        return data
