"""Test that garbage collection is paused during imports, and is as it was afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys
from contextlib import nullcontext

import pytest

from streamcore import aclose_providers, stream_request
from streamcore.concurrency.collection import collection_paused
from streamcore.net import clients
from streamcore.testing import Simulator
from tests.support import ask, provider_at

IN_A_FRESH_PROCESS = """
import gc
from streamcore.concurrency.collection import collection_paused

def generation(one):
    return next(number for number in range(3) if any(one is other for other in gc.get_objects(number)))

with collection_paused():
    made = [object()]
    assert generation(made) == 0
assert generation(made) == 2, "a collection of young objects does not look at it"
assert gc.get_freeze_count() == 0
cycle = []
with collection_paused():
    cycle.append(cycle)
number = len([one for one in gc.get_objects() if one is cycle])
del cycle
assert number == 1 and gc.collect() >= 1, "what has become garbage is found"
gc.freeze()
frozen = gc.get_freeze_count()
with collection_paused():
    young = [object()]
assert generation(young) == 0
assert frozen - 5 <= gc.get_freeze_count() <= frozen, "frozen objects stay frozen"
"""


@pytest.fixture(autouse=True)
def enabled() -> None:
    assert gc.isenabled()


def test_new_objects_are_old_and_frozen_ones_stay_frozen() -> None:
    subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS], check=True)


def test_collection_is_as_it_was() -> None:
    with collection_paused():
        assert not gc.isenabled()
        with collection_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), collection_paused():
        raise ZeroDivisionError
    assert gc.isenabled()
    gc.disable()
    try:
        with collection_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_an_sdk_is_imported_without_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(clients, "import_module", lambda _: seen.append(gc.isenabled()))
    monkeypatch.setattr(clients, "_imported", set())
    clients._import_all(["a", "b"])
    assert seen == [False, False]
    assert gc.isenabled()


@pytest.mark.anyio
async def test_collection_is_paused_for_imports_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not whenever an event loop gets its HTTP client: young garbage would count as old each time."""

    async def ask_once() -> None:
        with Simulator("Hi") as simulator:
            await stream_request(ask(), provider=provider_at(simulator, "openai")).collect()
            await aclose_providers()

    await ask_once()
    paused = 0

    def pause() -> nullcontext[None]:
        nonlocal paused
        paused += 1
        return nullcontext()

    monkeypatch.setattr(clients, "collection_paused", pause)
    await ask_once()
    assert paused == 0
