"""Merge the streamed fragments of opaque reasoning into the objects that the next request sends back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streamcore.wire.lenient import is_array, is_object

_TEXTS = ("text", "summary", "thinking", "data", "signature")
_PIECES = ("thinking", "summary")
_JOINED = ("text", "summary_text")


def merge_details(merged: list[dict[str, Any]], fragments: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Concatenate adjacent fragments of the same type and index; other fields keep their last value.

    Reads OpenRouter's `reasoning_details`, Mistral's `thinking` parts and Databricks' `reasoning` parts. `merged` has
    the result so far and is changed; the fragments are not.
    """
    for fragment in fragments:
        last = merged[-1] if merged else None
        if last is None or not _continues(last, fragment):
            merged.append(copied(fragment))
            continue
        for key, value in fragment.items():
            if value is None or key in ("type", "index"):
                continue
            if key in _TEXTS and isinstance(value, str) and isinstance(last.get(key), str):
                _extend(last, key, value)
            elif key in _PIECES and value.__class__ is list and last.get(key).__class__ is list:
                _join_texts(last[key], value)
            else:
                last[key] = _copy(value)
    return merged


def copied(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy that can grow by itself."""
    return {key: _copy(value) for key, value in detail.items()}


def _continues(last: Mapping[str, Any], fragment: Mapping[str, Any]) -> bool:
    if last.get("type") != fragment.get("type") or last.get("index") != fragment.get("index"):
        return False
    return last.get("id") is None or fragment.get("id") in (None, last["id"])


def _copy(value: Any) -> Any:
    return [{**piece} if is_object(piece) else piece for piece in value] if is_array(value) else value


def _extend(holder: dict[str, Any], key: str, more: str) -> None:
    """Append to a text without a copy of it: Python extends a text in place if nothing else refers to it."""
    known: str = holder[key]
    holder[key] = ""
    known += more
    holder[key] = known


def _join_texts(known: list[Any], more: Any) -> None:
    for piece in more:
        last: Any = known[-1] if known else None
        kind = piece.get("type") if piece.__class__ is dict and isinstance(piece.get("text"), str) else None
        if (
            kind in _JOINED
            and last.__class__ is dict
            and last.get("type") == kind
            and isinstance(last.get("text"), str)
        ):
            _extend(last, "text", piece["text"])
            if len(piece) > 2:  # the last piece has the signature
                last.update({key: value for key, value in piece.items() if key != "text"})
        else:
            known += _copy([piece])
