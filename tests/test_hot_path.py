"""Count what a chunk costs, without a clock: the test fails when the hot path grows by more than 3%."""

from __future__ import annotations

import asyncio
import gc

import pytest

from streamcore.wire.chat import ChatVocabulary
from tests.hot_path import LONG, OURS, PATHS, PYTHON, SHORT, figures, operations, streaming
from tests.support import VENDORS, first_short

RISE = 0.03
FALL = 0.2
WHAT_TO_DO = (
    "Something is done for every chunk that was not done before: can it be done once a read, or once a stream? "
    "`python tests/hot_path.py` prints all figures. If the growth is justified, write them again with --write "
    "(for each supported Python), and say in the commit what it buys."
)


def recorded(path: str) -> float:
    """Return the figure for this Python, or for the newest that there is."""
    known = figures()
    return known[PYTHON if PYTHON in known else max(known, key=lambda name: tuple(map(int, name.split("."))))][path]


def grown(path: str) -> str | None:
    """Say by how much a path has grown or shrunk beyond measure, None if it has not."""
    before, now = recorded(path), operations(path)
    elsewhere = "" if PYTHON in figures() else f" on another Python, since there are no figures for {PYTHON} yet"
    if now > before * (1 + RISE):
        what = f"a chunk on the path {path!r} takes {now:.0f} operations, and took {before:.0f}{elsewhere}"
        return f"{what}. {WHAT_TO_DO}"
    if now < before * (1 - FALL):
        return (
            f"a chunk on the path {path!r} takes {now:.0f} operations only, and took {before:.0f}: "
            "record that, with `python tests/hot_path.py --write`"
        )
    return None


@pytest.mark.parametrize("path", PATHS)
def test_the_hot_path_has_not_grown(path: str) -> None:
    assert grown(path) is None


def test_growth_by_a_fifth_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "openai, text, chunks"
    steps = int(operations(path) * 0.25 / 3)
    read = ChatVocabulary.event
    space = {"read": read}
    loop = f"def event(self, *given):\n    for _ in range({steps}):\n        pass\n    read(self, *given)\n"
    exec(compile(loop, f"{OURS[0]}/grown.py", "exec"), space)  # noqa: S102
    monkeypatch.setattr(ChatVocabulary, "event", space["event"])
    message = grown(path)
    assert message is not None
    assert "--write" in message


@pytest.mark.parametrize("name", first_short(VENDORS))
def test_chunks_leave_nothing_for_the_garbage_collector(name: str) -> None:
    async def left(length: int) -> int:
        run = streaming(name, "text", "chunks", length)
        await run()
        while gc.collect():  # what one collection frees may leave more for the next, such as the copy of a client
            pass
        gc.disable()
        try:
            await run()
            return gc.collect()
        finally:
            gc.enable()

    short, long = asyncio.run(left(SHORT)), asyncio.run(left(LONG))
    assert long - short < (LONG - SHORT) / 4


def test_the_count_is_the_same_every_time() -> None:
    assert operations("anthropic, text, chunks") == operations("anthropic, text, chunks")
