"""Run an agent as a node: its answers and tools are events, its conversation is kept with the thread."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from streamcore.chunk import Chunk, ToolCall
from streamcore.completion import Completion
from streamcore.concurrency.generators import opened
from streamcore.errors import AgentLimitReached, OutputValidationError, ToolError
from streamcore.execute import stream_prompt
from streamcore.files.yaml_file import is_mapping
from streamcore.graph.answer_events import WAKE, AnswerEvents, arguments_of
from streamcore.graph.context import Context, State, failed
from streamcore.graph.events import Metadata, NodeEvent
from streamcore.graph.expressions import resolve
from streamcore.graph.llm_node import prompt_options
from streamcore.graph.node_schema import AgentNode
from streamcore.graph.tools.graph import GraphTool
from streamcore.graph.tools.open import open_tool
from streamcore.graph.tools.protocol import RunnableTool, ToolFailed, result_text
from streamcore.graph.tools.shell import ShellTool
from streamcore.graph.variables import refuse_missing
from streamcore.request import Message, Tool
from streamcore.stream import Plan, Stream, answer_run, refused
from streamcore.structured.output import Output
from streamcore.tools.agent import AgentPlan
from streamcore.tools.context import ToolContext
from streamcore.tools.decisions import DENIED, AgentState, Approve, Decision, Deny, unanswered

ASK_FOR_JSON = "Give your result as JSON that fits the schema, and nothing else."
"""The user's message that asks for the structured result, if the last answer has none that fits."""
MAX_TOOL_CALLS = 50
"""How many calls an agent may make for each of its iterations."""

_YES = frozenset({"y", "yes", "ok", "true", "approve", "approved"})


