"""Run a graph in the terminal: `streamcore run GRAPH --var k=v --thread T`."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from streamcore.checkpoints import MemoryCheckpointer
from streamcore.cli import terminal
from streamcore.cli.graph_screen import Screen
from streamcore.cli.output import bad_input, fail, json_line, note, put
from streamcore.cli.prompt import Debug, Model, Provider
from streamcore.cli.variables import Var, VarFile, VarsFile, gather
from streamcore.errors import NodeError, StreamcoreError
from streamcore.graph.events import Event, Interrupt
from streamcore.graph.load import load_graph
from streamcore.graph.stream import stream_graph_with_tokens, stream_node_output

WAITING = 3
THREADS = "streamcore-threads.db"
"""Where threads are kept if the graph does not say: the memory of a process that ends would forget them."""


@dataclass(frozen=True, slots=True)
class _Task:
    """What one call of the command asks for."""

    graph: Path
    node: str | None
    thread: str | None
    config: Mapping[str, Any]
    as_json: bool


def run(
    graph: Annotated[Path, typer.Argument(help="The graph's file.")],
    var: Var = None,
    var_file: VarFile = None,
    vars_file: VarsFile = None,
    thread: Annotated[str | None, typer.Option(help="The conversation to begin, or to go on with.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="VALUE", help="The answer to the question that waits.")] = None,
    node: Annotated[str | None, typer.Option(help="Run this llm node alone.")] = None,
    provider: Provider = None,
    model: Model = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for every event.")] = False,
    debug: Debug = False,
) -> None:
    """Run a graph, and show what its nodes say while they say it. Variables become keys of its state.

    Example: streamcore run graphs/interview.yaml --provider demo --thread ada

    A question is asked in a terminal, and answered by --resume elsewhere. A thread that was cut goes on where it was.
    Exit code 3: a question waits. 2: bad input. 1: a node failed. 130: Ctrl-C.
    """
    if resume is not None and (thread is None or node is not None):
        bad_input("--resume answers the question of a whole graph's thread: give --thread NAME, and no --node")
    state = gather(var, var_file, vars_file)
    try:
        config = {"provider": provider, "model": model, "resume": resume, **_thread(graph, thread)}
        _converse(_Task(graph, node, thread, config, as_json), state)
    except StreamcoreError as error:
        if debug:
            raise
        if thread is not None and not as_json and isinstance(error, NodeError):
            note(f"thread {thread!r} keeps what was done; run the same again, without --var, to go on there")
        fail(error, as_json=as_json)


def _thread(graph: Path, thread: str | None) -> dict[str, Any]:
    """Return the part of the config that says where the thread is kept."""
    if thread is None:  # questions can be answered while this process lives
        return {"thread_id": "this run", "checkpointer": MemoryCheckpointer()}
    own = load_graph(graph).file.checkpointer
    if own is None or own.get("type") == "memory":
        return {"thread_id": thread, "checkpointer": {"type": "sqlite", "path": THREADS}}
    return {"thread_id": thread}


def _converse(task: _Task, state: Mapping[str, Any]) -> None:
    """Run until the end, asking each question on the way."""

    def interrupted() -> None:
        kept = f"; thread {task.thread!r} keeps what was done, and goes on there" if task.thread is not None else ""
        note(f"\ninterrupted: the connections are closed{kept}")

    if task.node is not None:
        name = task.node
        terminal.run(lambda: _show_node(task, name, state), interrupted)
        return
    screen, began = Screen(), time.monotonic()
    config: Mapping[str, Any] = {**task.config, "include_metadata": True}
    questions: list[Interrupt] = []
    while True:
        terminal.run(lambda: _show(task, screen, (state, config), questions), interrupted)  # noqa: B023
        if not questions:
            break
        if task.as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            _leave(task)
        screen.ask(questions.pop())
        try:
            config, state = {**config, "resume": input("> ")}, {}
        except EOFError:
            note("")
            _leave(task)
        except KeyboardInterrupt:
            interrupted()
            raise
    if not task.as_json:
        note(screen.summary(time.monotonic() - began))


async def _show(
    task: _Task, screen: Screen, given: tuple[Mapping[str, Any], Mapping[str, Any]], questions: list[Interrupt]
) -> None:
    async with stream_graph_with_tokens(task.graph, *given) as events:
        async for event in events:
            if task.as_json:
                _line(event)
            else:
                screen.see(event)
            if event["type"] == "interrupt":
                questions.append(event)


async def _show_node(task: _Task, node: str, state: Mapping[str, Any]) -> None:
    config = {key: value for key, value in task.config.items() if key != "resume"}
    async with stream_node_output(task.graph, node, state, config) as texts:
        async for text in texts:
            if task.as_json:
                _line({"type": "token", "node": node, "content": text})
            else:
                put(text.encode("utf-8", "replace").decode("utf-8"))
    if not task.as_json:
        put("\n")


def _line(event: Event) -> None:
    put(json_line(event) + "\n")


def _leave(task: _Task) -> NoReturn:
    """End while a question waits, and say how it is answered."""
    if task.thread is None:
        how = "this run has no thread to go on with: run it with --thread NAME"
    else:
        options = (
            ("--thread", task.thread),
            ("--provider", task.config["provider"]),
            ("--model", task.config["model"]),
        )
        words = ["streamcore", "run", str(task.graph), *(word for pair in options if pair[1] for word in pair)]
        how = f"answer it with\n  {shlex.join(words)} --resume VALUE"
    note(f"a question waits; {how}")
    raise typer.Exit(WAITING)
