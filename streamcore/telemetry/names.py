"""Name the attributes and metrics: those of OpenTelemetry's GenAI conventions 1.41.1, and those that it does not have.

Source: https://github.com/open-telemetry/semantic-conventions, `model/gen-ai` of the tag v1.41.1, the last one that has
them. `tests/telemetry/conventions.json` is made from it, and `tests/telemetry/test_conventions.py` compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

CONVENTIONS = "1.41.1"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
STREAM = "gen_ai.request.stream"
TEMPERATURE = "gen_ai.request.temperature"
MAX_TOKENS = "gen_ai.request.max_tokens"
STOP = "gen_ai.request.stop_sequences"
SEED = "gen_ai.request.seed"
OUTPUT_TYPE = "gen_ai.output.type"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105  the kind of a token
AGENT = "gen_ai.agent.name"
CONVERSATION = "gen_ai.conversation.id"
TOOL = "gen_ai.tool.name"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_DESCRIPTION = "gen_ai.tool.description"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
WORKFLOW = "gen_ai.workflow.name"
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL_DEFINITIONS = "gen_ai.tool.definitions"
ERROR = "error.type"

# What the conventions do not have.
OUTCOME = "streamcore.outcome"
ATTEMPTS = "streamcore.attempts"
COST = "streamcore.cost"
CURRENCY = "streamcore.cost.currency"
KIND = "streamcore.operation.kind"
OPERATION_NAME = "streamcore.operation.name"
NODE = "streamcore.node.name"
NODE_TYPE = "streamcore.node.type"
RUN = "streamcore.relay.run.id"
ITEMS = "streamcore.relay.run.items"

CAPTURE_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The environment variable that lets spans have prompts and answers."""

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = tuple(4**power for power in range(14))


@dataclass(frozen=True, slots=True)
class Metric:
    """Describe one metric."""

    instrument: Literal["histogram", "counter", "updowncounter", "gauge"]
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    boundaries: tuple[float, ...] | None = None


_ANSWER = (OPERATION, PROVIDER, REQUEST_MODEL, RESPONSE_MODEL)

DURATION = "gen_ai.client.operation.duration"
USAGE = "gen_ai.client.token.usage"
TO_FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
PER_CHUNK = "gen_ai.client.operation.time_per_output_chunk"
OPERATION_DURATION = "streamcore.operation.duration"
ANSWER_ATTEMPTS = "streamcore.answer.attempts"
ANSWER_FALLBACKS = "streamcore.answer.fallbacks"
ANSWER_RESTARTS = "streamcore.answer.restarts"
ANSWER_CUT = "streamcore.answer.cut"
ANSWER_COST = "streamcore.answer.cost"
OPEN_STREAMS = "streamcore.streams.open"
RELAY_RUNS = "streamcore.relay.runs.open"
RELAY_READERS = "streamcore.relay.readers"
RELAY_BYTES = "streamcore.relay.bytes_held"

METRICS: Mapping[str, Metric] = {
    DURATION: Metric("histogram", "s", "The time of an answer, with all its attempts.", (*_ANSWER, ERROR), SECONDS),
    USAGE: Metric("histogram", "{token}", "The tokens of an answer.", (*_ANSWER, TOKEN_TYPE), TOKENS),
    TO_FIRST_CHUNK: Metric("histogram", "s", "The time until the first content of an answer.", _ANSWER, SECONDS),
    PER_CHUNK: Metric("histogram", "s", "The time per chunk of content after the first.", _ANSWER, SECONDS),
    OPERATION_DURATION: Metric(
        "histogram",
        "s",
        "The time of an agent, a tool, a graph, a node or a relay's run.",
        (KIND, OPERATION_NAME, OUTCOME),
        SECONDS,
    ),
    ANSWER_ATTEMPTS: Metric("counter", "{attempt}", "Attempts to get an answer.", (PROVIDER, REQUEST_MODEL, ERROR)),
    ANSWER_FALLBACKS: Metric(
        "counter", "{fallback}", "Answers that another provider was asked for.", (PROVIDER, ERROR)
    ),
    ANSWER_RESTARTS: Metric("counter", "{restart}", "Answers that began again after their reader saw a part."),
    ANSWER_CUT: Metric("counter", "{answer}", "Answers without a proper end, by cause.", (PROVIDER, OUTCOME, ERROR)),
    ANSWER_COST: Metric("counter", "1", "What answers cost, in the currency of the attribute.", (*_ANSWER, CURRENCY)),
    OPEN_STREAMS: Metric("updowncounter", "{stream}", "Answers that are being streamed.", (PROVIDER,)),
    RELAY_RUNS: Metric("updowncounter", "{run}", "Runs of relays that are being produced."),
    RELAY_READERS: Metric("updowncounter", "{reader}", "Readers of relays' runs."),
    RELAY_BYTES: Metric("gauge", "By", "The bytes of runs that relays hold in the memory of this process."),
}
"""Every metric, by its name."""
