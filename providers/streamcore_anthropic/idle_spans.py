"""Leave out the SDK's OpenTelemetry spans as long as nothing records or propagates them.

The SDK computes the attributes of a span before it asks whether it is recorded: 3% of the operations of a request.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from streamcore_anthropic.sdk_private import remember_urls

if TYPE_CHECKING:
    import anthropic

_without_spans: WeakKeyDictionary[anthropic.AsyncAnthropic, anthropic.AsyncAnthropic] = WeakKeyDictionary()
"""For each client, the copy of it that makes no spans."""


def without_idle_spans(client: anthropic.AsyncAnthropic) -> anthropic.AsyncAnthropic:
    """Return the client; a copy without spans if no tracer provider is set, and the context has nothing to propagate.

    Providers may be set at any time, so this is asked before each request.
    """
    if _has_use():
        return client
    copy = _without_spans.get(client)
    if copy is None:
        copy = _without_spans[client] = client.with_options(open_telemetry={"traces": False})
        remember_urls(copy)
    return copy


def _has_use() -> bool:
    """Return True if a span would be recorded, or would bring the headers of a trace or of baggage with it."""
    import opentelemetry.context as context
    import opentelemetry.trace as trace

    return (
        bool(context.get_current())
        or "OTEL_PYTHON_TRACER_PROVIDER" in os.environ  # asking for this provider raises if it is not installed
        or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    )
