"""Send traces and metrics to OpenTelemetry, by its GenAI conventions; the application brings its SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamcore.errors import ConfigError, install_command
from streamcore.observe import add_observer, remove_observer

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

try:
    from streamcore.telemetry.observer import OpenTelemetryObserver
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("opentelemetry"):
        raise
    raise ConfigError(f"streamcore.telemetry needs OpenTelemetry's API; run: {install_command('otel')}") from error

__all__ = ["OpenTelemetryObserver", "instrument", "uninstrument"]

_instrumented: list[OpenTelemetryObserver] = []


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    capture_content: bool | None = None,
    per_chunk: bool = False,
) -> None:
    """Write spans and metrics of everything that streamcore does in this process; see `OpenTelemetryObserver`.

    Calling it again replaces what the first call set.
    """
    uninstrument()
    observer = OpenTelemetryObserver(
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        capture_content=capture_content,
        per_chunk=per_chunk,
    )
    _instrumented.append(observer)
    add_observer(observer)


def uninstrument() -> None:
    """End what `instrument` began; harmless if it did not."""
    while _instrumented:
        remove_observer(_instrumented.pop())
