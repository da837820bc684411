"""Export metrics to Prometheus, through OpenTelemetry's SDK and its exporter."""

from __future__ import annotations

from streamcore.errors import ConfigError, install_command
from streamcore.telemetry.observer import OpenTelemetryObserver

try:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider
    from prometheus_client import CollectorRegistry, exposition
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("streamcore"):
        raise
    raise ConfigError(
        f"metrics for Prometheus need the package {error.name!r}, which is not installed; "
        f"run: {install_command('metrics')}"
    ) from error


class PrometheusMetrics:
    """Count what an observer reports, and write it in Prometheus' text format.

    Spans go to OpenTelemetry's global tracer provider, if the application has set one.
    """

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=self._registry)
        self.observer = OpenTelemetryObserver(meter_provider=MeterProvider([reader]))
        """The observer whose metrics these are."""

    def text(self) -> bytes:
        """Return all metrics as they are now."""
        return exposition.generate_latest(self._registry)
