"""Test the sums of what answers cost, for each owner, thread, run and model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from streamcore import Chunk, Message, Request, StreamcoreError, Usage, stream_agent, stream_request
from streamcore import stream_graph_with_tokens as stream_graph
from streamcore.observe import observe
from streamcore.pricing import CostSum, CostSums, use_prices
from streamcore.pricing.loading import load_list
from streamcore.relay import Relay
from streamcore.testing import FINISH, ScriptedProvider
from streamcore.testing.scripted import Step
from streamcore.tools import tool
from tests.observe.test_trees import asks_for, graph

__all__ = ["graph"]
pytestmark = pytest.mark.anyio
ASK = Request([Message("user", "Hello")])
USED = Chunk("usage", usage=Usage(2, 1))
WHOLE: list[Step] = [Chunk("start", model="m"), USED, "Hello", FINISH]
CUT: list[Step] = [Chunk("start", model="m"), USED, "Hel"]


@pytest.fixture(autouse=True)
def prices() -> Iterator[None]:
    """Let a token cost a dollar."""
    load_list()
    use_prices({"m": {"input": 1_000_000, "output": 1_000_000}})
    yield
    use_prices(None)


def amounts(sums: Mapping[str, CostSum]) -> dict[str, int]:
    return {name: int(one.amount) for name, one in sums.items()}


async def test_cut_answers_and_those_of_tools_are_counted() -> None:
    @tool
    async def ask_other() -> str:
        """Ask another model."""
        return (await stream_request(ASK, provider=ScriptedProvider(WHOLE, name="inner")).collect()).text

    sums = CostSums()
    calls: list[Step] = [Chunk("start", model="m"), USED, *asks_for("ask_other")]
    with observe(sums):
        await stream_agent(ASK, tools=[ask_other], provider=ScriptedProvider(calls, WHOLE, name="outer")).collect()
        with pytest.raises(StreamcoreError):
            await stream_request(ASK, provider=ScriptedProvider(CUT, name="outer")).collect()
    assert (sums.total.amount, sums.total.answers, sums.total.known) == (Decimal(12), 4, True)
    assert amounts(sums.models) == {"inner/m": 3, "outer/m": 9}
    assert sums.total.usage == Usage(8, 4)
    assert not {*sums.owners, *sums.threads, *sums.runs}


async def test_a_graph_has_the_sum_of_its_thread(graph: Path) -> None:
    sums = CostSums()
    for thread in ("t1", "t2"):
        config = {"provider": ScriptedProvider(WHOLE), "thread_id": thread, "observer": sums}
        async for _ in stream_graph(graph, {}, config):
            pass
    assert amounts(sums.threads) == {"t1": 3, "t2": 3}
    assert sums.total.amount == 6


async def test_a_run_of_a_relay_has_its_owner_and_thread() -> None:
    sums = CostSums()
    async with Relay() as relay:
        with observe(sums):
            for number, owner in enumerate(("ann", "ben", "ann")):
                stream = stream_request(ASK, provider=ScriptedProvider(WHOLE))
                await relay.start(f"run-{number}", stream, owner=owner, thread=f"of {owner}")
                assert [item async for item in relay.read(f"run-{number}", who=owner)]
    assert amounts(sums.owners) == {"ann": 6, "ben": 3}
    assert amounts(sums.threads) == {"of ann": 6, "of ben": 3}
    assert amounts(sums.runs) == {"run-0": 3, "run-1": 3, "run-2": 3}


async def test_labels_give_an_owner_to_what_has_none() -> None:
    sums = CostSums()
    for owner in ("ann", "ben"):
        observer = sums.labelled(owner=owner, thread="t")
        await stream_request(ASK, provider=ScriptedProvider(WHOLE), observer=observer).collect()
    assert amounts(sums.owners) == {"ann": 3, "ben": 3}
    assert amounts(sums.threads) == {"t": 6}


async def test_what_was_taken_is_not_counted_again() -> None:
    sums = CostSums()
    observer = sums.labelled(owner="ann")
    for total in (3, 3):
        await stream_request(ASK, provider=ScriptedProvider(WHOLE), observer=observer).collect()
        taken = sums.take()
        assert (int(taken.total.amount), amounts(taken.owners)) == (total, {"ann": 3})
        assert (sums.total.answers, dict(sums.owners)) == (0, {})


async def test_answers_without_a_price_are_counted_apart() -> None:
    sums = CostSums()
    await stream_request(ASK, provider=ScriptedProvider(["Hello", FINISH]), observer=sums).collect()
    assert (sums.total.answers, sums.total.unpriced, int(sums.total.amount)) == (1, 1, 0)


async def test_the_number_of_sums_is_limited() -> None:
    sums = CostSums(kept=2)
    for owner in ("ann", "ben", "ann", "eve"):
        await stream_request(ASK, provider=ScriptedProvider(WHOLE), observer=sums.labelled(owner=owner)).collect()
    assert amounts(sums.owners) == {"ann": 6, "eve": 3}
    assert sums.total.amount == 12
