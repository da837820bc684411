"""Build the command from its subcommands, each a function in its own file."""

from __future__ import annotations

import typer

from streamcore import __version__
from streamcore.cli import output_failed
from streamcore.cli.chat import chat
from streamcore.cli.check import check
from streamcore.cli.init import init
from streamcore.cli.map import map_
from streamcore.cli.output import OutputError
from streamcore.cli.prompt import prompt
from streamcore.cli.providers import providers
from streamcore.cli.record import record
from streamcore.cli.replay import replay
from streamcore.cli.run import run
from streamcore.cli.runs import runs
from streamcore.cli.schema import schema
from streamcore.cli.serve import serve
from streamcore.cli.simulate import simulate
from streamcore.cli.worker import worker

COMMANDS = (init, prompt, chat, run, map_, serve, worker, runs, check, schema, providers, record, replay, simulate)
"""In the order of the help; a command's name is its function's, without the line at its end."""

app = typer.Typer(
    name="streamcore",
    help="Stream LLM output token by token, from any vendor, without losing anything.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"streamcore {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Stream LLM output token by token, from any vendor, without losing anything.

    Start with: streamcore init hello && python hello/main.py
    """


for command in COMMANDS:
    app.command(command.__name__.rstrip("_"))(command)


def start() -> None:
    """Run the command that the arguments name."""
    try:
        app(prog_name="streamcore")  # also as `python -m streamcore.cli`
    except OutputError as error:
        output_failed(error.__cause__ if isinstance(error.__cause__, OSError) else OSError(str(error)))
