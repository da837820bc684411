"""Tell how a segment of a durable run ended, from its log and its thread, which every worker can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamcore.durable.continuation import Segment
from streamcore.durable.graphs import Graphs
from streamcore.relay import RunLog
from streamcore.relay.entries import decode_end
from streamcore.relay.producer import CANCELLED


async def outcome(log: RunLog, graphs: Graphs, name: str, seq: int, segment: Segment) -> Mapping[str, Any]:
    """Return the result of a segment whose log has ended with entry number `seq`; see `RunStatus` for its keys."""
    found = await log.read(name, seq - 1, 0)
    error = None if found is None or found.end is None else decode_end(found.end)[0]
    if error is not None:
        state = "cancelled" if str(error) == CANCELLED else "failed"
        return {"state": state, "error": f"{type(error).__name__}: {error}"}
    thread = await graphs.thread(segment)
    question = thread.question()
    if question is not None:
        return {"state": "waiting", "question": question}
    stopped = thread.next or thread.version == segment.version  # or before its first node
    return {"state": "stopped" if stopped else "done"}
