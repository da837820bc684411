"""Run a graph in the terminal: `streamcore run GRAPH --var k=v --thread T`."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from streamcore.checkpoints import Checkpointer, MemoryCheckpointer
from streamcore.cli import terminal
from streamcore.cli.graph_screen import Screen
from streamcore.cli.options import (
    Debug,
    EnvFile,
    LogJson,
    Model,
    Provider,
    Raw,
    Stats,
    provider_and_model,
    read_env_file,
)
from streamcore.cli.output import bad_input, fail, json_line, note, printable, put, show_log
from streamcore.cli.variables import Var, VarFile, VarsFile, gather
from streamcore.errors import NodeError, StreamcoreError
from streamcore.graph.config import Config
from streamcore.graph.events import Event, Interrupt
from streamcore.graph.load import load_graph
from streamcore.graph.stream import stream_graph_with_tokens, stream_node_output

PENDING = 3
THREADS = "streamcore-threads.db"
"""The database of threads if the graph names none: memory would be lost when the command exits."""


@dataclass(frozen=True, slots=True)
class _Task:
    """The arguments of one call."""

    graph: Path
    node: str | None
    thread: str | None
    config: Config
    as_json: bool
    raw: bool
    stats: bool


def run(
    graph: Annotated[Path, typer.Argument(help="The graph's file.")],
    var: Var = None,
    var_file: VarFile = None,
    vars_file: VarsFile = None,
    thread: Annotated[str | None, typer.Option(help="The conversation to begin or to continue.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="VALUE", help="The answer to the pending question.")] = None,
    node: Annotated[str | None, typer.Option(help="Run only this llm node.")] = None,
    provider: Provider = None,
    model: Model = None,
    env_file: EnvFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for every event.")] = False,
    stats: Stats = False,
    log_json: LogJson = False,
    debug: Debug = False,
    raw: Raw = False,
) -> None:
    """Run a graph and show the text of its nodes while it arrives. Variables become keys of the state.

    Example: streamcore run graphs/interview.yaml --provider demo --thread ada

    In a terminal, the command asks a graph's questions; elsewhere, answer them with --resume. A thread that was
    interrupted continues where it stopped. Exit code 3: a question is pending. 2: bad input. 1: a node failed. 130:
    Ctrl-C.
    """
    read_env_file(env_file)
    show_log(as_json=log_json)
    provider, model = provider_and_model(provider, model)
    if resume is not None and (thread is None or node is not None):
        bad_input("--resume answers the question of a whole graph's thread: give --thread NAME, and no --node")
    state = gather(var, var_file, vars_file)
    try:
        thread_id, store = _thread(graph, thread)
        config = Config(thread_id=thread_id, checkpointer=store, provider=provider, model=model, resume=resume)
        _converse(_Task(graph, node, thread, config, as_json, raw, stats), state)
    except StreamcoreError as error:
        if debug:
            raise
        if thread is not None and not as_json and isinstance(error, NodeError):
            note(f"thread {thread!r} is saved; run the same command without --var to continue")
        fail(error, as_json=as_json)


def _thread(graph: Path, thread: str | None) -> tuple[str, Checkpointer | Mapping[str, Any] | None]:
    """Return the id of the thread and its store; None leaves the store to the graph."""
    if thread is None:  # its questions are answered in this process
        return "this run", MemoryCheckpointer()
    own = load_graph(graph).file.checkpointer
    if own is None or own.get("type") == "memory":
        return thread, {"type": "sqlite", "path": THREADS}
    return thread, None


def _converse(task: _Task, state: Mapping[str, Any]) -> None:
    """Run to the end, and ask each question."""

    def interrupted() -> None:
        kept = f"; thread {task.thread!r} is saved; run the same command to continue" if task.thread is not None else ""
        note(f"\ninterrupted: the connections are closed{kept}")

    if task.node is not None:
        name = task.node
        terminal.run(lambda: _show_node(task, name, state), interrupted)
        return
    screen, began = Screen(raw=task.raw, stats=task.stats), time.monotonic()
    config = replace(task.config, include_metadata=True, observer=screen.figures)
    questions: list[Interrupt] = []
    while True:
        terminal.run(lambda: _show(task, screen, (state, config), questions), interrupted)  # noqa: B023
        if not questions:
            break
        if task.as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            _leave(task)
        screen.ask(questions.pop())
        try:
            config, state = replace(config, resume=input("> ")), {}
        except EOFError:
            note("")
            _leave(task)
        except KeyboardInterrupt:
            interrupted()
            raise
    if not task.as_json or task.stats:
        note(screen.summary(time.monotonic() - began))


async def _show(
    task: _Task, screen: Screen, given: tuple[Mapping[str, Any], Config], questions: list[Interrupt]
) -> None:
    async with stream_graph_with_tokens(task.graph, *given) as events:
        async for event in events:
            if task.as_json:
                _line(event)
            else:
                screen.show(event)
            if event["type"] == "interrupt":
                questions.append(event)


async def _show_node(task: _Task, node: str, state: Mapping[str, Any]) -> None:
    async with stream_node_output(task.graph, node, state, task.config) as texts:
        async for text in texts:
            if task.as_json:
                _line({"type": "token", "node": node, "content": text})
            else:
                put(printable(text, raw=task.raw))
    if not task.as_json:
        put("\n")


def _line(event: Event) -> None:
    put(json_line(event) + "\n")


def _leave(task: _Task) -> NoReturn:
    """Exit with a pending question, and print how to answer it."""
    if task.thread is None:
        how = "this run has no thread to continue: run it with --thread NAME"
    else:
        options = (
            ("--thread", task.thread),
            ("--provider", str(task.config.provider or "")),
            ("--model", task.config.model or ""),
        )
        words = ["streamcore", "run", str(task.graph), *(word for pair in options if pair[1] for word in pair)]
        how = f"answer it with\n  {shlex.join(words)} --resume VALUE"
    note(f"a question is pending; {how}")
    raise typer.Exit(PENDING)
