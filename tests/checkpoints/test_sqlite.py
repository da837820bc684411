"""Damage SQLite databases as disks and users do, and expect clear errors and no overwritten data."""

from __future__ import annotations

import asyncio
import random
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from streamcore import CheckpointError, ConfigError, ThreadConflict
from streamcore.checkpoints.sqlite import SQLiteCheckpointer
from tests.checkpoints.workers import SAVING_UNTIL_FULL, WRITERS

PAGE = 4096
THREADS = [f"thread {number}" for number in range(60)]

pytestmark = pytest.mark.anyio


async def filled(path: Path) -> SQLiteCheckpointer:
    """Return a checkpointer whose file has threads on many pages, long ones among them."""
    store = SQLiteCheckpointer(path)
    for number, thread in enumerate(THREADS):
        await store.save(thread, {"n": number, "text": f"{thread} " * (1 + number % 7 * 100)}, 0)
    return store


async def judge(store: SQLiteCheckpointer, number: int) -> str:
    """Return the state of a thread of `filled`: `whole` or `error`; anything else is a defect."""
    thread = THREADS[number]
    try:
        saved = await store.load(thread)
    except CheckpointError:
        with pytest.raises(CheckpointError):
            await store.save(thread, {"n": -1}, 1)
        return "error"
    assert saved is not None, f"{thread} looks as if it had never been"
    assert (saved.version, saved.data["n"]) == (1, number)
    assert saved.data["text"].startswith(thread)
    return "whole"


