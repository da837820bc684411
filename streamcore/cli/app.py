"""Put the commands together; each is a function in a file of its own."""

from __future__ import annotations

import typer

from streamcore import __version__
from streamcore.cli import output_gone
from streamcore.cli.check import check
from streamcore.cli.init import init
from streamcore.cli.output import OutputGone
from streamcore.cli.prompt import prompt
from streamcore.cli.providers import providers
from streamcore.cli.record import record
from streamcore.cli.replay import replay
from streamcore.cli.run import run
from streamcore.cli.serve import serve
from streamcore.cli.simulate import simulate

COMMANDS = (init, prompt, run, serve, check, providers, record, replay, simulate)
"""In the order of the help; a command's name is its function's."""

app = typer.Typer(
    name="streamcore",
    help="Stream LLM output token by token, from any vendor, with nothing lost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"streamcore {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Stream LLM output token by token, from any vendor, with nothing lost.

    Start with: streamcore init hello && python hello/main.py
    """


for command in COMMANDS:
    app.command()(command)


def start() -> None:
    """Run the command that the arguments name."""
    try:
        app(prog_name="streamcore")  # also as `python -m streamcore.cli`
    except OutputGone as error:
        output_gone(str(error))
