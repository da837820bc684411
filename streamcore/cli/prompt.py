"""Stream one prompt to the terminal: `streamcore prompt NAME --var k=v`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, TextIO

import typer

from streamcore.cli.output import BAD_INPUT, INTERRUPTED, came, fail, json_line, note
from streamcore.errors import StreamcoreError
from streamcore.execute import stream_prompt
from streamcore.stream import Stream
from streamcore.testing.stopwatch import Stopwatch


def prompt(
    name: Annotated[str, typer.Argument(help="The prompt's file, without .yaml; folders with /.")],
    var: Annotated[
        list[str] | None, typer.Option("--var", metavar="KEY=VALUE", help="A variable of the prompt. Repeatable.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", "-p", help="Whom to ask; `demo` needs no key and no network.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The vendor's name of the model.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Default: the prompt's, else 0.7.")] = None,
    prompts_dir: Annotated[Path | None, typer.Option(help="Where the prompts are. Default: ./prompts.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for every chunk.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Tell times, speed and usage at the end.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Stream the answer to a prompt file, token by token.

    Example: streamcore prompt greet --var name=World --provider demo

    Ctrl-C closes the connection and says how much came. Exit code 2 is bad input, 1 a stream that failed.
    """
    stream = stream_prompt(
        name,
        variables_of(var or []),
        provider=provider,
        model=model,
        temperature=temperature,
        prompts_dir=prompts_dir,
    )
    watch = Stopwatch()
    try:
        asyncio.run(_show(stream, watch, as_json))
    except StreamcoreError as error:
        if debug:
            raise
        fail(error, as_json=as_json)
    except KeyboardInterrupt:
        note(f"\ninterrupted: the connection is closed; {came(stream.partial)} had come")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever reads our output has gone; the stream is closed. Keep the interpreter from flushing into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    if stats:
        note(watch.describe(stream.partial))


async def _show(stream: Stream, watch: Stopwatch, as_json: bool) -> None:
    out: TextIO = sys.stdout
    async with stream:
        async for chunk in stream:
            watch.see(chunk)
            if as_json:
                out.write(json_line(chunk) + "\n")
                out.flush()
            elif chunk.text and chunk.kind in ("text", "refusal") and chunk.choice == 0:
                out.write(chunk.text.encode("utf-8", "replace").decode("utf-8"))
                out.flush()
    if not as_json:
        out.write("\n")
        for call in stream.partial.tool_calls:
            note(f"the model asks to call {call.name} with {call.arguments}")


def variables_of(given: list[str]) -> dict[str, str]:
    """Return what `--var` options say; anything but KEY=VALUE ends the command."""
    variables: dict[str, str] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key:
            note(f"--var takes KEY=VALUE, as in --var name=World; got {item!r}")
            raise typer.Exit(BAD_INPUT)
        variables[key] = value
    return variables
