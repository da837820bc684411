"""Turn items and ends into bytes and back, without losing anything that a stream or its events contain."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any, TypeGuard, cast

import msgspec

from streamcore import errors
from streamcore.chunk import Chunk, content
from streamcore.completion import Attempt, Completion
from streamcore.errors import ConfigError, StreamcoreError
from streamcore.parts import read_part, write_part
from streamcore.sse import Item
from streamcore.sse.encoder import json_value
from streamcore.sse.public import reference

_DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in fields(Chunk)[1:]}
_MERGED = frozenset({"text", "reasoning", "refusal"})
_other_fields = attrgetter(
    "path", "tool_call", "usage", "finish_reason", "raw_finish_reason", "finish_detail", "opaque",
    "data", "id", "model", "request_id", "raw",
)  # fmt: skip
_NOTHING = ((), *(None,) * 11)


def is_only_text(item: Item) -> TypeGuard[Chunk]:
    """Return True for a chunk that has nothing but its kind, text, index and choice."""
    return isinstance(item, Chunk) and item.kind in _MERGED and _other_fields(item) == _NOTHING


def encode_items(items: Iterable[Item]) -> bytes:
    """Return the bytes of some items.

    Raises:
        ConfigError: a graph event has a value that is not JSON.
    """
    try:
        packed = [_packed(item) for item in items]
    except RecursionError as error:
        raise ConfigError("an item cannot be stored, since its data are nested too deeply") from error
    return _dumps(packed)


def decode_items(stored: bytes) -> list[Item]:
    """Return the items of these bytes."""
    return [_unpacked(one) for one in _loads(stored)]


def _packed(item: Item) -> object:
    """Return an item as JSON data: a str for a plain text chunk, which nearly all items are."""
    if isinstance(item, Chunk):
        if item.kind == "text" and not item.index and not item.choice and is_only_text(item):
            return item.text
        found = {name: value for name, default in _DEFAULTS.items() if (value := getattr(item, name)) != default}
        if item.tool_result is not None and item.tool_result.parts:
            found["tool_result"] = replace(item.tool_result, parts=tuple(map(write_part, item.tool_result.parts)))
        return {"chunk": msgspec.to_builtins({"kind": item.kind, **found}, enc_hook=json_value)}
    return {"token": item} if isinstance(item, str) else {"event": item}


def _unpacked(stored: Any) -> Item:
    if isinstance(stored, str):
        return content("text", stored)
    if "chunk" in stored:
        chunk = msgspec.convert(stored["chunk"], Chunk)
        result = chunk.tool_result
        if result is None or not result.parts:
            return chunk
        return replace(chunk, tool_result=replace(result, parts=tuple(map(read_part, result.parts))))
    return cast("Item", stored["token"] if "token" in stored else stored["event"])


def compacted(items: Iterable[Item]) -> list[Item]:
    """Return items with the same content, with adjacent pieces of one text joined."""
    found: list[Item] = []
    for key, pieces in itertools.groupby(items, _text_key):
        first, *rest = pieces
        if key is None or not rest:
            found += [first, *rest]
        elif isinstance(first, str):
            found.append("".join([first, *cast("list[str]", rest)]))
        elif isinstance(first, Chunk):
            text = "".join([first.text, *[chunk.text for chunk in cast("list[Chunk]", rest)]])
            found.append(content(first.kind, text, first.index, first.choice))
        else:
            texts = [event["content"] for event in cast("list[Mapping[str, Any]]", rest)]
            found.append({**first, "content": "".join([first["content"], *texts])})
    return found


def _text_key(item: Item) -> tuple[object, ...] | None:
    """Return what adjacent pieces of one text have in common; None for an item that is more than text."""
    if isinstance(item, str):
        return ()
    if isinstance(item, Chunk):
        return (item.kind, item.index, item.choice) if is_only_text(item) else None
    return (item["node"],) if item["type"] == "token" and "metadata" not in item else None


def encode_end(error: Exception | None, partial: Completion | None) -> bytes:
    """Return the bytes of a run's end: its error, if it failed, and the answer so far as it arrived."""
    if error is not None:
        reference(error)  # all readers get the one that the log has
    return _dumps({"error": _error(error), "partial": _builtins(partial)})


def decode_end(stored: bytes) -> tuple[Exception | None, Completion | None]:
    """Return a run's error and answer; errors of streamcore keep their class, others get one of the same name."""
    found = _loads(stored)
    return _raised(found["error"]), _completion(found["partial"])


def _error(error: BaseException | None) -> dict[str, Any] | None:
    if error is None:
        return None
    known: dict[str, Any] = {}
    if isinstance(error, StreamcoreError):
        known = {name: _builtins(value) for name, value in vars(error).items() if name != "__notes__"}
    elif isinstance(vars(error).get("reference"), str):  # the id that the log has
        known = {"reference": vars(error)["reference"]}
    cause = error.__cause__ if isinstance(error, errors.NodeError) else None  # decides whether its text may be shown
    message = str(error.args[0]) if error.args and isinstance(error, StreamcoreError) else str(error)
    return {"type": type(error).__name__, "message": message, "facts": known, "cause": _error(cause)}


def _raised(stored: Mapping[str, Any] | None) -> Exception | None:
    if stored is None:
        return None
    known: Any = getattr(errors, stored["type"], None)
    if not (isinstance(known, type) and issubclass(known, StreamcoreError)):
        known = type(stored["type"], (Exception,), {})  # browsers get the name of the class only
    kind = cast("type[Exception]", known)
    error = kind.__new__(kind, stored["message"])  # not called, since the classes take different arguments
    error.args = (stored["message"],)
    facts = dict(stored["facts"])
    if "partial" in facts:
        facts["partial"] = _completion(facts["partial"])
    if "attempts" in facts:
        facts["attempts"] = msgspec.convert(facts["attempts"], tuple[Attempt, ...])
    error.__dict__.update(facts)
    error.__cause__ = _raised(stored["cause"])
    return error


def _completion(stored: object) -> Completion | None:
    return None if stored is None else msgspec.convert(stored, Completion)


def _builtins(value: object) -> Any:
    """Return JSON data; leave out what has none, since an end must always be written."""
    forms = [value]
    if isinstance(value, Completion):
        forms += [replace(value, parsed=None), Completion(text=value.text)]
    for form in forms:
        try:
            return msgspec.to_builtins(form, enc_hook=_json_or_text)
        except (TypeError, ValueError, RecursionError):
            continue
    return repr(type(value))


def _json_or_text(value: object) -> object:
    """Return the value as JSON data, else its text."""
    try:
        return json_value(value)
    except TypeError:
        return str(value)


def _hook(value: object) -> object:
    return msgspec.to_builtins(value, enc_hook=json_value)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_hook).encode


def _dumps(value: object) -> bytes:
    # Not msgspec: `json` keeps half a surrogate pair, 2**80 and infinity.
    try:
        return _encode(value).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"an event cannot be stored, since it is not JSON: {error}") from error


def _loads(stored: bytes) -> Any:
    return json.loads(stored.decode("utf-8", "surrogatepass"))
