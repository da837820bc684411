"""Log one structured record for each answer, and write records as JSON; never keys, prompts or texts of answers."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from streamcore.completion import Completion
from streamcore.errors import ProviderError
from streamcore.observe.events import AnswerEnded, Event, Operation, RunEnded, RunStarted, ToolEnded
from streamcore.pricing.answers import answer_usage, cost_of
from streamcore.pricing.loading import run_when_loaded

log = logging.getLogger("streamcore")

FIELDS = (
    *("event", "outcome", "target", "provider", "model", "seconds", "first_content_seconds"),
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
    *("cost", "currency", "cost_source", "attempts", "error", "finish_reason"),
    *("response_id", "request_id", "run_id", "owner", "thread_id", "pause"),
    *("status", "code", "reference", "route", "tool"),
)
"""The attributes of records that `JSONFormatter` writes; those that are None are left out."""
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


_FAILED = ("failed", "interrupted", "timed_out")
_REPORTED = ("ToolError", "ToolArgumentsError")
"""The errors with which a tool tells the model what is wrong with its call."""


class AnswerLog:
    """Log each answer that ends, in any way, as one record of the logger `streamcore`; an observer.

    A call of a tool that fails is logged, too; the model gets its error, and the answer goes on.

    The record's attributes are listed in the guide "Observing". Tokens and cost are those of all attempts, as far as
    the vendor reported them, also if the answer was cut, stopped or cancelled.

    Args:
        level: the level of the records; those of answers that failed are `WARNING` at least.
        cost: compute the cost. This loads the list of prices in a thread; answers that end meanwhile are logged when
            it is loaded.
    """

    def __init__(self, *, level: int = logging.INFO, cost: bool = True) -> None:
        self._level = level
        self._cost = cost
        self._runs: dict[int, RunStarted] = {}

    def __call__(self, event: Event) -> None:
        """Log an answer that has ended."""
        match event:
            case AnswerEnded():
                self._log(event)
            case ToolEnded() if event.outcome in _FAILED:
                self._log_tool(event)
            case RunStarted():
                self._runs[event.operation.id] = event
            case RunEnded():
                self._runs.pop(event.operation.id, None)
            case _:
                pass

    def _log(self, event: AnswerEnded) -> None:
        level = max(self._level, logging.WARNING) if event.outcome in _FAILED else self._level
        if not log.isEnabledFor(level):
            return
        fields = self._fields(event)

        def write() -> None:
            fields.update(self._costs(event.completion))
            log.log(level, "%s", _sentence(fields), extra=fields)

        run_when_loaded(write)

    def _log_tool(self, event: ToolEnded) -> None:
        """Log a tool that failed, with the class of its error; the text is the model's, and may have secrets."""
        name, seconds = event.operation.name, round(event.seconds, 6)
        error = None if event.result is None else _class_of(event.result.error or "")
        fields = {"event": "tool", "tool": name, "outcome": event.outcome, "error": error, "seconds": seconds}
        fields |= {"target": "/".join(_names(event.operation)) or None, **self._run(event.operation)}
        level = self._level if error in _REPORTED else max(self._level, logging.WARNING)
        log.log(level, "tool %s: %r, %.2f s, %s", event.outcome, name, seconds, error or event.outcome, extra=fields)

    def _fields(self, event: AnswerEnded) -> dict[str, Any]:
        answer = event.completion
        fields: dict[str, Any] = {
            "event": "answer",
            "outcome": event.outcome,
            "target": "/".join(_names(event.operation)) or None,
            "provider": event.provider,
            "model": answer.model or event.operation.name or None,
            "seconds": round(event.seconds, 6),
            "first_content_seconds": None if event.first_content is None else round(event.first_content, 6),
            "attempts": len(answer.attempts) or 1,
            "error": None if event.error is None else type(event.error).__name__,
            "finish_reason": answer.finish_reason,
            "response_id": answer.id,
            "request_id": answer.request_id,
        }
        if isinstance(event.error, ProviderError):
            fields |= {"status": event.error.status, "code": event.error.code}
            fields["request_id"] = answer.request_id or event.error.request_id
        usage = answer_usage(answer)
        fields |= {name: None if usage is None else getattr(usage, name) for name in _TOKENS}
        return fields | self._run(event.operation)

    def _costs(self, answer: Completion) -> dict[str, Any]:
        cost = cost_of(answer) if self._cost else None
        if cost is None:
            return {"cost": None, "currency": None, "cost_source": None}
        return {"cost": str(cost.amount), "currency": cost.currency, "cost_source": cost.source}

    def _run(self, operation: Operation | None) -> dict[str, Any]:
        """Return the run of the relay that an answer is a part of, and its owner."""
        while operation is not None and operation.kind != "run":
            operation = operation.parent
        run = None if operation is None else self._runs.get(operation.id)
        if run is None:
            return {"run_id": None, "owner": None, "thread_id": None}
        return {"run_id": run.operation.name, "owner": run.owner or None, "thread_id": run.thread}


def _names(operation: Operation) -> list[str]:
    """Return the names of the agents, tools, graphs and nodes around an answer, the outermost first."""
    names: list[str] = []
    around = operation.parent
    while around is not None:
        if around.name and around.kind != "run":
            names.insert(0, around.name)
        around = around.parent
    return names


def _class_of(error: str) -> str:
    """Return the class of a tool's error, whose text begins with it unless it is a `ToolError`."""
    name = error.partition(":")[0]
    return name if name.isidentifier() and name.endswith(("Error", "Exception", "Timeout")) else "ToolError"


def _sentence(fields: Mapping[str, Any]) -> str:
    """Return the record's message, for people."""
    parts = [f"answer {fields['outcome']}: {fields['provider']} {fields['model'] or ''}".rstrip()]
    parts.append(f"{fields['seconds']:.2f} s")
    if fields["input_tokens"] is not None or fields["output_tokens"] is not None:
        parts.append(f"{fields['input_tokens'] or 0} tokens in, {fields['output_tokens'] or 0} out")
    if fields["cost"] is not None:
        parts.append(f"{fields['cost']} {fields['currency']}")
    if fields["attempts"] > 1:
        parts.append(f"{fields['attempts']} attempts")
    if fields["error"] is not None:
        parts.append(fields["error"])
    return ", ".join(parts)


class JSONFormatter(logging.Formatter):
    """Write each record as one line of JSON: time, level, process, logger, message, and the attributes of `FIELDS`.

    If OpenTelemetry is used, the line has the `trace_id` of the current trace.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        written: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        trace_id = _trace_id()
        if trace_id is not None:
            written["trace_id"] = trace_id
        for name in FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                written[name] = value
        if record.exc_info:
            written["exception"] = self.formatException(record.exc_info)
        return json.dumps(written, default=str)


def _trace_id() -> str | None:
    """Return the id of OpenTelemetry's current trace; None if the program does not use it."""
    api = sys.modules.get("opentelemetry.trace")
    context = None if api is None else api.get_current_span().get_span_context()
    return None if context is None or not context.is_valid else format(context.trace_id, "032x")
