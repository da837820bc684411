"""Put the fragments of tool calls together, and give ids to the calls that have none."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from streamcore.chunk import ToolCall


def with_ids(calls: Sequence[ToolCall], seed: str) -> tuple[ToolCall, ...]:
    """Set the id of each call that has none or repeats an earlier one: results are matched to calls by id."""
    used: set[str] = set()
    with_ids: list[ToolCall] = []
    for call in calls:
        needs_id = not call.id or call.id in used
        with_ids.append(replace(call, id=call_id(seed, call.position)) if needs_id else call)
        used.add(with_ids[-1].id or "")
    return tuple(with_ids)


def call_id(*seeds: object) -> str:
    """Return an id for a tool call that every vendor accepts: nine letters and digits, derived from the seeds."""
    number = int.from_bytes(hashlib.blake2b(repr(seeds).encode(), digest_size=8).digest())
    return "".join(_ALPHABET[number // 36**digit % 36] for digit in range(9))


_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def merged(fragments: list[ToolCall]) -> ToolCall:
    """Return the call that some fragments, in order, are parts of.

    The list then has that call alone, so that an answer with many calls is not put together anew for each of them.
    """
    if len(fragments) == 1:
        return fragments[0]
    last = fragments[-1]
    call = ToolCall(  # many vendors send id and name with the first fragment only
        id=next((fragment.id for fragment in reversed(fragments) if fragment.id is not None), None),
        name=next((fragment.name for fragment in reversed(fragments) if fragment.name is not None), None),
        arguments="".join(fragment.arguments for fragment in fragments),
        position=last.position,
        custom=last.custom,
    )
    fragments[:] = [call]
    return call
