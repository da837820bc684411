"""Work on durable runs: `streamcore worker GRAPH --durable URL`."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from streamcore.cli.observing import set_up_observing
from streamcore.cli.options import EnvFile, LogJson, Model, Provider, provider_and_model, read_env_file
from streamcore.cli.output import fail, note, show_log
from streamcore.cli.serve_options import Telemetry
from streamcore.cli.worker_process import end_if_hung, in_terminal
from streamcore.errors import StreamcoreError

Durable = Annotated[
    str, typer.Option(metavar="URL", help="The database of the runs: sqlite:///runs.db or postgresql://host/database")
]
Relay = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The Redis that has the runs' events. Needed with PostgreSQL."),
]


def worker(
    graphs: Annotated[list[Path], typer.Argument(help="The graphs' files.")],
    durable: Durable,
    relay: Relay = None,
    provider: Provider = None,
    model: Model = None,
    checkpointer: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The store of conversations, if `serve` has one that is not --durable's."),
    ] = None,
    refuse_changed: Annotated[
        bool, typer.Option("--refuse-changed", help="Leave runs that began with other files to workers that have them.")
    ] = False,
    env_file: EnvFile = None,
    log_json: LogJson = False,
    telemetry: Telemetry = False,
) -> None:
    """Execute durable runs of these graphs until stopped; other workers then continue unfinished runs.

    Example: streamcore worker graphs/interview.yaml --durable postgresql://localhost/runs --relay redis://localhost:6379/0
    """
    read_env_file(env_file)
    show_log()
    set_up_observing(log_json=log_json, telemetry=telemetry)
    provider, model = provider_and_model(provider, model)

    async def work() -> None:
        from streamcore.durable import DurableRuns

        config: dict[str, Any] = {"provider": provider, "model": model}
        versions: Any = "refuse" if refuse_changed else "finish"
        async with DurableRuns(
            database=durable,
            graphs=graphs,
            relay=relay,
            checkpointer=checkpointer,
            config=config,
            versions=versions,
        ) as runs:
            note(f"working on {', '.join(map(str, graphs))} as {runs.worker}  (Ctrl-C stops)")
            async with anyio.create_task_group() as group:
                if not in_terminal():
                    group.start_soon(end_if_hung)
                with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    async for _ in signals:
                        break
                group.cancel_scope.cancel()
        note("stopped; other workers go on with its runs")

    try:
        asyncio.run(work())
    except StreamcoreError as error:
        fail(error)
