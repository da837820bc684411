"""Continue the trace of a client, as its header `traceparent` names it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry import context, propagate, trace


@contextmanager
def continued(traceparent: str) -> Generator[None]:
    """Make a client's span the current one, unless an instrumentation of the server has begun a span of its own."""
    if trace.get_current_span().get_span_context().is_valid:
        yield
        return
    token = context.attach(propagate.extract({"traceparent": traceparent}))
    try:
        yield
    finally:
        context.detach(token)
