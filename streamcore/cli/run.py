"""Run a graph in the terminal: `streamcore run GRAPH --var k=v --thread T`."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from streamcore.checkpoints import MemoryCheckpointer
from streamcore.cli.graph_screen import Screen
from streamcore.cli.output import BAD_INPUT, INTERRUPTED, fail, json_line, note
from streamcore.errors import ConfigError, StreamcoreError
from streamcore.graph.doors import stream_graph_with_tokens, stream_node_output
from streamcore.graph.events import Event, Interrupt
from streamcore.graph.load import load_graph

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
    var: Annotated[
        list[str] | None,
        typer.Option("--var", metavar="KEY=VALUE", help="A key of the state; KEY:=JSON if it is no text. Repeatable."),
    ] = None,
    thread: Annotated[str | None, typer.Option(help="The conversation to begin, or to go on with.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="VALUE", help="The answer to the question that waits.")] = None,
    node: Annotated[str | None, typer.Option(help="Run this llm node alone.")] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", "-p", help="Whom to ask, whatever the graph says; `demo` needs no key.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The vendor's name of the model.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for every event.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Run a graph, and show what its nodes say while they say it.

    Example: streamcore run graphs/interview.yaml --provider demo --thread ada

    A question is asked in a terminal, and answered by --resume elsewhere. A thread that was cut goes on where it was.
    Exit code 3: a question waits. 2: bad input. 1: a node failed. 130: Ctrl-C.
    """
    if resume is not None and (thread is None or node is not None):
        note("--resume answers the question of a whole graph's thread: give --thread NAME, and no --node")
        raise typer.Exit(BAD_INPUT)
    state = _state(var or [])
    try:
        config = {"provider": provider, "model": model, "resume": resume, **_thread(graph, thread)}
        _converse(_Task(graph, node, thread, config, as_json), state)
    except StreamcoreError as error:
        if debug:
            raise
        if thread is not None and not as_json and not isinstance(error, ConfigError):
            note(f"thread {thread!r} keeps what was done; run the same again, without --var, to go on there")
        fail(error, as_json=as_json)
    except KeyboardInterrupt:
        kept = f"; thread {thread!r} keeps what was done, and goes on there" if thread is not None else ""
        note(f"\ninterrupted: the connections are closed{kept}")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever reads our output has gone; the run is closed. Keep the interpreter from flushing into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None


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
    screen, began = Screen(sys.stdout), time.monotonic()
    if task.node is not None:
        asyncio.run(_show_node(task, task.node, state))
        return
    config: Mapping[str, Any] = {**task.config, "include_metadata": True}
    while question := asyncio.run(_show(task, screen, state, config)):
        if task.as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            _leave(task, screen)
        screen.ask(question)
        try:
            config, state = {**config, "resume": input("> ")}, {}
        except EOFError:
            note("")
            _leave(task, screen)
    if not task.as_json:
        note(screen.summary(time.monotonic() - began))


async def _show(task: _Task, screen: Screen, state: Mapping[str, Any], config: Mapping[str, Any]) -> Interrupt | None:
    async with stream_graph_with_tokens(task.graph, state, config) as events:
        async for event in events:
            if task.as_json:
                _line(event)
            else:
                screen.see(event)
            if event["type"] == "interrupt":
                return event
    return None


async def _show_node(task: _Task, node: str, state: Mapping[str, Any]) -> None:
    config = {key: value for key, value in task.config.items() if key != "resume"}
    async with stream_node_output(task.graph, node, state, config) as texts:
        async for text in texts:
            if task.as_json:
                _line({"type": "token", "node": node, "content": text})
            else:
                sys.stdout.write(text.encode("utf-8", "replace").decode("utf-8"))
                sys.stdout.flush()
    if not task.as_json:
        sys.stdout.write("\n")


def _line(event: Event) -> None:
    sys.stdout.write(json_line(event) + "\n")
    sys.stdout.flush()


def _leave(task: _Task, screen: Screen) -> None:
    """End while a question waits, and say how it is answered."""
    if task.thread is None:
        how = "this run has no thread to go on with: run it with --thread NAME"
    else:
        options = [
            ("--thread", task.thread),
            ("--provider", task.config["provider"]),
            ("--model", task.config["model"]),
        ]
        words = ["streamcore", "run", str(task.graph), *(word for pair in options if pair[1] for word in pair)]
        how = f"answer it with\n  {shlex.join(words)} --resume VALUE"
    if not task.as_json:
        screen.close()
    note(f"a question waits; {how}")
    raise typer.Exit(WAITING)


def _state(given: list[str]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if equals and key[:-1] and key.endswith(":"):
            with suppress(ValueError):
                state[key[:-1]] = json.loads(value)
                continue
            note(f"--var KEY:=JSON takes JSON, as in --var 'turns:=[1, 2]'; got {item!r}")
            raise typer.Exit(BAD_INPUT)
        if not equals or not key:
            note(f"--var takes KEY=VALUE, as in --var name=World; got {item!r}")
            raise typer.Exit(BAD_INPUT)
        state[key] = value
    return state
