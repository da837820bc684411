"""Put the commands together; each is a function in a file of its own."""

from __future__ import annotations

import typer

from streamcore import __version__
from streamcore.cli.check import check
from streamcore.cli.prompt import prompt
from streamcore.cli.providers import providers
from streamcore.cli.run import run

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
    """Stream LLM output token by token, from any vendor, with nothing lost."""


app.command()(check)
app.command()(prompt)
app.command()(providers)
app.command()(run)
