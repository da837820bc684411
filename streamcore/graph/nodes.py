"""Run one node of a graph: for each type, an async generator of events that ends with the node's output."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

import anyio

from streamcore.chunk import Usage
from streamcore.concurrency.generators import opened
from streamcore.concurrency.merge import merged
from streamcore.concurrency.threads import run_in_thread
from streamcore.errors import (
    ConfigError,
    NodeError,
    OutputValidationError,
    PromptError,
    RunLimitReached,
    StreamcoreError,
    ThreadConflict,
)
from streamcore.execute import stream_prompt
from streamcore.files.yaml_file import is_list, is_mapping
from streamcore.graph.config import Config
from streamcore.graph.events import Metadata, NodeEvent
from streamcore.graph.expressions import resolve
from streamcore.graph.limits import Budget
from streamcore.graph.load import Graph
from streamcore.graph.schema import InterruptNode, LlmNode, MapNode, Node, PassthroughNode, PythonNode
from streamcore.graph.variables import in_node, refuse_missing, variables_of
from streamcore.prompts.prompt_file import Prompt, load_prompt
from streamcore.provider import resolve_provider
from streamcore.stream import Stream, refused
from streamcore.structured.json_text import documents

log = logging.getLogger("streamcore")

State = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """Pass a node what it needs to run, besides the state."""

    graph: Graph
    config: Config
    restarts: bool = True
    """True if the reader can handle `restart` events."""
    budget: Budget = field(default_factory=Budget)
    """What the run has used, and its limits."""
    streams: dict[str, Stream] = field(default_factory=dict[str, Stream])
    """The streams that are being read, by node."""

    def unfinished_texts(self) -> dict[str, str]:
        """Return the text so far of each node whose answer is not complete."""
        return {name: text for name, stream in self.streams.items() if (text := stream.partial.text)}


async def run_node(name: str, node: Node, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    """Yield the events of one node, from `node_start` to `node_complete` or `interrupt`.

    Raises:
        NodeError: the node failed, and its `on_error` is not `skip`.
        ConfigError: a setting is not valid; this is raised whatever `on_error` is.
    """
    began = anyio.current_time()
    partial: Metadata = {"partial": state["_partial"][name]} if name in state.get("_partial", {}) else {}
    yield {"type": "node_start", "node": name, "metadata": partial}
    yielded = False
    try:
        context.budget.count_node(name)
        _check_requires(name, node, state, context)
        async with opened(_RUN[node.type](name, node, state, context)) as events:
            async for event in events:
                if event["type"] == "node_complete" or event["type"] == "interrupt":
                    event.setdefault("metadata", {})["seconds"] = anyio.current_time() - began
                else:
                    yielded = True
                yield event
    except PromptError as error:
        raise in_node(context.graph, name, error) from error
    except (ConfigError, RunLimitReached, ThreadConflict):
        raise
    except Exception as error:  # noqa: BLE001  raised as a NodeError, or part of the node's outcome
        failure = error if isinstance(error, NodeError) else _failed(name, context, str(error), error)
        if node.on_error != "skip":
            raise failure from (error if error is not failure else error.__cause__)
        log.warning("node %r of graph %r is skipped after %s", name, context.graph.name, type(error).__name__)
        if yielded:
            yield {"type": "restart", "node": name}
        yield {"type": "node_complete", "node": name, "output": {}, "metadata": {"error": str(failure)}}


def _check_requires(name: str, node: Node, state: State, context: Context) -> None:
    missing = [key for key in node.requires if state.get(key) is None]
    if missing:
        raise _failed(name, context, f"it requires {', '.join(map(repr, missing))}, which the state does not have")


def _failed(name: str, context: Context, why: str, error: Exception | None = None) -> NodeError:
    kind = f"{type(error).__name__}: " if error is not None else ""
    failure = NodeError(
        f"node {name!r} of graph {context.graph.name!r} failed: {kind}{why}", graph=context.graph.name, node=name
    )
    failure.partial = error.partial if isinstance(error, StreamcoreError) else None
    return failure


async def _llm(name: str, node: LlmNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
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
    again = node.on_error in ("retry", "fallback")
    if not context.restarts and (node.on_interrupt == "restart" or node.retries):
        raise ConfigError(
            "on_interrupt: restart and retries may restart an answer, which a stream of text cannot represent; "
            "read the graph's events instead, or remove both from the node"
        )
    variables = variables_of(node, state)
    refuse_missing(context.graph, node, variables, state)
    prompt = load_prompt(node.prompt, prompts_dir=context.graph.prompts_dir, graph_path=context.graph.beside)
    resolved = resolve_provider(
        [context.config.choice, node.choice, context.graph.choice, prompt.choice],
        f"prompt {node.prompt!r} in graph {context.graph.name!r}",
    )
    return stream_prompt(
        node.prompt,
        variables,
        provider=resolved.provider,
        model=resolved.model,
        temperature=resolved.temperature,
        prompts_dir=context.graph.prompts_dir,
        graph_path=context.graph.beside,
        state=state,
        timeouts=node.timeouts,
        stream_options=node.stream_options,
        max_retries=node.max_retries,
        fallback=node.fallbacks(),
        on_interrupt=node.on_interrupt or ("restart" if again and context.restarts else "raise"),
        retries=_retries(node, prompt, context),
        transport=context.config.transport,
    )


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


async def _python(name: str, node: PythonNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    function = _function(node, context)
    tries = node.max_retries if node.on_error == "retry" else 0
    while True:
        try:
            result = await _call(function, deepcopy(dict(state)))
        except Exception as error:
            if tries == 0:
                raise
            tries -= 1
            log.info("calling the tool %r again after %s", node.tool, type(error).__name__)
        else:
            break
    output = result if is_mapping(result) else {} if result is None else {node.state_key or name: result}
    yield {"type": "node_complete", "node": name, "output": dict(output)}


async def _call(function: Callable[[dict[str, Any]], Any], state: dict[str, Any]) -> Any:
    """Call a function; one that is not async runs in a thread, so that it does not block the event loop."""
    if inspect.iscoroutinefunction(function):
        return await function(state)
    result = await run_in_thread("nodes", lambda: function(state))
    return await result if inspect.isawaitable(result) else result


def _function(node: PythonNode, context: Context) -> Callable[[dict[str, Any]], Any]:
    tool = context.graph.file.tools[node.tool]
    where = f"{context.graph.path}:{context.graph.source.line(('tools', node.tool))}: the tool {node.tool!r}"
    try:
        found = getattr(importlib.import_module(tool.module), tool.function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where} cannot be loaded: {error}") from error
    if not callable(found):
        raise ConfigError(f"{where}: {tool.module}.{tool.function} is not a function but a {type(found).__name__}")
    return cast("Callable[[dict[str, Any]], Any]", found)


async def _passthrough(name: str, node: PassthroughNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    yield {"type": "node_complete", "node": name, "output": resolve(node.output, state)}


async def _map(name: str, node: MapNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    items = resolve(node.over, state)
    if not is_list(items):
        kind = "null" if items is None else type(items).__name__
        raise _failed(name, context, f"'over' must give a list, but {node.over} is {kind}")
    context.budget.check_items(name, len(items))
    item = context.graph.items[name]
    results: list[dict[str, Any]] = [{} for _ in items]
    usages: list[Usage] = []
    sources = [
        run_node(name, item, {**state, node.as_: one, "_map_index": index}, replace(context, streams={}))
        for index, one in enumerate(items)
    ]
    async with opened(merged(sources, node.max_concurrency)) as events:
        async for index, event in events:
            if event["type"] == "node_complete":
                results[index] = {**(event["output"] or {item.state_key or name: None}), "_map_index": index}
                usage = event.get("metadata", {}).get("usage")
                usages += [usage] if usage is not None else []
            elif event["type"] != "node_start":
                if "metadata" in event or context.config.include_metadata:
                    event.setdefault("metadata", {})["map_index"] = index
                yield event
    facts: Metadata = {"usage": _sum(usages)} if usages else {}
    yield {"type": "node_complete", "node": name, "output": {node.writes(name)[0]: results}, "metadata": facts}


def _sum(usages: Sequence[Usage]) -> Usage:
    """Return the sum of the counts; a count that no answer has is None."""
    found: dict[str, Any] = {}
    for name in (one.name for one in fields(Usage) if one.name != "raw"):
        counts = [count for usage in usages if (count := getattr(usage, name)) is not None]
        found[name] = sum(counts) if counts else None
    return Usage(**found)


async def _interrupt(name: str, node: InterruptNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    message = resolve(node.message, state)
    facts: Metadata = {}
    if node.prompt is not None:
        async with opened(_llm(name, node, state, context)) as events:
            async for event in events:
                if event["type"] == "node_complete":
                    message = event["output"][node.state_key or name]
                    facts = event.get("metadata", {})
                else:
                    yield event
    key = node.resume_key
    yield {"type": "interrupt", "node": name, "message": message, "resume_key": key, "metadata": facts}


_RUN: Mapping[str, Callable[..., AsyncGenerator[NodeEvent]]] = {
    "llm": _llm,
    "router": _llm,
    "python": _python,
    "passthrough": _passthrough,
    "map": _map,
    "interrupt": _interrupt,
}
