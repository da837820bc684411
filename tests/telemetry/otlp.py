"""Receive traces over OTLP, as a collector does, and arrange them as trees."""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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


@dataclass(slots=True)
class Receiver:
    """The address of a receiver, and what it has received."""

    url: str
    spans: list[Received] = field(default_factory=list[Received])


@contextmanager
def receiver() -> Generator[Receiver]:
    """Receive traces at a free port of loopback while the block runs."""
    found: list[Received] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.extend(_spans(body))
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
        yield Receiver(f"http://127.0.0.1:{server.server_address[1]}/v1/traces", found)
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
                )
                for one in scope.spans
            ]
    return found


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
