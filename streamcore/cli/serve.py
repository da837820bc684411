"""Serve a prompt or a graph with a chat page: `streamcore serve GRAPH_OR_PROMPT`."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from streamcore.cli import serve_options as opt
from streamcore.cli.observing import logs_json, set_up_observing
from streamcore.cli.options import (
    EnvFile,
    LogJson,
    Model,
    PromptsDir,
    Provider,
    Temperature,
    provider_and_model,
    read_env_file,
)
from streamcore.cli.output import FAILED, bad_input, fail, note
from streamcore.cli.variables import Var, VarFile, VarsFile, gather
from streamcore.errors import ConfigError, StreamcoreError, install_command

if TYPE_CHECKING:
    import uvicorn

UNREAD_SECONDS = 120
"""Seconds after which the connection of a client that takes none of the bytes sent to it breaks."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


PASSED_ON = (
    *("temperature", "message_as", "prompts_dir", "name", "max_streams", "max_per_user", "max_input", "max_seconds"),
    "max_cost",
    *("allow_get", "api_keys", "endpoints", "relay", "checkpointer", "grace", "transport", "metrics"),
    *("durable", "work", "refuse_changed"),
    *("max_turns", "max_items", "max_model_calls", "max_tokens", "title", "greeting", "logo", "color"),
    *("accept_files", "max_file_bytes", "show_usage"),
)
"""The options that `create_app` takes as they are, or `_app` makes into another."""

LISTS = ("client_variables", "trusted_proxies", "allow_models", "cors")


def serve(
    context: typer.Context,
    targets: opt.Targets = None,
    provider: Provider = None,
    model: Model = None,
    temperature: Temperature = None,
    host: opt.Host = "127.0.0.1",
    port: opt.Port = 8000,
    workers: opt.Workers = 1,
    var: Var = None,
    var_file: VarFile = None,
    vars_file: VarsFile = None,
    message_as: opt.MessageAs = None,
    prompts_dir: PromptsDir = None,
    env_file: EnvFile = None,
    name: opt.Name = None,
    client_variables: opt.ClientVariables = None,
    max_streams: opt.MaxStreams = 100,
    max_per_user: opt.MaxPerUser = None,
    max_input: opt.MaxInput = 32_000,
    max_seconds: opt.MaxSeconds = 600.0,
    max_turns: opt.MaxTurns = 100,
    max_items: opt.MaxItems = 100,
    max_model_calls: opt.MaxModelCalls = 100,
    max_tokens: opt.MaxTokens = 1_000_000,
    max_cost: opt.MaxCost = None,
    allow_get: opt.AllowGet = None,
    trusted_proxies: opt.TrustedProxies = None,
    relay: opt.Relay = None,
    checkpointer: opt.Threads = None,
    grace: opt.Grace = 60.0,
    durable: opt.Durable = None,
    work: opt.Work = True,
    refuse_changed: opt.RefuseChanged = False,
    metrics: opt.Metrics = False,
    telemetry: opt.Telemetry = False,
    transport: opt.Transport = None,
    endpoints: opt.Endpoints = None,
    allow_models: opt.AllowModels = None,
    api_keys: opt.ApiKeys = None,
    cors: opt.Cors = None,
    log_json: LogJson = False,
    title: opt.Title = None,
    greeting: opt.Greeting = None,
    logo: opt.Logo = None,
    color: opt.Color = None,
    accept_files: opt.AcceptFiles = False,
    max_file_bytes: opt.MaxFileBytes = None,
    show_usage: opt.ShowUsage = False,
) -> None:
    """Serve prompts, graphs and models: a chat page at /, streams at /stream, endpoints for the vendors' SDKs at /v1.

    Example: streamcore serve graphs/interview.yaml --provider demo

    Without a prompt or graph it is a gateway: streamcore serve --allow-model 'openai/*'

    Ctrl-C and SIGTERM end open streams with a last event, then the server.
    """
    from_file = _prepare(env_file, log_json, telemetry)
    provider, model = provider_and_model(provider, model)
    variables, given = gather(var, var_file, vars_file), _passed_on(context.params)
    options = {**given, "provider": provider, "model": model, "variables": variables}
    service = _Service(targets or (), host, options, log_json, telemetry, env_file, from_file)
    app, listening = service.app(workers), listen(host, port)
    stops = "Ctrl-C stops" if workers == 1 else f"{workers} workers; Ctrl-C stops"
    note(f"serving {', '.join([*service.targets, *(allow_models or ())])} on {_url(host, listening)}  ({stops})")
    _warn(service.targets, provider, prompts_dir, safe=host in LOOPBACK or bool(_keys(api_keys)))
    service.run(app, listening, workers)


