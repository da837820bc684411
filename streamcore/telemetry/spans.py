"""Make the attributes of spans from requests and answers."""

from __future__ import annotations

from typing import Any

from streamcore.cost import Cost
from streamcore.observe import events
from streamcore.pricing.counts import Counts
from streamcore.request import Request
from streamcore.telemetry import names


def answer_start(request: Request, model: str, provider: str) -> dict[str, Any]:
    """Return the attributes that the span of an answer begins with."""
    found: dict[str, Any] = {names.OPERATION: "chat", names.PROVIDER: provider, names.STREAM: True}
    if model:
        found[names.REQUEST_MODEL] = model
    _add_request(found, request)
    return found


def answer_end(event: events.AnswerEnded, provider: str, counts: Counts | None, attempts: int) -> dict[str, Any]:
    """Return the attributes that the span of an answer gets at its end."""
    answer = event.completion
    found: dict[str, Any] = {names.ATTEMPTS: attempts}
    if attempts > 1:  # else it is that of the start
        found[names.PROVIDER] = provider
    if answer.id:
        found[names.RESPONSE_ID] = answer.id
    if answer.model:
        found[names.RESPONSE_MODEL] = answer.model
    reasons = [one.raw_finish_reason for one in (answer, *answer.alternatives) if one.raw_finish_reason]
    if reasons:
        found[names.FINISH_REASONS] = reasons
    if event.first_content is not None:
        found[names.FIRST_CHUNK] = event.first_content
    _add_counts(found, counts)
    return found


def of_cost(cost: Cost) -> dict[str, Any]:
    """Return the attributes of what an answer or an agent costs."""
    return {names.COST: float(cost.amount), names.CURRENCY: cost.currency}


def agent_start(event: events.AgentStarted, provider: str) -> dict[str, Any]:
    """Return the attributes that the span of an agent begins with."""
    found: dict[str, Any] = {names.OPERATION: "invoke_agent", names.PROVIDER: provider}
    if event.operation.name:
        found[names.AGENT] = event.operation.name
    if event.request.model:
        found[names.REQUEST_MODEL] = event.request.model
    _add_request(found, event.request)
    return found


def agent_end(event: events.AgentEnded, counts: Counts | None) -> dict[str, Any]:
    """Return the attributes that the span of an agent gets at its end."""
    found: dict[str, Any] = {}
    if event.completion.raw_finish_reason:
        found[names.FINISH_REASONS] = [event.completion.raw_finish_reason]
    _add_counts(found, counts)
    return found


def tool_start(event: events.ToolStarted) -> dict[str, Any]:
    """Return the attributes that the span of a call begins with."""
    found: dict[str, Any] = {
        names.OPERATION: "execute_tool",
        names.TOOL: event.operation.name,
        names.TOOL_TYPE: "function",
    }
    if event.call.id:
        found[names.TOOL_CALL_ID] = event.call.id
    if event.description:
        found[names.TOOL_DESCRIPTION] = event.description
    return found


def tool_end(event: events.ToolEnded) -> dict[str, Any]:
    """Return the attributes that the span of a call gets at its end: the class of its error."""
    error = event.result.error if event.result is not None else None
    return {} if error is None else {names.ERROR: error.partition(":")[0]}


def _add_request(found: dict[str, Any], request: Request) -> None:
    if request.temperature is not None:
        found[names.TEMPERATURE] = float(request.temperature)
    if request.max_tokens is not None:
        found[names.MAX_TOKENS] = request.max_tokens
    if request.stop:
        found[names.STOP] = [request.stop] if isinstance(request.stop, str) else list(request.stop)
    if request.seed is not None:
        found[names.SEED] = request.seed
    if request.output_schema is not None:
        found[names.OUTPUT_TYPE] = "json"


def _add_counts(found: dict[str, Any], counts: Counts | None) -> None:
    if counts is None:
        return
    found[names.INPUT_TOKENS] = counts.input
    found[names.OUTPUT_TOKENS] = counts.output
    if counts.cache_read:
        found[names.CACHE_READ] = counts.cache_read
    if counts.cache_write:
        found[names.CACHE_WRITE] = counts.cache_write
    if counts.reasoning:
        found[names.REASONING_TOKENS] = counts.reasoning
