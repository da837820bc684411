"""Set up what `serve` and `worker` tell operators: the log, traces and metrics."""

from __future__ import annotations

from streamcore.cli.output import fail, note, show_log
from streamcore.errors import StreamcoreError


def set_up_observing(*, log_json: bool, telemetry: bool, warns: bool = True) -> None:
    """Set up the log and telemetry of this process.

    Args:
        log_json: whether answers are logged as JSON.
        telemetry: whether traces and metrics are sent.
        warns: print a warning if nothing receives them.
    """
    if log_json:
        show_log(as_json=True)
    if telemetry:
        _instrument(warns)


def _instrument(warns: bool) -> None:
    try:
        from streamcore.telemetry import instrument
    except StreamcoreError as error:
        fail(error)
    instrument()
    from opentelemetry import trace

    if warns and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        note(
            "warning: --telemetry sends nothing, since no OpenTelemetry SDK is set up; install opentelemetry-distro "
            "and start the command with `opentelemetry-instrument`"
        )
