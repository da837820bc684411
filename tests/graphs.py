"""Write graphs and their prompts, run them, and summarize their events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

from streamcore.testing import Answer, Simulator
from streamcore.testing.simulator.answers import Asked

Events = list[Any]


def write_graph(folder: Path, text: str, **prompts: str) -> Path:
    """Write `graph.yaml` and `prompts/<name>.yaml`; a prompt of one line is its user message."""
    (folder / "prompts").mkdir(exist_ok=True, parents=True)
    for name, prompt in prompts.items():
        whole = dedent(prompt) if "\n" in prompt else f'user: "{prompt}"\n'
        (folder / "prompts" / f"{name}.yaml").write_text(whole, "utf-8")
    path = folder / "graph.yaml"
    path.write_text("prompts_relative: true\nprompts_dir: prompts\n" + dedent(text), "utf-8")
    return path


def write_two_answers(folder: Path, name: str) -> Path:
    """Write a graph whose two nodes ask a model one after the other; an error of the second one is skipped."""
    (folder / "prompts").mkdir()
    (folder / "prompts" / "plain.yaml").write_text('user: "{message}"\n', "utf-8")
    path = folder / f"{name}.yaml"
    path.write_text(f"name: {name}\n{_TWO_ANSWERS}", "utf-8")
    return path


_TWO_ANSWERS = """
state: {message: str}
nodes:
  one: {type: llm, prompt: plain, variables: {message: "x"}, state_key: one}
  two: {type: llm, prompt: plain, variables: {message: "x"}, state_key: two, on_error: skip}
edges: [{from: START, to: one}, {from: one, to: two}, {from: two, to: END}]
"""


def answers(simulator: Simulator, replies: Mapping[str, str] | Callable[[Asked], str]) -> None:
    """Make the simulator answer by the user's text; `...` before a text matches any text with this end."""

    def decide(asked: Asked) -> Answer:
        text = replies(asked) if callable(replies) else replies[asked.text]
        return Answer.of(text, model=asked.model)

    simulator.decide = decide


async def collect(source: AsyncIterator[Any]) -> Events:
    return [event async for event in source]


def kinds(events: Iterable[Any]) -> list[tuple[str, str]]:
    """Return the type and node of each event, without tokens."""
    return [(event["type"], event.get("node", "")) for event in events if event["type"] != "token"]


def ran(events: Iterable[Any]) -> list[str]:
    """Return the nodes that completed, in order."""
    return [event["node"] for event in events if event["type"] == "node_complete"]


def text_of(events: Iterable[Any], node: str) -> str:
    """Return the text of a node since its last restart."""
    reported = ""
    for event in events:
        if event.get("node") == node and event["type"] == "restart":
            reported = ""
        elif event.get("node") == node and event["type"] == "token":
            reported += event["content"]
    return reported


def output(events: Iterable[Any], node: str) -> Any:
    """Return the last output of a node."""
    return [event["output"] for event in events if event["type"] == "node_complete" and event["node"] == node][-1]
