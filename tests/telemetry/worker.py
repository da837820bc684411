"""Run one worker of a service that sends its traces over OTLP; its arguments are those of `main`."""

from __future__ import annotations

import socket
import sys

import uvicorn
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from streamcore.telemetry import instrument
from streamcore.web import create_app


def weather(city: str) -> str:
    """Return the weather of a city; a tool of the graph."""
    with trace.get_tracer("application").start_as_current_span("look up the weather"):
        return f"It is sunny in {city}."


def main(name: str, graph: str, redis: str, otlp: str) -> None:
    """Serve until the process is ended; the first line of the output is the address."""
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=otlp)))
    trace.set_tracer_provider(provider)
    instrument()
    app = create_app(graph, provider="demo", relay=redis, name="trip")
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, loop="asyncio")).run(sockets=[listening])


if __name__ == "__main__":
    main(*sys.argv[1:])
