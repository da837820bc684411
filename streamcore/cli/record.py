"""Stream one prompt and record the bytes of its responses: `streamcore record NAME -o FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from streamcore.cli.options import (
    Debug,
    EnvFile,
    Json,
    Model,
    Name,
    PromptsDir,
    Provider,
    Raw,
    Temperature,
    prompt_and_folder,
    provider_and_model,
    read_env_file,
)
from streamcore.cli.output import bad_input, fail, note, show_log, text_length
from streamcore.cli.terminal import show
from streamcore.cli.variables import Var, VarFile, VarsFile, gather
from streamcore.errors import ConfigError, StreamcoreError
from streamcore.execute import stream_prompt
from streamcore.provider import ModelChoice, get_provider, provider_name, resolve_provider
from streamcore.testing import Recorder


def record(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, such as tests/greet.yaml.")],
    var: Var = None,
    var_file: VarFile = None,
    vars_file: VarsFile = None,
    provider: Provider = None,
    model: Model = None,
    temperature: Temperature = None,
    prompts_dir: PromptsDir = None,
    env_file: EnvFile = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: Json = False,
    debug: Debug = False,
    raw: Raw = False,
) -> None:
    """Stream the answer to a prompt file and record it, read by read, without keys.

    Example: streamcore record greet --var name=World --provider mistral -o greet.yaml

    The file is for tests (see the guide "Testing"), for `streamcore replay` and for `streamcore simulate`. It is also
    written if the stream fails or is interrupted; in this way you record a failure.
    """
    if output.exists() and not force:
        bad_input(f"{str(output)!r} exists; give another name, or --force to overwrite it")
    read_env_file(env_file)
    show_log()
    provider, model = provider_and_model(provider, model)
    name, prompts_dir = prompt_and_folder(name, prompts_dir)
    variables = gather(var, var_file, vars_file)
    try:
        chosen = _provider(name, provider, prompts_dir)
        recorder = Recorder(httpx2.AsyncHTTPTransport(), provider=provider_name(chosen))
        client = httpx2.AsyncClient(transport=recorder)
        asked = get_provider(chosen, http_client=client)
    except StreamcoreError as error:
        if debug:
            raise
        fail(error, as_json=as_json)
    stream = stream_prompt(
        name,
        variables,
        provider=asked,
        model=model,
        temperature=temperature,
        prompts_dir=prompts_dir,
        max_retries=0,
        fallback=(),
    )

    def save() -> None:
        recording = recorder.recording
        if not recording.exchanges:
            note("nothing was recorded: no response arrived")
            return
        try:
            recording.save(output)
        except OSError as error:
            bad_input(f"cannot write {str(output)!r}: {error.strerror}")
        reads = sum(len(exchange.reads) for exchange in recording.exchanges)
        note(f"recorded {reads} reads with {text_length(stream.partial)} to {output}")

    show(stream, as_json=as_json, debug=debug, raw=raw, before_end=save, close=client.aclose)


def _provider(name: str, given: str | None, prompts_dir: Path | None) -> str | Mapping[str, Any]:
    from streamcore.prompts.prompt_file import load_prompt  # heavy, and not needed for the help of other commands

    prompt = load_prompt(name, prompts_dir=prompts_dir)
    resolved = resolve_provider([ModelChoice(given, source="--provider"), prompt.choice], f"prompt {name!r}")
    chosen = resolved.provider if isinstance(resolved.provider, str | Mapping) else resolved.provider.name
    if provider_name(chosen) in ("demo", "replay"):
        raise ConfigError(
            f"provider {provider_name(chosen)!r} uses no network, so there is nothing to record; "
            "give a vendor's provider"
        )
    return chosen
