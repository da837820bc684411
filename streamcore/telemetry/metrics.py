"""Record the metrics of answers, operations and relays, from the events of observers."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from streamcore.cost import Cost
from streamcore.observe import events
from streamcore.pricing.counts import Counts
from streamcore.telemetry import names

if TYPE_CHECKING:
    from streamcore.observe import AnswerEnded, Outcome

_NOTHING: Mapping[str, str] = {}
_WHOLE = frozenset({"finished", "refused"})


class _Tally:
    """Count in this process what OpenTelemetry asks for when it exports: a twentieth of the cost of its counters."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[frozenset[tuple[str, str]], float] = {}

    def add(self, change: float, attributes: Mapping[str, str] = _NOTHING) -> None:
        """Change the count of these attributes."""
        key = frozenset(attributes.items())
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + change

    def observe(self, options: CallbackOptions) -> Iterable[Observation]:
        """Yield all counts."""
        with self._lock:
            counts = list(self._counts.items())
        return [Observation(count, dict(key)) for key, count in counts]


class Metrics:
    """The instruments of one meter."""

    def __init__(self, meter: Meter, *, per_chunk: bool) -> None:
        made: dict[str, Any] = {name: _instrument(meter, name, metric) for name, metric in names.METRICS.items()}
        self._duration, self._usage = made[names.DURATION], made[names.USAGE]
        self._to_first, self._per_chunk = made[names.TO_FIRST_CHUNK], made[names.PER_CHUNK]
        self._operations = made[names.OPERATION_DURATION]
        self._attempts, self._fallbacks = made[names.ANSWER_ATTEMPTS], made[names.ANSWER_FALLBACKS]
        self._restarts, self._cut = made[names.ANSWER_RESTARTS], made[names.ANSWER_CUT]
        self._cost = made[names.ANSWER_COST]
        self._open, self._runs = made[names.OPEN_STREAMS], made[names.RELAY_RUNS]
        self._readers = made[names.RELAY_READERS]
        self._each_chunk = per_chunk

    def answer_started(self, provider: str) -> None:
        """Count an open stream."""
        self._open.add(1, {names.PROVIDER: provider})

    def attempt_ended(self, event: events.AttemptEnded, provider: str, model: str) -> None:
        """Count an attempt."""
        attributes = {names.PROVIDER: provider, names.REQUEST_MODEL: model}
        if event.error is not None:
            attributes[names.ERROR] = type(event.error).__name__
        self._attempts.add(1, attributes)

    def fell_back(self, provider: str, error: Exception) -> None:
        """Count a fallback; `provider` is asked next."""
        self._fallbacks.add(1, {names.PROVIDER: provider, names.ERROR: type(error).__name__})

    def restarted(self) -> None:
        """Count a restart."""
        self._restarts.add(1)

    def chunk(self, seconds: float, attributes: Mapping[str, str]) -> None:
        """Record the time between two chunks, if each of them is to be recorded."""
        self._per_chunk.record(seconds, attributes)

    def answer_ended(
        self, event: AnswerEnded, opened: str, attributes: dict[str, str], counts: Counts | None, error: str | None
    ) -> None:
        """Record an answer; `opened` is the provider whose stream was counted as open."""
        self._open.add(-1, {names.PROVIDER: opened})
        self._duration.record(event.seconds, attributes if error is None else {**attributes, names.ERROR: error})
        if counts is not None:
            self._usage.record(counts.input, {**attributes, names.TOKEN_TYPE: "input"})
            self._usage.record(counts.output, {**attributes, names.TOKEN_TYPE: "output"})
        if event.first_content is not None:
            self._to_first.record(event.first_content, attributes)
            if event.chunks > 1 and not self._each_chunk:
                mean = (event.seconds - event.first_content) / (event.chunks - 1)
                self._per_chunk.record(mean, attributes)
        if event.outcome not in _WHOLE:
            cause = {names.PROVIDER: attributes[names.PROVIDER], names.OUTCOME: event.outcome}
            self._cut.add(1, cause if error is None else {**cause, names.ERROR: error})

    def priced(self, cost: Cost, attributes: Mapping[str, str]) -> None:
        """Add what an answer costs."""
        self._cost.add(float(cost.amount), {**attributes, names.CURRENCY: cost.currency})

    def operation_ended(self, operation: events.Operation, outcome: Outcome, seconds: float) -> None:
        """Record an agent, a tool, a graph, a node or a run."""
        name = "" if operation.kind in ("run", "reader") else operation.name
        self._operations.record(seconds, _kind(operation.kind, name, outcome))

    def runs(self, change: int) -> None:
        """Count the open runs of relays."""
        self._runs.add(change)

    def readers(self, change: int) -> None:
        """Count the readers of relays' runs."""
        self._readers.add(change)


@cache
def _kind(kind: str, name: str, outcome: str) -> Mapping[str, str]:
    attributes = {names.KIND: kind, names.OUTCOME: outcome}
    return {**attributes, names.OPERATION_NAME: name} if name else attributes


def _instrument(meter: Meter, name: str, metric: names.Metric) -> Any:
    match metric.instrument:
        case "histogram":
            given = None if metric.boundaries is None else list(metric.boundaries)
            return meter.create_histogram(
                name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=given
            )
        case "counter":
            tally = _Tally()
            meter.create_observable_counter(name, [tally.observe], metric.unit, metric.description)
            return tally
        case "updowncounter":
            tally = _Tally()
            meter.create_observable_up_down_counter(name, [tally.observe], metric.unit, metric.description)
            return tally
        case _:
            return meter.create_observable_gauge(name, [_held_bytes], metric.unit, metric.description)


def _held_bytes(options: CallbackOptions) -> Iterable[Observation]:
    module = sys.modules.get("streamcore.relay.memory")  # nothing is held where no relay is used
    yield Observation(0 if module is None else module.held_bytes())