@pytest.mark.parametrize("how", ["zeros", "ones", "noise", "one byte", "another page"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_every_damaged_page_raises(tmp_path: Path, how: str) -> None:
    """Damage each page in turn: every thread is whole or raises an error; no thread vanishes or has another's data."""
    store, path, dice = await filled(tmp_path / "threads.db"), tmp_path / "threads.db", random.Random(how)
    sound = path.read_bytes()
    pages = len(sound) // PAGE
    assert pages > 20
    reported = 0
    for page in range(pages):
        at = page * PAGE
        other = dice.randrange(1, pages) * PAGE
        spoilt = {
            "zeros": bytes(PAGE),
            "ones": b"\xff" * PAGE,
            "noise": dice.randbytes(PAGE),
            "one byte": bytes([sound[at + 100 + (spot := dice.randrange(PAGE - 100))] ^ 0x55]),
            "another page": sound[other : other + PAGE],
        }[how]
        start = at + 100 + spot if how == "one byte" else at
        path.write_bytes(sound[:start] + spoilt + sound[start + len(spoilt) :])
        before = path.read_bytes()
        for number in range(0, len(THREADS), 7):
            reported += await judge(store, number) == "error"
        assert how == "one byte" or path.read_bytes() == before, "nothing was overwritten"
    assert reported > 0 or how == "one byte"  # which may hit unused bytes
    path.write_bytes(sound)
    assert [await judge(store, number) for number in range(len(THREADS))] == ["whole"] * len(THREADS)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_thread_with_a_damaged_name_raises(tmp_path: Path) -> None:
    """Damage the name in the table or in its index: the thread is not mistaken for a new one."""
    path = tmp_path / "threads.db"
    store = SQLiteCheckpointer(path)
    for thread in ("hay", "needle", "straw"):
        await store.save(thread, {"n": 1}, 0)
    sound = path.read_bytes()
    places = [at for at in range(len(sound)) if sound.startswith(b"needle", at)]
    assert len(places) == 2
    for at in places:
        path.write_bytes(sound[:at] + b"poodle" + sound[at + 6 :])
        saved = await store.load("needle")
        assert saved is not None
        assert saved.data["n"] == 1
        with pytest.raises(ThreadConflict):
            await store.save("needle", {"n": 2}, 0)


async def test_one_changed_letter_raises(tmp_path: Path) -> None:
    """SQLite itself finds nothing wrong with it."""
    path = tmp_path / "threads.db"
    store = SQLiteCheckpointer(path)
    await store.save("t", {"balance": "1000 pounds"}, 0)
    path.write_bytes(path.read_bytes().replace(b"1000 pounds", b"9000 pounds"))
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)
    database.close()
    with pytest.raises(CheckpointError, match=r"thread 't' in .*threads\.db is damaged; it was not changed"):
        await store.load("t")
    with pytest.raises(CheckpointError, match="is damaged"):
        await store.save("t", {}, 1)
    assert b"9000 pounds" in path.read_bytes()
    await store.delete("t")
    assert await store.save("t", {}, 0) == 1


async def test_a_checkpoint_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    store = SQLiteCheckpointer(path)
    await store.save("t", {}, 0)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE checkpoint SET stored = CAST(replace(stored, 'streamcore/1', 'streamcore/2') AS BLOB)")
    database.close()
    with pytest.raises(CheckpointError, match="has the format 'streamcore/2', and this version of streamcore reads"):
        await store.save("t", {}, 1)


@pytest.mark.parametrize("content", ["a table", "a newer layout", "text", "a folder"])
async def test_a_file_that_is_something_else(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.db"
    if content == "a folder":
        path.mkdir()
    elif content == "text":
        path.write_text("Shopping: milk, bread. " * 500)
    else:
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE mine (x)" if content == "a table" else "PRAGMA user_version = 2")
        database.close()
    before = None if content == "a folder" else path.read_bytes()
    with pytest.raises(CheckpointError, match=r"other\.db"):
        await SQLiteCheckpointer(path).save("t", {}, 0)
    if content == "text":
        assert path.read_bytes() == before
    elif before is not None:
        with sqlite3.connect(path) as database:
            assert not database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'checkpoint'").fetchall()
        database.close()


async def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"unable to open database file.*Create its folder"):
        await SQLiteCheckpointer(tmp_path / "no" / "threads.db").load("t")


@pytest.mark.parametrize("path", ["", ":memory:"])
def test_a_path_that_is_no_file(path: str) -> None:
    with pytest.raises(ConfigError, match="type: memory"):
        SQLiteCheckpointer(path)


def test_a_full_disk_keeps_the_old_state(tmp_path: Path) -> None:
    """A worker that may write no more than 200 KB to a file saves until it fails; its last save is there."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    path = tmp_path / "threads.db"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", SAVING_UNTIL_FULL, str(path)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert result.returncode == 0, result.stderr
    saved, message = result.stdout.splitlines()
    assert "the last whole checkpoint is unchanged" in message
    assert "isk" in message
    found = asyncio.run(SQLiteCheckpointer(path).load("t"))
    assert found is not None
    assert found.version == int(saved) == len(found.data["turns"])
    assert asyncio.run(SQLiteCheckpointer(path).save("t", {}, found.version)) == found.version + 1


def test_processes_that_start_at_the_same_time(tmp_path: Path) -> None:
    """Four workers create the file and then count on one thread: no update is lost, and no worker is locked out."""
    path, gate = tmp_path / "threads.db", tmp_path / "go"
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WRITERS, str(path), str(gate)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(4)
    ]
    gate.touch()
    outputs = [worker.communicate(timeout=250)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, outputs
    assert outputs == ["25\n"] * 4
    found = asyncio.run(SQLiteCheckpointer(path).load("shared"))
    assert found is not None
    assert (found.version, found.data["n"]) == (100, 100)


async def test_a_reader_waits_for_a_writer_and_says_so_if_it_takes_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamcore.checkpoints.sqlite.BUSY_SECONDS", 0.05)
    store = SQLiteCheckpointer(tmp_path / "threads.db")
    await store.save("t", {}, 0)
    other = sqlite3.connect(tmp_path / "threads.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CheckpointError, match=r"database is locked.*Another process kept"):
        await store.save("t", {}, 1)
    other.close()
    assert await store.save("t", {}, 1) == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_fork_and_its_parent_count_on_one_thread(tmp_path: Path) -> None:
    store = SQLiteCheckpointer(tmp_path / "threads.db")
    await store.save("t", {}, 0)
    child = await anyio.run_process(
        [sys.executable, "-c", FORK, str(tmp_path / "threads.db")], cwd=Path(__file__).parents[2]
    )
    assert child.stdout == b"2 ThreadConflict\n"
    with pytest.raises(ThreadConflict):
        await store.save("t", {}, 1)


FORK = """
import asyncio, os, sys
from streamcore.checkpoints.sqlite import SQLiteCheckpointer
store = SQLiteCheckpointer(sys.argv[1])
assert asyncio.run(store.load("t")).version == 1
if os.fork() == 0:
    print(asyncio.run(store.save("t", {}, 1)), end=" ", flush=True)
    os._exit(0)
assert os.wait()[1] == 0
try:
    asyncio.run(store.save("t", {}, 1))
except Exception as error:
    print(type(error).__name__)
"""


async def test_no_file_stays_open(tmp_path: Path) -> None:
    store = SQLiteCheckpointer(tmp_path / "threads.db")
    for version in range(5):
        await store.save("t", {}, version)
        with anyio.move_on_after(0):
            await store.load("t")
    assert not [name for name in open_files() if "threads.db" in name]


def open_files() -> list[str]:
    return [str(link.resolve()) for link in Path("/proc/self/fd").iterdir()]
