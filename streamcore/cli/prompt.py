"""Stream one prompt to the terminal: `streamcore prompt NAME --var k=v`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamcore.cli import completion
from streamcore.cli.terminal import show
from streamcore.cli.variables import Var, VarFile, VarsFile, gather
from streamcore.execute import stream_prompt

# What `record` takes, too.
Name = Annotated[
    str, typer.Argument(help="The prompt's file, without .yaml; folders with /.", autocompletion=completion.prompts)
]
Provider = Annotated[
    str | None,
    typer.Option(
        "--provider", "-p", help="Whom to ask; `demo` needs no key and no network.", autocompletion=completion.providers
    ),
]
Model = Annotated[str | None, typer.Option("--model", "-m", help="The vendor's name of the model.")]
Temperature = Annotated[float | None, typer.Option(help="Default: the prompt's, else 0.7.")]
PromptsDir = Annotated[Path | None, typer.Option(help="Where the prompts are. Default: ./prompts.")]
Json = Annotated[bool, typer.Option("--json", help="One line of JSON for every chunk.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Stats = Annotated[bool, typer.Option("--stats", help="Tell times, speed and usage at the end.")]


def prompt(
    name: Name,
    var: Var = None,
    var_file: VarFile = None,
    vars_file: VarsFile = None,
    provider: Provider = None,
    model: Model = None,
    temperature: Temperature = None,
    prompts_dir: PromptsDir = None,
    as_json: Json = False,
    stats: Stats = False,
    debug: Debug = False,
) -> None:
    """Stream the answer to a prompt file, token by token.

    Example: streamcore prompt greet --var name=World --provider demo

    Ctrl-C closes the connection and says how much came (exit code 130). Exit code 2 is bad input, 1 a stream that
    failed. A long text goes in from a file or a pipe: git diff | streamcore prompt review --var-file diff=-
    """
    stream = stream_prompt(
        name,
        gather(var, var_file, vars_file),
        provider=provider,
        model=model,
        temperature=temperature,
        prompts_dir=prompts_dir,
    )
    show(stream, as_json=as_json, stats=stats, debug=debug)
