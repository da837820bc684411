"""Serve a prompt or a graph with a chat page: `streamcore serve GRAPH_OR_PROMPT`."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamcore.cli.options import (
    EnvFile,
    Model,
    PromptsDir,
    Provider,
    Temperature,
    provider_and_model,
    read_env_file,
)
from streamcore.cli.output import FAILED, bad_input, fail, note
from streamcore.cli.variables import Var, VarFile, VarsFile, gather
from streamcore.errors import StreamcoreError, install_command

if TYPE_CHECKING:
    import uvicorn

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    target: Annotated[
        str, typer.Argument(metavar="GRAPH_OR_PROMPT", help="A graph's file, or a prompt's file or name.")
    ],
    provider: Provider = None,
    model: Model = None,
    temperature: Temperature = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 is every address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    var: Var = None,
    var_file: VarFile = None,
    vars_file: VarsFile = None,
    message_as: Annotated[
        str | None,
        typer.Option("--input", metavar="KEY", help="The variable, or key of the state, that a message becomes."),
    ] = None,
    prompts_dir: PromptsDir = None,
    env_file: EnvFile = None,
    max_streams: Annotated[int, typer.Option(help="How many answers may run at once.", min=1)] = 100,
    relay: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="The Redis in which several workers keep answers and conversations: redis://host:6379/0"
        ),
    ] = None,
    grace: Annotated[
        float, typer.Option(help="Seconds without a reader after which an answer is cancelled.", min=0.1)
    ] = 60.0,
    transport: Annotated[
        str | None, typer.Option(help="The HTTP library that requests are sent with: httpx2 (default) or aiohttp.")
    ] = None,
) -> None:
    """Serve a prompt or a graph: a chat page at /, streams at /stream.

    Example: streamcore serve graphs/interview.yaml --provider demo

    Ctrl-C and SIGTERM end open streams with a last event, then the server.
    """
    read_env_file(env_file)
    provider, model = provider_and_model(provider, model)
    _require_packages()
    from streamcore.web import create_app

    local = host in LOOPBACK
    try:
        app = create_app(
            target,
            provider=provider,
            model=model,
            temperature=temperature,
            variables=gather(var, var_file, vars_file),
            message_as=message_as,
            prompts_dir=prompts_dir,
            max_streams=max_streams,
            relay=relay,
            grace=grace,
            transport=transport,
            allowed_hosts=LOOPBACK if local else ("*",),
            describe=str if local else None,  # a user of this machine may read the paths of its files
        )
    except StreamcoreError as error:
        fail(error)
    listening = _listen(host, port)
    note(f"serving {target} on {_url(host, listening)}  (Ctrl-C stops)")
    _warn(target, provider, prompts_dir, local=local)
    _server(app).run(sockets=[listening])


def _require_packages() -> None:
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        bad_input(f"serve needs the package {missing[0]!r}, which is not installed; run: {install_command('server')}")


def _warn(target: str, provider: str | None, prompts_dir: Path | None, *, local: bool) -> None:
    """Print what the operator should know: who can use the service, and which keys are missing."""
    from streamcore.cli.missing_keys import missing_keys

    if not local:
        note("warning: anyone who reaches this address can use it; for `auth`, see create_app in docs/serve.md")
    for known in missing_keys(target, provider, prompts_dir):
        note(
            f"warning: {known.variable('API_KEY')} is not set: unless the SDK of {known.name} finds credentials "
            "elsewhere, its answers fail"
        )


def _url(host: str, listening: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}/"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        note(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another with --port, 0 takes a free one"
        )
        raise typer.Exit(FAILED) from error


def _server(app: object) -> uvicorn.Server:
    import uvicorn

    # No access log: its lines would contain prompts. Open streams end by themselves within their grace period.
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)  # type: ignore[arg-type]
    return uvicorn.Server(config)