@dataclass(frozen=True, slots=True)
class _Service:
    """What a process serves; each worker gets a copy.

    Attributes:
        targets: the files and names of what is served.
        host: the address to listen on.
        options: the options for `_app`.
        log_json: whether answers are logged as JSON.
        telemetry: whether traces and metrics are sent.
        env_file: the file of `--env-file`, which each new worker reads again.
        from_file: the names of the variables that were set from it.
    """

    targets: Sequence[str]
    host: str
    options: Mapping[str, Any]
    log_json: bool
    telemetry: bool
    env_file: Path | None
    from_file: Sequence[str]

    def app(self, workers: int = 1) -> object:
        """Return the app, or end the command if it cannot be served, or not by so many workers."""
        app = _app(self.targets, self.host, **self.options)
        if workers > 1:
            from streamcore.cli.serve_workers import check_shared

            try:
                check_shared(workers, self.targets, self.options)
            except ConfigError as error:
                fail(error)
        return app

    def run(self, app: object, listening: socket.socket, workers: int) -> None:
        """Serve until a signal ends the service: in this process, or in several, each of which builds its own app."""
        if workers == 1:
            new_server(app).run(sockets=[listening])
            return
        from streamcore.cli.serve_workers import Supervisor

        Supervisor(self.work, listening, workers).run()

    def work(self, listening: socket.socket, serves: Callable[[], None]) -> None:
        """Serve as one of several workers, and call `serves` once it does."""
        for name in self.from_file:  # this process has inherited the values that the file had at the start
            os.environ.pop(name, None)
        try:
            read_env_file(self.env_file)
            set_up_observing(log_json=self.log_json, telemetry=self.telemetry, warns=False)
            app = self.app()
        except typer.Exit as error:  # a file has changed
            raise SystemExit(error.exit_code) from error
        new_server(app, serves).run(sockets=[listening])


