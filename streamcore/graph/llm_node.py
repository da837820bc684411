"""Run a node that asks a model: open its stream, yield its tokens, and make its output."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

from streamcore.errors import ConfigError, OutputValidationError
from streamcore.execute import stream_prompt
from streamcore.graph.context import Context, State
from streamcore.graph.events import Metadata, NodeEvent
from streamcore.graph.node_schema import LlmNode
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
    tokens = context.budget.answer(name)
    extra: Metadata = {"stream_key": node.stream_key} if node.stream_key else {}
    numbered = context.config.include_metadata or bool(node.stream_options and node.stream_options.include_metadata)
    async with stream:
        while (batch := await stream.next_batch()) is not None:
            tokens.note(batch)
            for chunk in batch:
                if chunk.text and (chunk.kind == "text" or chunk.kind == "refusal") and chunk.choice == 0:
                    if numbered and node.stream:
                        yield {"type": "token", "node": name, "content": chunk.text, "metadata": {**extra}}
                    elif node.stream:
                        yield {"type": "token", "node": name, "content": chunk.text}
                elif chunk.kind == "restart":
                    yield {"type": "restart", "node": name}
    tokens.end()
    answer = stream.partial
    error = refused(answer)
    if error is not None:
        raise error
    key = node.state_key or name
    tried = answer.attempts[-1]
    facts: Metadata = {"provider": tried.provider, "model": answer.model or tried.model, "usage": answer.usage}
    output = {key: _value(node, stream)}
    del context.streams[name]
    yield {"type": "node_complete", "node": name, "output": output, "metadata": facts}


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
    prompt = load_prompt(node.prompt, prompts_dir=context.graph.prompts_dir, graph_path=context.graph.beside)
    resolved = resolve_provider(
        [context.config.choice, node.choice, context.graph.choice, prompt.choice],
        f"prompt {node.prompt!r} in graph {context.graph.name!r}",
    )
    return {
        "provider": resolved.provider,
        "model": resolved.model,
        "temperature": resolved.temperature,
        "prompts_dir": context.graph.prompts_dir,
        "graph_path": context.graph.beside,
        "state": state,
        "timeouts": node.timeouts,
        "stream_options": node.stream_options,
        "max_retries": node.max_retries,
        "fallback": node.fallbacks(),
        "on_interrupt": node.on_interrupt or ("restart" if again and context.restarts else "raise"),
        "retries": _retries(node, prompt, context),
        "transport": context.config.transport,
    }


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
