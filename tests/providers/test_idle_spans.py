"""Test that the Anthropic SDK makes spans exactly where something records or propagates them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streamcore import get_provider, stream_request
from tests.support import KEY, ask

pytestmark = pytest.mark.anyio
BODY = (Path(__file__).parents[1] / "recordings" / "anthropic-thinking-and-tool.sse").read_bytes()


class Asked:
    """Send requests to a transport that answers at once, and keep their headers and the spans that were begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.headers: list[httpx2.Headers] = []
        self.begun: list[str] = []
        start: Callable[..., trace.Span] = vars(trace.ProxyTracer)["start_span"]

        def counted(tracer: trace.ProxyTracer, name: str, *args: Any, **options: Any) -> trace.Span:
            self.begun.append(name)
            return start(tracer, name, *args, **options)

        monkeypatch.setattr(trace.ProxyTracer, "start_span", counted)
        self._http = httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.headers.append(request.headers)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=BODY)

    async def once(self, **settings: Any) -> httpx2.Headers:
        """Send one request and return its headers."""
        given: dict[str, Any] = settings or {"api_key": KEY, "http_client": self._http}
        provider = get_provider("anthropic", model="m", **given)
        answer = await stream_request(ask(), provider=provider).collect()
        assert answer.complete
        return self.headers[-1]

    def client(self) -> anthropic.AsyncAnthropic:
        """Return a client of the caller's."""
        return anthropic.AsyncAnthropic(api_key=KEY, http_client=self._http)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


async def test_no_span_is_begun_if_nothing_records_or_propagates_it(asked: Asked) -> None:
    idle = await asked.once()
    assert asked.begun == []
    own = await asked.once(client=asked.client())
    assert asked.begun == ["anthropic.messages.create"]  # a client of the caller's is used as it is
    assert idle.raw == own.raw


async def test_a_tracer_provider_that_is_set_later_records_spans(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    await asked.once()
    exporter = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    with monkeypatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", tracers)  # `set_tracer_provider` can be called once in a process
        headers = await asked.once()
    (span,) = exporter.get_finished_spans()
    assert span.name == "anthropic.messages.create"
    assert span.context is not None
    assert headers["traceparent"].split("-")[1] == format(span.context.trace_id, "032x")
    await asked.once()
    assert len(exporter.get_finished_spans()) == 1


def _parent() -> context.Context:
    parent = trace.SpanContext(trace_id=1, span_id=2, is_remote=True, trace_flags=trace.TraceFlags(1))
    return trace.set_span_in_context(trace.NonRecordingSpan(parent))


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (lambda: baggage.set_baggage("user", "7"), "baggage", "user=7"),
        (_parent, "traceparent", f"00-{1:032x}-{2:016x}-01"),
    ],
    ids=["baggage", "parent"],
)
async def test_what_the_context_has_is_propagated_without_a_tracer_provider(
    asked: Asked, make: Callable[[], context.Context], name: str, value: str
) -> None:
    assert name not in await asked.once()
    token = context.attach(make())
    try:
        assert (await asked.once())[name] == value
    finally:
        context.detach(token)
