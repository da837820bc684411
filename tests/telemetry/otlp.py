"""Receive traces and metrics over OTLP, as a collector does, and arrange spans as trees."""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class Received:
    """One span, as it arrived."""

    name: str
    worker: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    scope: str
    """What has written it: streamcore, the application, or the web framework."""
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(slots=True)
class Receiver:
    """The address of a receiver, and what it has received."""

    url: str
    spans: list[Received] = field(default_factory=list[Received])
    points: dict[str, list[tuple[dict[str, Any], Any]]] = field(
        default_factory=dict[str, list[tuple[dict[str, Any], Any]]]
    )
    """The last points of each metric: the attributes, and the value, or (count, sum) of a histogram."""

    @property
    def metrics_url(self) -> str:
        """The address for metrics."""
        return self.url.replace("/v1/traces", "/v1/metrics")


@contextmanager
def receiver() -> Generator[Receiver]:
    """Receive traces and metrics at a free port of loopback while the block runs."""
    found = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/metrics":
                found.points = _points(body)
            else:
                found.spans.extend(_spans(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name of the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        found.url = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _spans(body: bytes) -> list[Received]:
    request = ExportTraceServiceRequest.FromString(body)
    found: list[Received] = []
    for resource in request.resource_spans:
        labels = {one.key: one.value.string_value for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            found += [
                Received(
                    *(one.name, labels.get("service.name", ""), one.trace_id.hex(), one.span_id.hex()),
                    *(one.parent_span_id.hex(), one.start_time_unix_nano, one.end_time_unix_nano, scope.scope.name),
                    _attributes(one.attributes),
                )
                for one in scope.spans
            ]
    return found


def _points(body: bytes) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    request = ExportMetricsServiceRequest.FromString(body)
    found: dict[str, list[tuple[dict[str, Any], Any]]] = {}
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in getattr(metric, metric.WhichOneof("data") or "").data_points:
                    if metric.HasField("histogram"):
                        value: Any = point.count, point.sum
                    else:
                        value = getattr(point, point.WhichOneof("value"))
                    found.setdefault(metric.name, []).append((_attributes(point.attributes), value))
    return found


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(one) for one in value.array_value.values)
    return getattr(value, kind)


def only(spans: Sequence[Received], scopes: Collection[str]) -> list[Received]:
    """Return the spans of these scopes; what was inside another one is inside the nearest of them around it."""
    by_id = {span.id: span for span in spans}
    kept: list[Received] = []
    for span in spans:
        if span.scope in scopes:
            parent = span.parent
            while parent in by_id and by_id[parent].scope not in scopes:
                parent = by_id[parent].parent
            kept.append(replace(span, parent=parent))
    return kept


def tree(spans: Sequence[Received], parent: str, depth: int = 0) -> list[tuple[int, Received]]:
    """Return the spans below a parent, each after the one around it, with how deep it is."""
    found: list[tuple[int, Received]] = []
    for span in sorted((one for one in spans if one.parent == parent), key=lambda one: one.start):
        found += [(depth, span), *tree(spans, span.id, depth + 1)]
    return found
