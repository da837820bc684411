"""Show a graph's run as it goes: what each node says on stdout, what happens around it on stderr.

Nodes that run at the same time would mix their words. So one of them is shown live, and what the others say is held
until its turn comes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from streamcore.chunk import Usage
from streamcore.cli.output import note, put
from streamcore.graph.events import Event, Interrupt, NodeComplete, Restart, TokenEvent

_WIDE = 200


class Screen:
    """Write the events of a run for a person."""

    def __init__(self) -> None:
        self._live: str | None = None
        self._held: dict[str, str] = {}
        """What was said, and not yet shown, by who said it; the first of them is live."""
        self._shown: dict[str, str] = {}
        self._nodes = 0
        self._usage = [0, 0]

    def see(self, event: Event) -> None:
        """Show an event, or hold it."""
        if event["type"] == "token":
            self._say(event)
        elif event["type"] == "node_start":
            partial = event.get("metadata", {}).get("partial")
            if partial:
                note(f"{event['node']}: was cut in an earlier run, after {_short(partial)!r}; it begins again")
        elif event["type"] == "restart":
            self._void(event)
        elif event["type"] == "node_complete":
            self._finish(event)
        elif event["type"] == "interrupt":
            self._flush(event["node"])
            self._question(event)

    def ask(self, question: Interrupt) -> None:
        """Make room for the answer."""
        self.close()
        note(f"({question['node']} asks; your answer goes to {question['resume_key']})")

    def close(self) -> None:
        """End the line that is being written."""
        if self._live is not None:
            if not self._shown.get(self._live, "").endswith("\n"):
                put("\n")
            self._live = None

    def summary(self, seconds: float) -> str:
        """Say how much was done, and what it took."""
        came, went = self._usage
        tokens = f", {came} tokens in, {went} out" if came or went else ""
        return f"done: {self._nodes} node{'' if self._nodes == 1 else 's'} in {seconds:.1f} s{tokens}"

    def _say(self, event: TokenEvent) -> None:
        index = event.get("metadata", {}).get("map_index")
        who = event["node"] if index is None else f"{event['node']}[{index}]"
        if self._live is None:
            self._go_live(who)
        if who == self._live:
            self._write(event["content"])
        else:
            self._held[who] = self._held.get(who, "") + event["content"]

    def _go_live(self, who: str) -> None:
        note(f"[{who}]")
        self._live = who
        self._shown[who] = ""
        self._write(self._held.pop(who, ""))

    def _write(self, text: str) -> None:
        assert self._live is not None  # noqa: S101
        self._shown[self._live] += text
        put(text.encode("utf-8", "replace").decode("utf-8"))

    def _flush(self, node: str) -> None:
        """Show all that a node has said, now that it has ended."""
        if self._live is not None and _node(self._live) == node:
            self.close()
        mine = sorted((who for who in self._held if _node(who) == node), key=_index)
        if self._live is None:
            for who in mine:
                self._go_live(who)
                self.close()
            if self._held:  # somebody else's turn
                self._go_live(next(iter(self._held)))

    def _void(self, event: Restart) -> None:
        node = event["node"]
        for who in [who for who in self._held if _node(who) == node]:
            del self._held[who]
        if self._live is not None and _node(self._live) == node:
            self.close()
            note(f"{node}: begins again; what it said before is void")

    def _finish(self, event: NodeComplete) -> None:
        node, facts = event["node"], event.get("metadata", {})
        self._nodes += 1
        usage = facts.get("usage")
        if isinstance(usage, Usage):
            self._usage[0] += usage.input_tokens or 0
            self._usage[1] += usage.output_tokens or 0
        self._flush(node)
        if "error" in facts:
            note(f"{node}: skipped; {facts['error']}")
        elif not any(_node(who) == node for who in (*self._shown, *self._held)):
            for key, value in event["output"].items():
                note(f"{node}: {key} = {_short(value)}")

    def _question(self, event: Interrupt) -> None:
        """Show a question, unless its own tokens have."""
        message = _readable(event["message"])
        if self._shown.get(event["node"], "").strip() != message.strip():
            self.close()
            self._go_live(event["node"])
            self._write(message)
        self.close()


def _node(who: str) -> str:
    return who.partition("[")[0]


def _index(who: str) -> int:
    return int(who.partition("[")[2].rstrip("]") or 0)


def _readable(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and len(value) == 1:  # pyright: ignore[reportUnknownArgumentType]
        return _readable(next(iter(value.values())))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return json.dumps(value, ensure_ascii=False, indent=2)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 1]}…"
