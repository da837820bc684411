"""Fill in the text that decoders leave out of opaque data, since the answer has it already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from streamcore.chunk import Opaque


def filled(opaque: Opaque, texts: Sequence[str], breaks: Sequence[int], reasoning: str) -> Opaque:
    """Fill in what decoders leave out: the text between other parts, and the reasoning where a field is None."""
    items, fields = opaque.items, opaque.fields
    if breaks:
        starts = (0, *breaks[:-1])
        runs = iter(["".join(texts[start:end]) for start, end in zip(starts, breaks, strict=True) if end > start])
        items = tuple(_with_text(item, runs) for item in items)
        fields = {
            key: [_with_text(part, runs) for part in value] if key == "content" else value
            for key, value in fields.items()
        }
    if None in fields.values():
        fields = {key: reasoning if value is None else value for key, value in fields.items()}
    return opaque if items is opaque.items and fields is opaque.fields else replace(opaque, items=items, fields=fields)


def _with_text(item: Mapping[str, Any], runs: Iterable[str]) -> Mapping[str, Any]:
    return {"type": "text", "text": next(iter(runs), "")} if item == {"type": "text"} else item
