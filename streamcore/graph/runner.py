"""Run a graph step by step: the nodes of a step run at the same time, and each node's completion saves the thread."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio.lowlevel

from streamcore.concurrency.generators import opened
from streamcore.concurrency.merge import merged
from streamcore.errors import ConfigError, NodeError, PromptError, RunLimitReached
from streamcore.files.template import TemplateError
from streamcore.files.yaml_file import is_list
from streamcore.files.yaml_model import did_you_mean
from streamcore.graph.config import Config
from streamcore.graph.context import Context
from streamcore.graph.data_files import read_data_files
from streamcore.graph.events import Event, GraphComplete, Interrupt, NodeComplete, NodeEvent
from streamcore.graph.guards import verify
from streamcore.graph.limits import Budget
from streamcore.graph.load import START, Graph
from streamcore.graph.node_schema import LlmNode, Node
from streamcore.graph.nodes import run_node
from streamcore.graph.routing import following, ready
from streamcore.graph.thread import Thread, as_json_data
from streamcore.graph.time_limit import TimeLeft, in_time
from streamcore.graph.variables import has_value, missing_variables
from streamcore.reports.graph import graph_reported
from streamcore.reports.report import Reporter, reporter


class GraphRun:
    """One run of a graph on a thread.

    Args:
        graph: the graph.
        initial: the values that override those of the thread's state.
        config: what the caller sets.
        thread: the thread of a graph that runs inside another one, which saves it; None opens the one of the config.
        budget: what the outer run has used; None begins with nothing.
    """

    def __init__(
        self,
        graph: Graph,
        initial: Mapping[str, Any],
        config: Config,
        *,
        thread: Thread | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._graph = graph
        self._config = config
        self._initial = as_json_data(initial, "initial_state")
        self._sequence = 0
        self._budget = budget or Budget(config.limits)
        self._nested = thread is not None
        self._resumes: dict[str, Any] = {}
        self._report: Reporter | None = None
        seconds = graph.file.config.timeout
        self._left = None if seconds is None else TimeLeft(seconds)
        if thread is not None:
            self._thread = thread

    def events(self) -> AsyncGenerator[Event]:
        """Yield the run's events; see `streamcore.stream_graph_with_tokens`."""
        report = self._report = reporter("graph", self._graph.name, self._config.observer)
        events = self._events()
        return events if report is None else graph_reported(events, report, self._config.thread_id)

    async def _events(self) -> AsyncGenerator[Event]:
        if not self._nested:
            self._thread = await Thread.open(self._graph, self._config)
        thread = self._thread
        thread.begin(self._initial)
        first = self._first_event()
        if first is not None:
            yield self._with_metadata(first if first["type"] == "interrupt" else await self._save_output(first))
            if first["type"] == "interrupt":
                return
        self._refuse_missing()
        while step := self._next_step():
            await anyio.lowlevel.checkpoint()
            context = Context(
                self._graph,
                self._config,
                budget=self._budget,
                thread=thread,
                resumes=self._resumes,
                run_graph=run_graph,
                report=self._report,
            )
            try:
                async with opened(self._events_of(step, context)) as events:
                    async for event in events:
                        if event["type"] == "token" and "metadata" not in event:
                            yield event
                        elif event["type"] == "interrupt":
                            yield self._with_metadata(await self._save_question(event, step))
                            return
                        elif event["type"] == "node_complete" and event["node"] in step:
                            yield self._with_metadata(await self._save_output(event))
                        else:
                            if event["type"] == "node_complete":
                                await thread.save()  # the thread of a graph inside this one is part of it
                            yield self._with_metadata(event)
            except BaseException:
                await thread.keep(context.unfinished_texts())
                raise
        errors = verify(self._graph.file.verify, thread.view(), self._graph.name)
        if errors:
            before = thread.state.get("errors")
            thread.take("", {"errors": [*(before if is_list(before) else ()), *errors]})
        if errors or not thread.ended:
            await thread.save()
        yield self._with_metadata(GraphComplete(type="graph_complete", state=thread.public_state()))

    def _first_event(self) -> NodeComplete | Interrupt | None:
        """Set the first nodes; return the event of an interrupt that waits for its answer or was just answered."""
        thread, resume = self._thread, self._config.resume
        asked = thread.asked
        question = thread.question()
        if question is not None and resume is None:
            again = Interrupt(
                type="interrupt",
                node=question["node"],
                message=question["message"],
                resume_key=question["resume_key"],
            )
            if thread.waiting_calls:
                again["metadata"] = {"calls": [*thread.waiting_calls]}
            return again
        if asked is not None:
            thread.asked = None
            if "at" in asked:  # the node runs on, and the graph inside it gets the answer
                self._resumes[asked["node"]] = resume
                return None
            node = self._graph.nodes[asked["node"]]
            output = {node.writes(asked["node"])[0]: asked["message"], asked["resume_key"]: resume}
            return NodeComplete(type="node_complete", node=asked["node"], output=output)
        if resume is not None:
            raise ConfigError(f"no interrupt waits for an answer on {thread}; remove 'resume' from the config")
        if not thread.next and not (self._nested and thread.begun):
            thread.counts = {}
            thread.written = {}
            thread.begun = True
            self._set_first_values()
            thread.next = self._following(START)
        return None

    def _set_first_values(self) -> None:
        """Set the values of `data_files`, unless the run was given others, and those of `variables` that are absent."""
        thread = self._thread
        thread.begin({**as_json_data(read_data_files(self._graph), "data_files"), **self._initial})
        values = as_json_data(self._graph.file.variables, "variables")
        thread.begin({key: value for key, value in values.items() if key not in thread.state})

    def _refuse_missing(self) -> None:
        """Raise before anything runs, and costs, if a node would lack a variable.

        Raises:
            PromptError: the message has a line for each node.
        """
        found = missing_variables(self._graph, self._thread.view(), self._thread.next)
        if found:
            raise PromptError("\n".join(map(str, found))) from found[0]

    def _next_step(self) -> list[str]:
        """Return the nodes that run now; nodes whose value exists already are skipped."""
        thread, passed = self._thread, set[str]()
        while True:
            step = ready(self._graph, thread.next)
            skipped = [name for name in step if self._has_value(name)]
            if not skipped:
                return step
            for name in skipped:
                self._replace(name, () if name in passed else self._following(name))
                passed.add(name)

    def _has_value(self, name: str) -> bool:
        return has_value(self._graph, name, self._thread.state)

    def _events_of(self, step: Sequence[str], context: Context) -> AsyncGenerator[NodeEvent]:
        state = self._thread.view()
        sources = [run_node(name, self._graph.nodes[name], state, context) for name in step]
        source = sources[0] if len(sources) == 1 else _together(sources)
        return source if self._left is None else _in_time(source, self._left)

    async def _save_output(self, event: NodeComplete) -> NodeComplete:
        """Add a node's output to the state and save the thread, before the event is yielded."""
        name, thread = event["node"], self._thread
        event["output"] = as_json_data(event["output"], f"the output of node {name!r}")
        errors = event.get("metadata", {}).get("errors")
        if errors:
            before = thread.state.get("errors")
            event["output"]["errors"] = [*(before if is_list(before) else ()), *errors]
        thread.take(name, self._merged(name, event["output"]))
        thread.forget_child(name)
        self._resumes.pop(name, None)
        for inner, count in event.get("metadata", {}).get("counts", {}).items():
            thread.counts[inner] = thread.counts.get(inner, 0) + count
        thread.counts[name] = thread.counts.get(name, 0) + 1
        self._replace(name, self._following(name))
        await thread.save()
        return event

    def _merged(self, name: str, output: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a node's output sets: the messages of an agent come after those that the state has."""
        if self._graph.nodes[name].type != "agent" or not is_list(output.get("messages")):
            return output
        before = self._thread.state.get("messages")
        return {**output, "messages": [*(before if is_list(before) else ()), *output["messages"]]}

    async def _save_question(self, event: Interrupt, step: Sequence[str]) -> Interrupt:
        """Save the question of an interrupt, so that the model does not generate it again."""
        path, thread = event["node"], self._thread
        name = next(one for one in step if path == one or path.startswith(f"{one}/"))
        event["message"] = as_json_data({"message": event["message"]}, f"the message of node {name!r}")["message"]
        thread.asked = {"node": name, "message": event["message"], "resume_key": event["resume_key"]}
        calls = event.get("metadata", {}).get("calls")
        if calls:
            thread.asked["calls"] = calls
        if path == name and self._graph.nodes[name].type != "agent":
            thread.take(name, {self._graph.nodes[name].writes(name)[0]: event["message"]})
        else:
            thread.asked["at"] = path
            thread.take(name, event.get("metadata", {}).get("updates", {}))
        await thread.save()
        return event

    def _following(self, name: str) -> list[str]:
        try:
            return following(self._graph, name, self._thread.view(), self._thread.counts)
        except TemplateError as error:
            what = f"after node {name!r} of graph {self._graph.name!r}: {error}"
            raise NodeError(what, graph=self._graph.name, node=name) from error

    def _replace(self, name: str, targets: Sequence[str]) -> None:
        """Replace a node that has run by the nodes that follow it."""
        others = [one for one in self._thread.next if one != name]
        self._thread.next = list(dict.fromkeys([*others, *targets]))

    def _with_metadata(self, event: Any) -> Any:
        """Return an event with numbered metadata, or without metadata if the options include none."""
        if self._nested:
            return event
        node = self._graph.node(event.get("node", ""))
        options = node.stream_options if isinstance(node, LlmNode) else None
        if self._config.include_metadata or (options is not None and options.include_metadata):
            self._sequence += 1
            event.setdefault("metadata", {})["sequence"] = self._sequence
        else:
            event.pop("metadata", None)
        return event


def run_graph(
    thread: Thread, initial: Mapping[str, Any], context: Context, resume: Any = None
) -> AsyncGenerator[Event]:
    """Return the events of a graph that runs inside another run; see `streamcore.graph.context.RunGraph`."""
    config = replace(context.config, thread_id=None, checkpointer=None, resume=resume)
    return GraphRun(thread.graph, initial, config, thread=thread, budget=context.budget).events()


async def node_text(graph: Graph, name: str, state: Mapping[str, Any], config: Config) -> AsyncGenerator[str]:
    """Yield the text of one node; see `streamcore.stream_node_output`."""
    node = graph.nodes.get(name)
    if node is None:
        raise ConfigError(f"graph {graph.name!r} has no node {name!r}{did_you_mean(name, [*graph.nodes])}")
    if node.type not in ("llm", "router", "agent"):
        raise ConfigError(
            f"node {name!r} has the type {node.type}, which has no text to stream; only llm, router and agent nodes "
            "have"
        )
    given = as_json_data(state, "state")
    thread = await Thread.open(graph, config)
    thread.begin(given)
    context = Context(graph, config, restarts=False, budget=Budget(config.limits))
    try:
        async with opened(run_node(name, for_text(node), thread.view(), context)) as events:
            async for event in events:
                if event["type"] == "token":
                    yield event["content"]
                elif event["type"] == "node_complete":
                    thread.take(name, as_json_data(event["output"], f"the output of node {name!r}"))
                    await thread.save()
    except BaseException:
        await thread.keep(context.unfinished_texts())
        raise


def for_text(node: Node) -> Node:
    """Return the node with `on_error: skip` replaced by `fail`: a skipped error would make a cut text look complete."""
    on_error = "fail" if node.on_error == "skip" else node.on_error
    return node.model_copy(update={"stream": True, "on_error": on_error})


async def _in_time(source: AsyncGenerator[NodeEvent], left: TimeLeft) -> AsyncGenerator[NodeEvent]:
    try:
        async with opened(in_time(source, left)) as events:
            async for event in events:
                yield event
    except TimeoutError as error:
        if left.seconds > 0:
            raise
        raise RunLimitReached(
            f"the run took longer than its limit config.timeout={left.given:g}; raise the limit, or run it again on "
            "its thread to continue",
            limit="timeout",
        ) from error


async def _together(sources: Sequence[AsyncGenerator[NodeEvent]]) -> AsyncGenerator[NodeEvent]:
    async with opened(merged(sources, len(sources))) as events:
        async for _, event in events:
            yield event
