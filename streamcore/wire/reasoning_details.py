"""Put the streamed fragments of opaque reasoning together, as the next request wants them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamcore.wire.lenient import is_array

_TEXTS = ("text", "summary", "thinking", "data", "signature")
_PIECES = ("thinking", "summary")


def merge_details(fragments: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Concatenate neighbouring fragments of the same type and index; other fields keep their last value.

    Reads OpenRouter's `reasoning_details`, Mistral's `thinking` parts and Databricks' `reasoning` parts.
    """
    merged: list[dict[str, Any]] = []
    for fragment in fragments:
        last = merged[-1] if merged else None
        if last is None or not _continues(last, fragment):
            merged.append(_copy(fragment))
            continue
        for key, value in fragment.items():
            if value is None or key in ("type", "index"):
                continue
            known = last.get(key)
            if key in _PIECES and is_array(value) and is_array(known):
                last[key] = _join_texts(known, value)
            elif key in _TEXTS and isinstance(value, str) and isinstance(known, str):
                last[key] = known + value
            else:
                last[key] = value
    return tuple(merged)


def _continues(last: Mapping[str, Any], fragment: Mapping[str, Any]) -> bool:
    if last.get("type") != fragment.get("type") or last.get("index") != fragment.get("index"):
        return False
    return last.get("id") is None or fragment.get("id") in (None, last["id"])


def _copy(fragment: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, list) else value for key, value in fragment.items()}  # pyright: ignore[reportUnknownArgumentType]


def _join_texts(known: list[Any], more: list[Any]) -> list[Any]:
    for piece in more:
        match known[-1:], piece:
            case [{"type": "text", "text": str(before)}], {"type": "text", "text": str(text)}:
                known[-1] = {"type": "text", "text": before + text}
            case [{"type": "summary_text", "text": str(before)}], {"type": "summary_text", "text": str(text)}:
                known[-1] = {**known[-1], **piece, "text": before + text}  # a signature comes with the last one
            case _:
                known.append(piece)
    return known
