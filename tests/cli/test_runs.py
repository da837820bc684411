"""Look at durable runs from the command line, as an operator who has their database."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from tests.durable.graphs import TALK
from tests.durable.test_runs import opened, text_of
from tests.graphs import write_graph
from tests.support import DEADLINE

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, on which DBOS is."""
    return "asyncio"


async def runs(folder: Path, *arguments: str, code: int = 0) -> str:
    """Return what `streamcore runs` prints."""
    line = [sys.executable, "-m", "streamcore.cli", "runs", *arguments, "--durable", f"sqlite:///{folder / 'runs.db'}"]
    with anyio.fail_after(DEADLINE):
        done = await anyio.run_process(line, check=False, stderr=subprocess.STDOUT)
    assert done.returncode == code, done.stdout
    return done.stdout.decode()


async def test_an_operator_finds_the_runs_of_all_users(tmp_path: Path) -> None:
    async with opened(tmp_path, write_graph(tmp_path, TALK, say="Hi.")) as made:
        mine = await made.start("talk", {}, owner="ada")
        await text_of(made, mine, who="ada")
        await text_of(made, await made.start("talk", {}, run_id="nobodys"))
    listed = [json.loads(line) for line in (await runs(tmp_path, "list", "--json", "--owner", "ada")).splitlines()]
    assert [(one["run"], one["owner"]) for one in listed] == [(mine, "ada")]
    assert "user ada, worker " in await runs(tmp_path, "show", mine)
    assert "no run" in await runs(tmp_path, "show", mine, "--owner", "eve", code=1)