async def run_agent(name: str, node: AgentNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    """Stream an agent's answers and calls; the node's output is the last answer, validated if there is a schema."""
    run = _AgentNode(name, node, state, context)
    async with opened(run.events()) as events:
        async for event in events:
            yield event


class _AgentNode:
    """One run of an agent node.

    The thread keeps, by node: `messages`, the conversation as `Message.to_json` writes it; `start`, the number of
    messages before this run; and, until the run has ended, `begun`, the calls that may have begun.
    """

    def __init__(self, name: str, node: AgentNode, state: State, context: Context) -> None:
        self._name = name
        self._node = node
        self._state = state
        self._context = context
        self._queued: list[NodeEvent] = []  # events of graphs that run as tools
        self._base = self._prompt_stream()
        self._start = 0
        self._over = False  # an earlier process saved the run with its last answer, but not the node's end
        self._output: Output | None = None

    async def events(self) -> AsyncGenerator[NodeEvent]:
        """Yield the node's events."""
        name, context = self._name, self._context
        stream = Stream(self._plan)
        context.streams[name] = stream
        reached = False
        reader = AnswerEvents(name, self._node, context)
        try:
            async with stream:
                while (batch := await stream.next_batch()) is not None:
                    for event in reader.events(batch):
                        yield event
                    while self._queued:
                        yield self._queued.pop(0)
        except AgentLimitReached as error:
            reached = True
            answer, messages = error.partial, error.messages
        else:
            answer, messages = stream.partial, stream.messages
        if self._over:  # no request is sent, and the text's reader may not have it
            for event in reader.events([Chunk("text", answer.text)]):
                yield event
        reader.end()
        if answer.pending:
            self._keep(AgentState(messages), ended=False)
            call = answer.pending[0]
            message = {"tool": call.name, "args": arguments_of(call)}
            waiting: Metadata = {"calls": [one.id or "" for one in answer.pending]}
            key = self._node.resume_key
            yield {"type": "interrupt", "node": name, "message": message, "resume_key": key, "metadata": waiting}
            return
        self._refuse(answer, messages)
        value: Any = _last_text(messages[self._start :]) if reached else answer.text + answer.refusal
        if self._output is not None:
            async with opened(self._structured(answer, messages, reader)) as events:
                async for event in events:
                    if event["type"] == "node_complete":
                        value = event["output"]["value"]
                    else:
                        yield event
        self._keep(AgentState(messages), ended=True)
        del context.streams[name]
        facts: Metadata = {"usage": answer.usage, "model": answer.model}
        if answer.attempts:
            facts["provider"] = answer.attempts[-1].provider
        output = self._update(value, messages[self._start :], reached=reached)
        yield {"type": "node_complete", "node": name, "output": output, "metadata": facts}

    # -- the run -----------------------------------------------------------------------------------------------------

    def _prompt_stream(self) -> Stream:
        """Return the stream of the node's prompt, which gives the plan of its requests."""
        node, state, context = self._node, self._state, self._context
        variables = {key: value for key, value in state.items() if value is not None and not key.startswith("_")}
        variables |= resolve(node.variables or {}, state)
        refuse_missing(context.graph, node, variables, state)
        return stream_prompt(node.prompt, variables, **prompt_options(node, state, context))

    def _plan(self) -> Plan:
        """Return the plan of the run: the prompt's, with the conversation so far and the tools."""
        node, context = self._node, self._context
        plan = self._base.prepare()
        self._output = plan.output
        kept = _saved_agent(context, self._name)
        fresh = list(plan.candidate.request.messages)
        resume: dict[str, Decision] | None = None
        if kept is None:
            self._start, saved = 0, AgentState(tuple(fresh))
        elif kept.open:
            self._start, saved = kept.start, kept.state
            self._over = saved.complete
            resume = self._decisions(saved)
        else:
            self._start = len(kept.state.messages)
            saved = AgentState((*kept.state.messages, *(one for one in fresh if one.role != "system")))
        durable = context.thread is not None and context.thread.durable
        agent = AgentPlan(
            tools=[self._tool(open_tool(context, tool, self._name)) for tool in node.tools],
            max_steps=node.max_iterations,
            max_tool_calls=MAX_TOOL_CALLS * node.max_iterations,
            saved=saved,
            resume=resume,
            save=self._save if durable else None,
            state=self._state,
            name=self._name,
        )
        candidate = replace(plan.candidate, request=replace(plan.candidate.request, output_schema=None))
        return replace(plan, candidate=candidate, output=None, make_run=agent)

    def _tool(self, runnable: RunnableTool) -> Tool:
        """Return a tool of the graph for the agent's loop."""
        node = self._node
        return Tool(
            runnable.name,
            runnable.description,
            runnable.parameters,
            run=_Run(runnable, self._queued),
            needs_approval=node.approve is True or (node.approve is not False and runnable.name in node.approve),
            idempotent=self._context.graph.tools[runnable.name].idempotent,
        )

    def _decisions(self, saved: AgentState) -> dict[str, Decision] | None:
        """Return what a person has decided: about the first call that waits, or about each by its id."""
        if self._name not in self._context.resumes:
            return None
        answer = self._context.resumes[self._name]
        waiting = [
            call
            for call in unanswered(saved.messages)
            if self._node.approve is True or call.name in (self._node.approve or ())
        ]
        ids = [call.id or "" for call in waiting]
        if is_mapping(answer) and answer and not answer.keys() - set(ids):
            return {call: _decision(one) for call, one in answer.items()}
        return {ids[0]: _decision(answer)} if ids else None

    async def _save(self, state: AgentState) -> None:
        """Save the run with the thread: after each answer, before its tools begin, and after each result."""
        self._keep(state, ended=False)
        if self._context.thread is not None:
            await self._context.thread.save_all()

    def _keep(self, state: AgentState, *, ended: bool) -> None:
        """Put the conversation into the thread."""
        thread = self._context.thread
        if thread is not None:
            kept = {"state": json.loads(state.to_json()), "start": self._start, "open": not ended}
            thread.agents[self._name] = kept

    # -- its end -----------------------------------------------------------------------------------------------------

    def _refuse(self, answer: Completion, messages: Sequence[Message]) -> None:
        """Raise if the model refused, or if all calls of the run have failed; one that a person denied has not."""
        error = refused(answer)
        if error is not None:
            raise error
        results = [message for message in messages[self._start :] if message.role == "tool"]
        if results and all(message.is_error and not message.text.startswith(DENIED) for message in results):
            raise failed(self._name, self._context, f"all {len(results)} calls of tools failed; {results[0].text}")

    async def _structured(
        self, answer: Completion, messages: Sequence[Message], reader: AnswerEvents
    ) -> AsyncGenerator[NodeEvent]:
        """Find the JSON in the last answer, or ask for it in one more request; yield it as `value` of an output."""
        assert self._output is not None  # noqa: S101  called with a schema only
        try:
            _, value = self._output.find(answer)
        except OutputValidationError:
            plan = self._base.prepare()
            request = replace(
                plan.candidate.request,
                messages=(*messages, Message("user", ASK_FOR_JSON)),
                tools=(),
                tool_choice=None,
            )
            candidate = replace(plan.candidate, request=request)
            stream = Stream(lambda: replace(plan, candidate=candidate, make_run=answer_run))
            for event in reader.events([Chunk("step", data={"step": reader.steps + 1})]):
                yield event
            async with stream:
                while (batch := await stream.next_batch()) is not None:
                    for event in reader.events(batch):
                        yield event
            reader.end()
            value = stream.partial.parsed
        yield {"type": "node_complete", "node": self._name, "output": {"value": value}}

    def _update(self, value: Any, new: Sequence[Message], *, reached: bool) -> dict[str, Any]:
        """Return the node's update of the state."""
        node = self._node
        update: dict[str, Any] = {
            node.state_key or self._name: value,
            "_agent_iterations": sum(message.role == "assistant" for message in new),
            "_agent_limit_reached": reached,
            "messages": [as_state(message) for message in new],
        }
        if node.tool_results_key is not None:
            update[node.tool_results_key] = list(_results(new))
        return update


class _Run:
    """Run a tool of the graph; the events of a graph go to the node's."""

    def __init__(self, runnable: RunnableTool, queued: list[NodeEvent]) -> None:
        self._runnable = runnable
        self._queued = queued

    async def __call__(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        runnable = self._runnable
        try:
            if isinstance(runnable, GraphTool):
                async with opened(runnable.events(arguments)) as events:
                    async for event in events:
                        self._queued.append(event)
                        await context.progress(WAKE)
                return runnable.result or ""
            result = result_text(await runnable.run(arguments))
        except ToolFailed as error:
            raise ToolError(str(error)) from error
        except Exception as error:
            raise ToolError(str(error) or type(error).__name__) from error
        return result.strip() if isinstance(runnable, ShellTool) else result


@dataclass(frozen=True, slots=True)
class _SavedAgent:
    """What the thread has of an agent; `start` and `open` are described at `_AgentNode`."""

    state: AgentState
    start: int
    open: bool


def _saved_agent(context: Context, name: str) -> _SavedAgent | None:
    found = None if context.thread is None else context.thread.agents.get(name)
    if found is None:
        return None
    return _SavedAgent(AgentState.from_json(json.dumps(found["state"])), found["start"], found["open"])


def _decision(answer: Any) -> Decision:
    """Return a person's answer as a decision: yes, no with a reason, or a mapping."""
    if isinstance(answer, bool | Approve | Deny):
        return answer
    if is_mapping(answer):
        return answer
    text = str(answer).strip()
    return True if text.lower() in _YES else Deny("" if text.lower() in ("n", "no", "false") else text)


def _last_text(messages: Sequence[Message]) -> str:
    """Return the model's last own text."""
    return next((one.text for one in reversed(messages) if one.role == "assistant" and one.text), "")


def _results(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    """Yield the calls of a run with their outputs, in the order of the conversation."""
    calls: dict[str | None, ToolCall] = {}
    for message in messages:
        calls |= {call.id: call for call in message.tool_calls}
        call = calls.get(message.tool_call_id) if message.role == "tool" else None
        if call is not None:
            success = not message.is_error
            yield {"tool": call.name, "args": arguments_of(call), "output": message.text, "success": success}


_TYPES: Mapping[str, Literal["system", "human", "ai", "tool"]] = {
    "system": "system",
    "user": "human",
    "assistant": "ai",
    "tool": "tool",
}


def as_state(message: Message) -> dict[str, Any]:
    """Return a message as the state has it: `role`, `type` (its name in LangChain), `content`, calls."""
    found: dict[str, Any] = {"role": message.role, "type": _TYPES[message.role], "content": message.text}
    if message.tool_calls:
        found["tool_calls"] = [
            {"id": call.id, "name": call.name, "args": arguments_of(call)} for call in message.tool_calls
        ]
    if message.role == "tool":
        found |= {"tool_call_id": message.tool_call_id, "status": "error" if message.is_error else "success"}
    return found
