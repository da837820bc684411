"""Set up what `serve` and `worker` tell operators: the log, traces and metrics."""

from __future__ import annotations

import logging

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
        _show_libraries_as_json()
    if telemetry:
        _instrument(warns)


def logs_json() -> bool:
    """Return whether this process logs everything as JSON."""
    from streamcore.answer_log import JSONFormatter

    return any(isinstance(handler.formatter, JSONFormatter) for handler in logging.getLogger().handlers)


def _show_libraries_as_json() -> None:
    """Print what libraries log as JSON, too: one line for each record, also with a traceback."""
    from streamcore.answer_log import JSONFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter())
    handler.addFilter(lambda record: record.name.partition(".")[0] != "streamcore")  # it has a handler
    logging.getLogger().addHandler(handler)
    logging.getLogger("dbos").addHandler(
        logging.NullHandler()
    )  # with a handler, DBOS adds none, which would print text


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
