"""Serve the wires of all vendors on loopback: `streamcore simulate`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from streamcore.cli import completion
from streamcore.cli.output import bad_input, fail, put
from streamcore.errors import StreamcoreError
from streamcore.testing import Simulator
from streamcore.testing.faults.table import FAULTS, find_fault
from streamcore.testing.simulator.answers import counted
from streamcore.testing.simulator.service import serve


def simulate(
    recordings: Annotated[
        list[Path] | None, typer.Argument(help="Recordings to answer from. Default: made-up answers.", metavar="FILES")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="Tokens a second and stream, or `recorded`. Default: as fast as read."),
    ] = None,
    fault: Annotated[
        str | None,
        typer.Option(help="What goes wrong with every answer; `list` shows them.", autocompletion=completion.faults),
    ] = None,
    text: Annotated[str | None, typer.Option(help="What to answer.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Answer with this many tokens.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Lines of JSON: what to set, at the end the figures.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Serve the wires of Anthropic, OpenAI (both) and Mistral on one port of this machine, until Ctrl-C.

    Example: streamcore simulate --rate 50 --fault stall

    The lines that it prints aim a service at it; its page at / says the same and shows what it does. Without
    recordings it makes answers up. It ends with how many streams it served and how late its own sends were.
    """
    if fault == "list":
        for row in FAULTS.values():
            if row.place == "server":
                put(f"{row.name:22} {row.says}\n")
        return
    answer = counted(tokens) if tokens is not None else text
    try:
        simulator = Simulator(
            answer,
            rate=_rate(rate),
            port=port,
            recordings=recordings or (),
            fault=None if fault is None else find_fault(fault),
        )
    except StreamcoreError as error:
        if debug:
            raise
        fail(error, as_json=as_json)
    except ValueError as error:  # no such fault
        bad_input(str(error))
    try:
        serve(simulator, put, as_json=as_json)
    except OSError as error:
        if debug:
            raise
        bad_input(f"cannot listen on port {port}: {os.strerror(error.errno) if error.errno else error}")


def _rate(said: str | None) -> float | Literal["recorded"] | None:
    if said is None:
        return None
    if said == "recorded":
        return "recorded"
    try:
        rate = float(said)
    except ValueError:
        rate = -1.0
    if not 0 < rate < float("inf"):
        bad_input(f"--rate takes a number of tokens per second above 0, or 'recorded'; got {said!r}")
    return rate
