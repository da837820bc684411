"""Show a graph's run: the text of its nodes on stdout, everything else on stderr.

The texts of nodes that run at the same time would be mixed. So one of them is shown live, and the others' text is kept
until the live one has ended.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from streamcore.cli.figures import Figures
from streamcore.cli.output import note, printable, put
from streamcore.cli.tool_lines import dim
from streamcore.graph.events import Event, Interrupt, NodeComplete, Restart, TokenEvent

_MAX_WIDTH = 200


class Screen:
    """Write the events of a run for people."""

    def __init__(self, *, raw: bool = False, stats: bool = False) -> None:
        self._raw = raw
        self._stats = stats
        self.figures = Figures(cost=stats)
        """An observer that adds up the answers of the run, those of interrupts and tools included."""
        self._live: str | None = None
        self._waiting: dict[str, str] = {}
        """The text that is not shown yet, by source: a node, or an item of a map."""
        self._shown: dict[str, str] = {}
        self._nodes = 0

    def show(self, event: Event) -> None:
        """Show an event, or keep it until its turn."""
        if event["type"] == "token":
            self._token(event)
        elif event["type"] == "node_start":
            partial = event.get("metadata", {}).get("partial")
            if partial:
                note(f"{event['node']}: was interrupted in an earlier run, after {_short(partial)!r}; it begins again")
        elif event["type"] == "restart":
            self._restart(event)
        elif event["type"] == "node_complete":
            self._complete(event)
        elif event["type"] == "interrupt":
            self._flush(event["node"])
            self._question(event)
        else:
            self._tool(event)

    def ask(self, question: Interrupt) -> None:
        """End the current line and say that an answer is expected."""
        self.close()
        note(f"({question['node']} asks; your answer goes to {question['resume_key']})")

    def close(self) -> None:
        """End the current line."""
        if self._live is not None:
            if not self._shown.get(self._live, "").endswith("\n"):
                put("\n")
            self._live = None

    def summary(self, seconds: float) -> str:
        """Return how many nodes ran, how long that took, and the tokens of all answers; with `stats` also the cost."""
        tokens = self.figures.tokens
        parts = [f"done: {self._nodes} node{'' if self._nodes == 1 else 's'} in {seconds:.1f} s"]
        parts += ([tokens] if tokens else []) + (self.figures.more if self._stats else [])
        return ", ".join(parts)

    def _tool(self, event: Event) -> None:
        """Show a call of an agent's tool, its progress or its result, after the end of the current line."""
        if event["type"] == "tool_call":
            line = f"calls {event['tool']} {_short(event['args'])}"
        elif event["type"] == "tool_progress":
            line = f"{event['tool']}: {_short(event['progress'])}"
        elif event["type"] == "tool_result":
            failed = event["error"] is not None
            line = (
                f"{event['tool']} failed: {event['error']}"
                if failed
                else f"{event['tool']} returned {_short(event['output'])}"
            )
        else:
            return
        if self._live is not None and sys.stdout.isatty() and not self._shown.get(self._live, "\n").endswith("\n"):
            put("\n")
            self._shown[self._live] += "\n"
        dim(f"[{event['node']}] {line}")

    def _token(self, event: TokenEvent) -> None:
        index = event.get("metadata", {}).get("map_index")
        source = event["node"] if index is None else f"{event['node']}[{index}]"
        if self._live is None:
            self._go_live(source)
        if source == self._live:
            self._write(event["content"])
        else:
            self._waiting[source] = self._waiting.get(source, "") + event["content"]

    def _go_live(self, source: str) -> None:
        note(f"[{source}]")
        self._live = source
        self._shown[source] = ""
        self._write(self._waiting.pop(source, ""))

    def _write(self, text: str) -> None:
        assert self._live is not None  # noqa: S101
        self._shown[self._live] += text
        put(printable(text, raw=self._raw))

    def _flush(self, node: str) -> None:
        """Show all the text of a node that has ended."""
        if self._live is not None and _node(self._live) == node:
            self.close()
        mine = sorted((source for source in self._waiting if _node(source) == node), key=_index)
        if self._live is None:
            for source in mine:
                self._go_live(source)
                self.close()
            if self._waiting:  # another source is live now
                self._go_live(next(iter(self._waiting)))

    def _restart(self, event: Restart) -> None:
        node = event["node"]
        for source in [one for one in self._waiting if _node(one) == node]:
            del self._waiting[source]
        if self._live is not None and _node(self._live) == node:
            self.close()
            note(f"{node}: begins again; disregard its text so far")

    def _complete(self, event: NodeComplete) -> None:
        node, facts = event["node"], event.get("metadata", {})
        self._nodes += 1
        self._flush(node)
        if "error" in facts:
            note(f"{node}: skipped; {facts['error']}")
        elif not any(_node(source) == node for source in (*self._shown, *self._waiting)):
            for key, value in event["output"].items():
                note(f"{node}: {key} = {_short(value)}")

    def _question(self, event: Interrupt) -> None:
        """Show a question, unless its tokens were shown."""
        message = _readable(event["message"])
        if self._shown.get(event["node"], "").strip() != message.strip():
            self.close()
            self._go_live(event["node"])
            self._write(message)
        self.close()


def _node(source: str) -> str:
    return source.partition("[")[0]


def _index(source: str) -> int:
    return int(source.partition("[")[2].rstrip("]") or 0)


def _readable(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and len(value) == 1:  # pyright: ignore[reportUnknownArgumentType]
        return _readable(next(iter(value.values())))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return json.dumps(value, ensure_ascii=False, indent=2)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_WIDTH else f"{text[: _MAX_WIDTH - 1]}…"
