"""Check the types of a request's parts when it is made, so that a mistake is an error in the line that made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from streamcore.parts import Document, Image, Part, Text

_NUMBERS = ("temperature", "default_temperature", "max_tokens", "seed")


def checked_parts(content: object) -> tuple[Part, ...]:
    """Return the content of a message as a tuple of parts.

    Raises:
        TypeError: it is not a collection of `Text`, `Image` and `Document`.
    """
    kind = type(content).__name__
    if not isinstance(content, Iterable) or isinstance(content, (bytes, Mapping)):
        raise _wrong_content(kind)
    parts = tuple(cast("Iterable[object]", content))
    for part in parts:
        if not isinstance(part, (Text, Image, Document)):
            raise _wrong_content(f"a list with {type(part).__name__}")
    return cast("tuple[Part, ...]", parts)


def _wrong_content(given: str) -> TypeError:
    return TypeError(
        "the content of a message is a text, or a list of Text, Image and Document, as in "
        f"[Text('What is this?'), Image(url='...')], not {given}"
    )


def check_entries(given: object, kind: type, what: str) -> None:
    """Raise TypeError with the message `what` unless `given` is a collection of objects of this kind."""
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise TypeError(what)
    if not all(isinstance(one, kind) for one in cast("Iterable[object]", given)):
        raise TypeError(what)


def check_numbers(request: Any) -> None:
    """Raise TypeError for a number of a request that is given as text."""
    for name in _NUMBERS:
        value = getattr(request, name)
        if isinstance(value, str):
            raise TypeError(f"{name} of a Request is a number, not the text {value!r}")
