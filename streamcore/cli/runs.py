"""Look at durable runs, and cancel them: `streamcore runs list|show|cancel --durable URL`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from streamcore.cli import terminal
from streamcore.cli.output import bad_input, fail, json_line, note, printable, put
from streamcore.cli.worker import Durable, Relay
from streamcore.errors import StreamcoreError

if TYPE_CHECKING:
    from streamcore.durable import DurableRuns, Engine, RunStatus


class Action(StrEnum):
    """What to do with durable runs."""

    list = "list"
    show = "show"
    cancel = "cancel"


def runs(
    action: Annotated[Action, typer.Argument(help="list the last runs, show one, or cancel one.")],
    durable: Durable,
    name: Annotated[str | None, typer.Argument(metavar="[RUN]", help="The run's name, for show and cancel.")] = None,
    relay: Relay = None,
    owner: Annotated[str | None, typer.Option(help="Only runs that this user owns. Default: those of all.")] = None,
    limit: Annotated[int, typer.Option(help="How many runs to list.", min=1)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for every run.")] = False,
) -> None:
    """List durable runs, show one, or cancel one on whichever worker it runs.

    Example: streamcore runs list --durable sqlite:///runs.db

    Cancelling a run that has begun needs the --relay of its workers.
    """
    if (name is None) != (action is Action.list):
        bad_input("give the name of a run to show or cancel it; list takes none")

    async def work() -> None:
        from streamcore.checkpoints import MemoryCheckpointer
        from streamcore.durable import DurableRuns
        from streamcore.durable.dbos_engine import DBOSEngine

        engine, threads = DBOSEngine(durable), MemoryCheckpointer()
        async with DurableRuns(database=engine, relay=relay, checkpointer=threads, work=False) as opened:
            if action is Action.list:
                _print(await opened.list(owner=owner, limit=limit), as_json=as_json)
            else:
                who = await _owner(engine, name or "") if owner is None else owner
                await _do(opened, action, name or "", who, as_json=as_json)

    try:
        terminal.run(work, lambda: None)
    except StreamcoreError as error:
        fail(error)


async def _owner(engine: Engine, name: str) -> str:
    """Return the user who owns a run; who can read the database may see the runs of all."""
    jobs = await engine.find(names=[name], limit=1) if name else []
    return str(jobs[0].data.get("owner", "")) if jobs else ""


async def _do(opened: DurableRuns, action: Action, name: str, owner: str, *, as_json: bool) -> None:
    if action is Action.show:
        _print([await opened.status(name, who=owner)], as_json=as_json, whole=True)
        return
    ended = await opened.cancel(name, who=owner)
    note(f"run {name} is cancelled" if ended else f"run {name} had ended, or --relay does not have its events")


def _print(found: Sequence[RunStatus], *, as_json: bool, whole: bool = False) -> None:
    for status in found:
        if as_json:
            put(json_line(asdict(status)) + "\n")
        else:
            _show(status, whole=whole)


def _show(status: RunStatus, *, whole: bool) -> None:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.created))
    put(printable(f"{status.run:<24} {status.state:<10} {status.graph:<20} {when}\n", raw=False))
    if whole:
        by = f"  user {status.owner or '-'}, worker {status.worker or '-'}, segment {status.segment}\n"
        put(printable(by, raw=False))
    if whole and status.question is not None:
        put(printable(f"  asks at {status.question['node']}: {status.question['message']}\n", raw=False))
    if whole and status.error is not None:
        put(printable(f"  {status.error}\n", raw=False))
