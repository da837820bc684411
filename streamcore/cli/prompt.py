"""Stream one prompt to the terminal: `streamcore prompt NAME --var k=v`, `streamcore prompt --text '...'`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from streamcore.cli.approval import Yes, approver
from streamcore.cli.options import (
    Debug,
    EnvFile,
    Json,
    LogJson,
    Model,
    OptionalName,
    PromptsDir,
    Provider,
    Raw,
    Stats,
    Temperature,
    prompt_and_folder,
    provider_and_model,
    read_env_file,
)
from streamcore.cli.output import bad_input, fail, show_log
from streamcore.cli.terminal import show
from streamcore.cli.variables import Var, VarFile, VarsFile, gather, read_text
from streamcore.errors import ConfigError, StreamcoreError
from streamcore.execute import stream_prompt, stream_request
from streamcore.provider import environment_provider
from streamcore.request import Message, Request
from streamcore.stream import Stream


def prompt(
    name: OptionalName = None,
    text: Annotated[
        str | None,
        typer.Option("--text", "-t", metavar="TEXT", help="Send this text instead of a file; - is the input."),
    ] = None,
    var: Var = None,
    var_file: VarFile = None,
    vars_file: VarsFile = None,
    provider: Provider = None,
    model: Model = None,
    temperature: Temperature = None,
    prompts_dir: PromptsDir = None,
    env_file: EnvFile = None,
    as_json: Json = False,
    stats: Stats = False,
    log_json: LogJson = False,
    debug: Debug = False,
    raw: Raw = False,
    yes: Yes = False,
) -> None:
    """Stream the answer to a prompt file, or to a text, token by token.

    Example: streamcore prompt greet --var name=World --provider demo

    Without a file: streamcore prompt -t 'Tell me a joke' -m mistral/mistral-small-latest. With --var, {name} in the
    text is replaced. A long text comes from a file or a pipe: git diff | streamcore prompt review --var-file diff=-

    Tools of the file that name a function or an MCP server run. Their calls, progress and results are shown on stderr.
    The command asks before a call that needs approval.

    Ctrl-C closes the connection and prints how much arrived (exit code 130). Exit code 2 is bad input, 1 a stream that
    failed.
    """
    read_env_file(env_file)
    show_log(as_json=log_json)
    variables = gather(var, var_file, vars_file, text)
    provider, model = provider_and_model(provider, model)
    if (name is None) == (text is None):
        bad_input(_which(name, provider))
    if text is not None:
        try:
            stream = _stream_text(text, variables, provider, model, temperature)
        except StreamcoreError as error:
            if debug:
                raise
            fail(error, as_json=as_json)
    else:
        name, prompts_dir = prompt_and_folder(str(name), prompts_dir)
        stream = stream_prompt(
            name,
            variables,
            provider=provider,
            model=model,
            temperature=temperature,
            prompts_dir=prompts_dir,
            approve=approver(yes=yes),
        )
    show(stream, as_json=as_json, stats=stats, debug=debug, raw=raw)


def _which(name: str | None, provider: str | None) -> str:
    """Return the message for a call with neither a prompt nor a text, or with both."""
    if name is not None:
        return "give either a prompt's NAME or --text TEXT, not both"
    if provider is not None and " " in provider:
        return f"-p names the provider; give the text with --text: streamcore prompt --text {provider!r} -p demo"
    return "give a prompt's NAME, the path of its file, or --text TEXT; see streamcore prompt --help"


def _stream_text(
    text: str, variables: Mapping[str, Any], provider: str | None, model: str | None, temperature: float | None
) -> Stream:
    """Return the stream of the answer to a text, which is a template only if there are variables."""
    provider = provider or environment_provider()
    if provider is None:
        raise ConfigError(
            "no provider for --text; give --provider, --model PROVIDER/MODEL, or set STREAMCORE_PROVIDER. "
            "Without a key or network, use 'demo'"
        )
    if text == "-":
        text = read_text("-")
    if variables:
        from streamcore.files.template import TemplateError, fill

        try:
            text = fill(text, variables, {})
        except TemplateError as error:
            raise ConfigError(f"--text: {error}") from error
    request = Request([Message("user", text)], model=model, temperature=temperature)
    return stream_request(request, provider=provider)
