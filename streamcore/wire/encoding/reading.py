"""Read the JSON of clients' requests strictly: an error names the client's parameter, as `messages[0].content`."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar, get_args

from streamcore.request import Image, ReasoningEffort
from streamcore.wire.encoding.wire import RequestRefused
from streamcore.wire.lenient import is_array, is_object

T = TypeVar("T")
EFFORTS: tuple[str, ...] = get_args(ReasoningEffort)


class Fields:
    """The fields of one JSON object of a request; `path` is its name in errors, "" for the body itself.

    Each method removes the field that it reads, and returns None for one that is absent or null. What was not read is
    in `rest()`.
    """

    __slots__ = ("_left", "path")

    def __init__(self, value: object, path: str = "") -> None:
        if not is_object(value):
            raise RequestRefused(f"{path or 'the body'} must be a JSON object", param=path or None)
        self._left = {key: item for key, item in value.items() if item is not None}
        self.path = path

    def name(self, key: str) -> str:
        """Return the full name of a field, for errors."""
        return f"{self.path}.{key}" if self.path else key

    def refuse(self, key: str, why: str) -> RequestRefused:
        """Return the error for a field."""
        name = self.name(key)
        return RequestRefused(f"{name} {why}", param=name)

    def any(self, key: str) -> Any:
        """Return a value of any type."""
        return self._left.pop(key, None)

    def _typed(self, key: str, fits: Callable[[Any], bool], what: str) -> Any:
        value = self._left.pop(key, None)
        if value is not None and not fits(value):
            raise self.refuse(key, f"must be {what}")
        return value

    def text(self, key: str) -> str | None:
        """Return a string."""
        found: str | None = self._typed(key, lambda value: isinstance(value, str), "a string")
        return found

    def required(self, key: str) -> str:
        """Return a string that must be there."""
        found = self.text(key)
        if found is None:
            raise self.refuse(key, "is required")
        return found

    def flag(self, key: str) -> bool | None:
        """Return true or false."""
        found: bool | None = self._typed(key, lambda value: isinstance(value, bool), "true or false")
        return found

    def number(self, key: str, least: float = -math.inf) -> float | None:
        """Return a number."""
        found: float | None = self._typed(key, lambda value: _is_number(value) and value >= least, _at_least(least))
        return found

    def whole(self, key: str, least: int | None = None) -> int | None:
        """Return a whole number."""
        what = "a whole number" if least is None else f"a whole number of {least} or more"
        found: int | None = self._typed(
            key, lambda value: _is_number(value) and int(value) == value and (least is None or value >= least), what
        )
        return None if found is None else int(found)

    def one_of(self, key: str, words: Collection[str]) -> str | None:
        """Return one of these words."""
        found: str | None = self._typed(
            key, lambda value: isinstance(value, str) and value in words, f"one of {', '.join(map(repr, words))}"
        )
        return found

    def array(self, key: str) -> list[Any] | None:
        """Return a list."""
        found: list[Any] | None = self._typed(key, is_array, "a list")
        return found

    def object(self, key: str) -> Fields | None:
        """Return the fields of an object."""
        value = self._left.pop(key, None)
        return None if value is None else Fields(value, self.name(key))

    def mapping(self, key: str) -> Mapping[str, Any] | None:
        """Return an object as it is."""
        found: Mapping[str, Any] | None = self._typed(key, is_object, "a JSON object")
        return found

    def objects(self, key: str) -> Iterator[Fields]:
        """Yield the fields of each object of a list."""
        for number, value in enumerate(self.array(key) or ()):
            yield Fields(value, f"{self.name(key)}[{number}]")

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a string, or a list of strings, as a tuple."""
        value = self._left.pop(key, None)
        found = [value] if isinstance(value, str) else [] if value is None else value
        if not is_array(found) or not all(isinstance(one, str) for one in found):
            raise self.refuse(key, "must be a string or a list of strings")
        return tuple(found)

    def drop(self, *keys: str) -> None:
        """Remove fields that have no meaning for the answer."""
        for key in keys:
            self._left.pop(key, None)

    def drop_default(self, **values: Any) -> None:
        """Remove fields that have the value that the wire has without them."""
        for key, value in values.items():
            if key in self._left and self._left[key] == value:
                del self._left[key]

    def rest(self) -> dict[str, Any]:
        """Return the fields that were not read."""
        return self._left

    def end(self) -> None:
        """Raise if a field was not read.

        Raises:
            RequestRefused: there is one.
        """
        for key in self._left:
            raise self.refuse(key, "is not supported")


def _is_number(value: object) -> bool:
    """True for a finite number; a whole one may have 64 bits, since few parsers read more."""
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**63
    return isinstance(value, float) and math.isfinite(value)


def _at_least(least: float) -> str:
    return "a number" if least == -math.inf else f"a number of {least:g} or more"


def image_of(url: str, where: Fields, key: str) -> Image:
    """Return the image at a URL; the data of a `data:` URL are decoded."""
    if not url.startswith("data:"):
        return Image(url=url)
    head, comma, data = url.removeprefix("data:").partition(",")
    media_type, _, encoding = head.partition(";")
    if not comma or encoding != "base64" or not media_type:
        raise where.refuse(key, "is a data URL that is not base64 with a media type, as data:image/png;base64,...")
    return Image(data=decoded(data, where, key), media_type=media_type)


def decoded(data: str, where: Fields, key: str) -> bytes:
    """Return the bytes of a base64 text."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise where.refuse(key, "is not valid base64") from error
