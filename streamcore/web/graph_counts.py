"""Count the tokens and the cost of a graph's run, for the foot of its last answer on the chat page."""

from __future__ import annotations

from typing import Any

from streamcore.completion import Completion
from streamcore.cost import Cost
from streamcore.observe import AnswerEnded, Event
from streamcore.pricing import CostSum


class GraphCounts:
    """Add up the answers of a run, as its observer."""

    def __init__(self) -> None:
        self._sum = CostSum()

    def __call__(self, event: Event) -> None:
        """Add an answer that has ended."""
        if isinstance(event, AnswerEnded):
            self._sum.add(event.completion)

    def completion(self, *, complete: bool) -> Completion:
        """Return a `Completion` that has only the tokens and the cost, as far as both are known for all answers."""
        found = self._sum
        cost = Cost(found.amount, found.currency, "prices") if found.known else None
        return Completion(complete=complete, usage=found.usage, reported_cost=cost)


class CountedEvents:
    """The events of a graph, with what its run has cost so far as `partial`."""

    def __init__(self, events: Any, counts: GraphCounts) -> None:
        self._events = events
        self._counts = counts
        self._complete = False

    @property
    def partial(self) -> Completion:
        """The tokens and the cost of the run."""
        return self._counts.completion(complete=self._complete)

    def __aiter__(self) -> CountedEvents:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._events)
        except StopAsyncIteration:
            self._complete = True
            raise

    async def aclose(self) -> None:
        """Close the run."""
        await self._events.aclose()
