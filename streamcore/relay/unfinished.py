"""Find what a lost producer left unfinished, so that another one can void it and continue the run."""

from __future__ import annotations

from collections.abc import Iterable

from streamcore.chunk import Chunk
from streamcore.errors import ConfigError
from streamcore.sse import Item

_NO_CONTENT = frozenset({"start", "ping", "restart", "usage", "other"})


def restarts(items: Iterable[Item]) -> list[Item]:
    """Return the restarts that void what is unfinished: one for each node that began, one for chunks with content.

    Raises:
        ConfigError: there are plain tokens, for which there is no restart.
    """
    nodes: dict[str, None] = {}
    content = False
    for item in items:
        if isinstance(item, str):
            raise ConfigError(
                "a run of plain tokens cannot be continued by another worker, since tokens cannot be voided; give the "
                "relay the chunks of a stream, or the events of a graph"
            )
        if isinstance(item, Chunk):
            content = item.kind != "restart" and (content or item.kind not in _NO_CONTENT)
        elif item["type"] in ("node_start", "token"):
            nodes[item["node"]] = None
        elif item["type"] == "node_complete":
            nodes.pop(item["node"], None)
    chunks: list[Item] = [Chunk("restart")] if content else []
    return [*chunks, *({"type": "restart", "node": node} for node in nodes)]
