"""Declare the options that several commands share, and read what they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamcore.cli import completion
from streamcore.cli.output import bad_input
from streamcore.errors import ConfigError

_NAME = typer.Argument(
    metavar="NAME",
    help="The prompt's name (folders with /), or the path of its file.",
    autocompletion=completion.prompts,
)
Name = Annotated[str, _NAME]
OptionalName = Annotated[str | None, _NAME]
Provider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        "-p",
        help="The provider to ask; `demo` needs no key and no network.",
        autocompletion=completion.providers,
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="The vendor's name of the model, or PROVIDER/MODEL without --provider."),
]
Temperature = Annotated[float | None, typer.Option(help="Default: the prompt's, else 0.7.")]
PromptsDir = Annotated[Path | None, typer.Option(help="The folder of the prompts. Default: ./prompts.")]
EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        metavar="FILE",
        help="Read variables such as keys from a file, as .env; the environment overrides it.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One line of JSON for every chunk.")]
Raw = Annotated[bool, typer.Option("--raw", help="Send control characters of the text to the terminal as they are.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Stats = Annotated[bool, typer.Option("--stats", help="Show times, speed, tokens and cost at the end.")]


LogJson = Annotated[
    bool, typer.Option("--log-json", help="Log each answer to stderr as a line of JSON: times, tokens, cost, outcome.")
]


def read_env_file(path: Path | None) -> list[str]:
    """Set the variables of `--env-file` and return their names, or end with exit code 2."""
    from streamcore.files.env_file import load_env_file

    try:
        return [] if path is None else load_env_file(path)
    except ConfigError as error:
        bad_input(str(error))


def provider_and_model(provider: str | None, model: str | None) -> tuple[str | None, str | None]:
    """Return provider and model; `--model mistral/x` without `--provider` names both, as entries of `fallback:` do.

    A name with a slash whose first part is no provider is a model's name, as `meta-llama/llama-4` at a gateway.
    """
    from streamcore.provider import provider_names

    if provider is not None or model is None:
        return provider, model
    first, slash, rest = model.partition("/")
    if slash and rest and (first in provider_names() or ":" in first):
        return first, rest
    return provider, model


def prompt_and_folder(name: str, prompts_dir: Path | None) -> tuple[str, Path | None]:
    """Return the name and the folder of a prompt that is given as a name or as the path of its file."""
    path = Path(name)
    if path.suffix == ".yml":
        bad_input(f"{name!r}: a prompt's file ends in .yaml; rename it")
    if path.suffix != ".yaml":
        return name, prompts_dir
    if prompts_dir is not None and not path.exists():
        return path.with_suffix("").as_posix(), prompts_dir
    return path.stem, path.parent
