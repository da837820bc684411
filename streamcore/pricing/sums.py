"""Add up what answers cost for each owner, thread, run and model, as an observer."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from streamcore.observe.events import (
    AnswerEnded,
    AnswerStarted,
    Event,
    GraphEnded,
    GraphStarted,
    Operation,
    RunEnded,
    RunStarted,
)
from streamcore.pricing.answers import CostSum, answer_usage, cost_of
from streamcore.pricing.loading import load_in_background, run_when_loaded

KEPT = 10_000
"""How many owners, threads, runs and models have a sum each; of more, the least recently used one is dropped."""


@dataclass(frozen=True, slots=True)
class _Labels:
    """What an answer is a part of."""

    owner: str | None = None
    thread: str | None = None
    run: str | None = None


_NO_LABELS = _Labels()


class CostSums:
    """Add up what answers cost, for each owner, thread, run and model; an observer.

    Every answer counts, with all its attempts, whatever its end, also those that tools ask for. The owner is that of a
    run of the relay, the thread that of such a run or of a graph; `labelled` gives them to what has neither. It may be
    used in several event loops and threads.

    Args:
        kept: the most owners, threads, runs and models that have a sum of their own; `total` has all of them.
    """

    def __init__(self, *, kept: int = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._begun: dict[int, _Labels] = {}
        self._clear()

    def _clear(self) -> None:
        self._total = CostSum()
        self._owners: OrderedDict[str, CostSum] = OrderedDict()
        self._threads: OrderedDict[str, CostSum] = OrderedDict()
        self._runs: OrderedDict[str, CostSum] = OrderedDict()
        self._models: OrderedDict[str, CostSum] = OrderedDict()

    @property
    def total(self) -> CostSum:
        """The sum of all answers."""
        return self._total

    @property
    def owners(self) -> Mapping[str, CostSum]:
        """The sum of each owner of runs."""
        return self._copied(self._owners)

    @property
    def threads(self) -> Mapping[str, CostSum]:
        """The sum of each thread of graphs and runs, by its id."""
        return self._copied(self._threads)

    @property
    def runs(self) -> Mapping[str, CostSum]:
        """The sum of each run of a relay, by its id."""
        return self._copied(self._runs)

    @property
    def models(self) -> Mapping[str, CostSum]:
        """The sum of each model, by provider and model, as in `mistral/mistral-small-latest`."""
        return self._copied(self._models)

    def labelled(self, *, owner: str | None = None, thread: str | None = None) -> Callable[[Event], None]:
        """Return an observer that adds to these sums, for this owner and thread.

        Args:
            owner: who pays; None takes the owner of the run.
            thread: the id of the conversation; None takes that of the run or graph.
        """

        def observer(event: Event) -> None:
            self._receive(event, _Labels(owner, thread))

        return observer

    def take(self) -> CostSums:
        """Return the sums so far, and begin again with none; for a service that writes them to a database."""
        taken = CostSums(kept=self._kept)
        with self._lock:
            taken._total, taken._owners, taken._threads = self._total, self._owners, self._threads
            taken._runs, taken._models = self._runs, self._models
            self._clear()
        return taken

    def __call__(self, event: Event) -> None:
        """Receive an event."""
        self._receive(event, _NO_LABELS)

    def _receive(self, event: Event, given: _Labels) -> None:
        match event:
            case AnswerStarted():
                load_in_background()
            case AnswerEnded():
                found = self._labels(event.operation)
                labels = _Labels(given.owner or found.owner, given.thread or found.thread, found.run)
                run_when_loaded(lambda: self._add(event, labels))
            case RunStarted():
                self._begun[event.operation.id] = _Labels(event.owner, event.thread, event.operation.name)
            case GraphStarted():
                self._begun[event.operation.id] = _Labels(thread=event.thread)
            case RunEnded() | GraphEnded():
                self._begun.pop(event.operation.id, None)
            case _:
                pass

    def _labels(self, operation: Operation | None) -> _Labels:
        """Return what the operations around an answer tell; the outermost counts."""
        owner = thread = run = None
        while operation is not None:
            found = self._begun.get(operation.id, _NO_LABELS)
            owner, thread, run = found.owner or owner, found.thread or thread, found.run or run
            operation = operation.parent
        return _Labels(owner, thread, run)

    def _add(self, event: AnswerEnded, labels: _Labels) -> None:
        answer = event.completion
        cost, usage = cost_of(answer), answer_usage(answer)
        model = f"{event.provider}/{answer.model or event.operation.name}"
        with self._lock:
            sums = [self._total, self._sum_of(self._models, model)]
            for group, name in ((self._owners, labels.owner), (self._threads, labels.thread), (self._runs, labels.run)):
                if name:
                    sums.append(self._sum_of(group, name))
            for one in sums:
                one.add_known(cost, usage)

    def _sum_of(self, group: OrderedDict[str, CostSum], name: str) -> CostSum:
        if name not in group:
            group[name] = CostSum()
            if len(group) > self._kept:
                group.popitem(last=False)
        group.move_to_end(name)
        return group[name]

    def _copied(self, group: OrderedDict[str, CostSum]) -> Mapping[str, CostSum]:
        with self._lock:
            return dict(group)
