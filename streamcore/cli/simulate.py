"""Serve the APIs of all vendors on loopback: `streamcore simulate`."""

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
        list[Path] | None,
        typer.Argument(help="Recordings to answer from. Default: generated answers.", metavar="FILES"),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="RATE", help="Tokens per second and stream, or `recorded`. Default: as fast as they are read."
        ),
    ] = None,
    fault: Annotated[
        str | None,
        typer.Option(help="The fault of every answer; `list` prints all faults.", autocompletion=completion.faults),
    ] = None,
    text: Annotated[str | None, typer.Option(help="The text of every answer.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Answer with this many tokens.")] = None,
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="The port to listen on. Default: one that is free.", show_default=False),
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Lines of JSON: the variables to set, and at the end the statistics.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Serve the APIs of Anthropic, OpenAI (both), Mistral, Google and Bedrock on one port, until Ctrl-C.

    Example: streamcore simulate --rate 50 --fault stall

    It prints the variables that make a service use it; its page at / shows them, too, and its statistics. Without
    recordings it generates answers. At the end it prints how many streams it served and how late its sends were.
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


def _rate(value: str | None) -> float | Literal["recorded"] | None:
    if value is None:
        return None
    if value == "recorded":
        return "recorded"
    try:
        rate = float(value)
    except ValueError:
        rate = -1.0
    if not 0 < rate < float("inf"):
        bad_input(f"--rate takes a number of tokens per second above 0, or 'recorded'; got {value!r}")
    return rate
