"""Collect spans and metrics in memory, for the tests of telemetry."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streamcore.observe import observe
from streamcore.telemetry import OpenTelemetryObserver


class Collected:
    """An observer, and the spans and metrics that it has written.

    Args:
        readers: further readers of the metrics.
        settings: of the observer.
    """

    def __init__(self, *readers: MetricReader, **settings: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._meters = MeterProvider([self._reader, *readers], shutdown_on_exit=False)
        self.observer = OpenTelemetryObserver(tracer_provider=self.tracers, meter_provider=self._meters, **settings)

    @contextmanager
    def observing(self) -> Generator[None]:
        """Observe what begins inside the block."""
        with observe(self.observer):
            yield

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in the order of their start."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def span(self, name: str) -> ReadableSpan:
        """Return the only span of this name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def path(self, span: ReadableSpan) -> list[str]:
        """Return the names of the spans from the root of the trace to this one."""
        by_id = {one.context.span_id: one for one in self.spans if one.context is not None}
        above = None if span.parent is None else by_id.get(span.parent.span_id)
        return [*([] if above is None else self.path(above)), span.name]

    def points(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """Return the points of each metric: the attributes, and the sum, the value or (count, sum) of a histogram."""
        found: dict[str, list[tuple[dict[str, Any], Any]]] = {}
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        value: Any = getattr(point, "value", None)
                        if value is None:
                            value = getattr(point, "count", 0), getattr(point, "sum", 0)
                        found.setdefault(metric.name, []).append((dict(point.attributes or {}), value))
        return found

    def metrics(self) -> dict[str, Any]:
        """Return the metrics as the SDK has them, by name."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: metric
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    """Return the attributes of a span."""
    return dict(span.attributes or {})