def _passed_on(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options for `_app`; of those that can be repeated, an empty tuple if there are none."""
    return {name: given[name] for name in PASSED_ON} | {name: given[name] or () for name in LISTS}


def _prepare(env_file: Path | None, log_json: bool, telemetry: bool) -> list[str]:
    """Set the variables of a file and return their names; set up the log and telemetry."""
    from_file = read_env_file(env_file)
    set_up_observing(log_json=log_json, telemetry=telemetry)
    return from_file


def _names(given: list[str] | None) -> list[str] | bool:
    """Return the endpoints to serve; True: all."""
    return [name.strip() for one in given for name in one.split(",") if name.strip()] if given else True


def _keys(given: list[str] | None) -> list[str]:
    """Return the API keys of the options, or else of the environment, where commas separate them."""
    listed = os.environ.get("STREAMCORE_API_KEYS", "").split(",")
    return given or [key.strip() for key in listed if key.strip()]


def _app(targets: Sequence[str], host: str, **options: Any) -> object:
    """Return the app, or end the command with what cannot be served."""
    _require_packages()
    from streamcore.web import Durable, HistoryLimit, PageOptions, create_app
    from streamcore.web.files import file_options
    from streamcore.web.targets import SERVED_LIMITS

    most = {name: options.pop(name) for name in ("max_items", "max_model_calls", "max_tokens")}
    limits = replace(SERVED_LIMITS, **most)
    hosts = LOOPBACK if host in LOOPBACK else ("*",)
    history = HistoryLimit(options.pop("max_turns"))
    options |= {"api_keys": _keys(options["api_keys"]), "endpoints": _names(options["endpoints"])}
    works, refuses = options.pop("work"), options.pop("refuse_changed")
    if options["durable"] is not None:
        versions: Any = "refuse" if refuses else "finish"
        options["durable"] = Durable(options["durable"], work=works, versions=versions)
    look = {name: options.pop(name) for name in ("title", "greeting", "logo", "color", "show_usage")}
    accepted = options.pop("accept_files"), options.pop("max_file_bytes")
    try:
        options["files"] = file_options(*accepted)
        page = PageOptions(**look)
        return create_app(targets, allowed_hosts=hosts, history=history, limits=limits, page=page, **options)
    except StreamcoreError as error:
        fail(error)


def _require_packages() -> None:
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        bad_input(f"serve needs the package {missing[0]!r}, which is not installed; run: {install_command('server')}")


def _warn(targets: Sequence[str], provider: str | None, prompts_dir: Path | None, *, safe: bool) -> None:
    """Print what the operator should know: who can use the service, and which keys are missing."""
    from streamcore.cli.missing_keys import missing_keys

    if not safe:
        note(
            "warning: anyone who reaches this address can use it; give --api-key, or see the guide 'Serving' for `auth`"
        )
    missing = {known.name: known for target in targets for known in missing_keys(target, provider, prompts_dir)}
    for known in missing.values():
        note(
            f"warning: {known.variable('API_KEY')} is not set: unless the SDK of {known.name} finds credentials "
            "elsewhere, its answers fail"
        )


def _url(host: str, listening: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}/"


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; ends the command if it cannot.

    Where the system can do it, its connections break when a client has acknowledged nothing for `UNREAD_SECONDS`: else
    one that reads nothing keeps its connection, and the bytes that wait for it, also after uvicorn has closed it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        note(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another with --port, 0 takes a free one"
        )
        raise typer.Exit(FAILED) from error
    if sys.platform == "linux":
        with suppress(OSError):  # of a sandbox that has no such option
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
    return listening


def new_server(app: object, serves: Callable[[], None] | None = None) -> uvicorn.Server:
    """Return the server of an app; it runs on uvloop if that is installed.

    Args:
        app: the app.
        serves: called once it serves, and then every few seconds, if it is one of several workers; the process is then
            in each line of its log.
    """
    import uvicorn

    from streamcore.net.open_files import raise_limit
    from streamcore.web.head_limits import limited_heads

    raise_limit()  # each client, and each answer that is streamed to it, needs an open file
    # No access log: its lines would contain prompts. Open streams end by themselves within their grace period.
    options: dict[str, Any] = {"log_level": "warning", "access_log": False, "timeout_graceful_shutdown": 5}
    if serves is not None:
        options |= _of_a_worker(serves)
    if logs_json():
        options["log_config"] = None  # its records reach the handler that writes JSON
    # The app reads the headers of proxies itself, of those alone that --trusted-proxy names.
    config = uvicorn.Config(cast("Any", app), proxy_headers=False, http=limited_heads(), **options)
    return uvicorn.Server(config)


def _of_a_worker(serves: Callable[[], None]) -> dict[str, Any]:
    """Return the options of uvicorn for one of several workers."""
    from uvicorn.config import LOGGING_CONFIG

    from streamcore.cli.worker_process import SIGN_SECONDS

    async def notify() -> None:  # uvicorn calls it when it begins to serve, and every `timeout_notify` seconds
        serves()

    lines = deepcopy(LOGGING_CONFIG)
    lines["formatters"]["default"]["fmt"] = "%(levelprefix)s [%(process)d] %(message)s"
    return {"callback_notify": notify, "timeout_notify": SIGN_SECONDS, "log_config": lines}
