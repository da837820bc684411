"""Run a node that asks a model: open its stream, yield its tokens, and make its output."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from streamcore.errors import ConfigError, OutputValidationError
from streamcore.execute import stream_prompt
from streamcore.files.yaml_file import is_mapping
from streamcore.graph.answer_events import AnswerEvents
from streamcore.graph.context import Context, State
from streamcore.graph.events import Metadata, NodeEvent
from streamcore.graph.node_schema import LlmNode, RouterNode
from streamcore.graph.thread import as_json_data
from streamcore.graph.variables import refuse_missing, variables_of
from streamcore.prompts.prompt_file import Prompt, load_prompt
from streamcore.provider import resolve_provider
from streamcore.stream import Stream, refused
from streamcore.structured.json_text import documents


async def run_llm(name: str, node: LlmNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    """Stream the answer of a model; the node's output is the validated object, the parsed JSON, or the text."""
    context.budget.count_model_call(name)
    stream = open_stream(node, state, context)
    context.streams[name] = stream
    reader = AnswerEvents(name, node, context, counted=True)
    async with stream:
        while (batch := await stream.next_batch()) is not None:
            for event in reader.events(batch):
                yield event
    reader.end()
    output, facts = output_of(name, node, stream)
    del context.streams[name]
    yield {"type": "node_complete", "node": name, "output": output, "metadata": facts}


def output_of(name: str, node: LlmNode, stream: Stream) -> tuple[dict[str, Any], Metadata]:
    """Return a node's output from the stream of its answer, which has ended, and facts about the answer.

    Raises:
        ContentRefused: the model refused.
        OutputValidationError: with `parse_json`, the answer has no JSON.
    """
    answer = stream.partial
    error = refused(answer)
    if error is not None:
        raise error
    if answer.pending:
        calls = ", ".join(repr(call.name) for call in answer.pending)
        raise ConfigError(
            f"the prompt {node.prompt!r} calls {calls}, which needs approval; only nodes of the type 'agent' can ask a "
            "person"
        )
    tried = answer.attempts[-1]
    value = _value(node, stream)
    if isinstance(node, RouterNode) and node.route_field is not None:
        value = _route(value, node.route_field)
    facts: Metadata = {"provider": tried.provider, "model": answer.model or tried.model, "usage": answer.usage}
    return {node.state_key or name: value}, facts


def open_stream(node: LlmNode, state: State, context: Context) -> Stream:
    """Return the stream of a node's answer, which has not begun.

    Raises:
        TemplateError: an expression in `variables` failed.
        PromptError: the prompt uses a variable that has no value.
        ConfigError: the node may restart its answer, and the reader does not understand `restart`.
    """
    variables = variables_of(node, state)
    refuse_missing(context.graph, node, variables, state)
    return stream_prompt(node.prompt, variables, **prompt_options(node, state, context))


def prompt_options(node: LlmNode, state: State, context: Context) -> dict[str, Any]:
    """Return the arguments of `stream_prompt` for a node.

    Raises:
        ConfigError: the node may restart its answer, and the reader does not understand `restart`.
    """
    again = node.on_error in ("retry", "fallback")
    if not context.restarts and (node.on_interrupt == "restart" or node.retries):
        raise ConfigError(
            "on_interrupt: restart and retries may restart an answer, which a stream of text cannot represent; "
            "read the graph's events instead, or remove both from the node"
        )
    prompt = load_prompt(
        node.prompt, prompts_dir=context.graph.prompts_dir, graph_path=context.graph.prompts_relative_to
    )
    resolved = resolve_provider(
        [context.config.choice, node.choice, context.graph.choice, prompt.choice],
        f"prompt {node.prompt!r} in graph {context.graph.name!r}",
    )
    defaults = context.graph.file.defaults
    budget = node.thinking_budget if node.thinking_budget is not None else defaults.thinking_budget
    return {
        "provider": resolved.provider,
        "model": resolved.model,
        "temperature": 1.0 if budget else resolved.temperature,  # with thinking a vendor accepts no other one
        "max_tokens": node.max_tokens if node.max_tokens is not None else defaults.max_tokens,
        "reasoning": "none" if budget == 0 else budget,
        "prompts_dir": context.graph.prompts_dir,
        "graph_path": context.graph.prompts_relative_to,
        "state": state,
        "timeouts": node.timeouts,
        "stream_options": node.stream_options,
        "max_retries": node.max_retries,
        "fallback": node.fallbacks(),
        "on_interrupt": node.on_interrupt or ("restart" if again and context.restarts else "raise"),
        "retries": _retries(node, prompt, context),
        "transport": context.config.transport,
    }


def next_fallback(node: LlmNode, context: Context) -> tuple[LlmNode, Context] | None:
    """Return the node and the context with the first entry of `fallback` as the model; None if there is none."""
    entries = node.fallback if isinstance(node.fallback, list) else [node.fallback] if node.fallback else []
    if node.on_error != "fallback" or not entries:
        return None
    first, *others = entries
    if isinstance(first, str):
        provider, _, model = first.partition("/")
        config = replace(context.config, provider=provider, model=model or None)
    else:
        config = replace(context.config, provider=first.provider, model=first.model)
    return node.model_copy(update={"fallback": others or None}), replace(context, config=config)


def _route(value: Any, route_field: str) -> Any:
    """Return the field of a router's output that names the route."""
    data = as_json_data({"value": value}, "the output of a router")["value"]
    return data.get(route_field) if is_mapping(data) else data


def _retries(node: LlmNode, prompt: Prompt, context: Context) -> int:
    """Return how many times an answer that does not fit its schema is requested again."""
    if node.retries is None and node.on_error == "retry" and context.restarts:
        return node.max_retries if prompt.output() is not None else 0
    return node.retries or 0


def _value(node: LlmNode, stream: Stream) -> Any:
    """Return a node's output: the validated object, the parsed JSON, or the text."""
    answer = stream.partial
    text = answer.text + answer.refusal
    if stream.structured:
        return answer.parsed
    if not node.parse_json:
        return text
    found = next(documents(text), None)
    if found is None:
        error = OutputValidationError(f"parse_json: the answer has no JSON; it begins with {text[:80]!r}")
        error.partial = answer
        raise error
    return json.loads(found)
