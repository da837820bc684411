"""Drive an agent: answers of a model and the calls of its tools in turn, until an answer asks for none."""

# Theory of operation
# ===================
#
# A run alternates between two phases. In the *answer* phase an `AnswerRun` is read as in a stream without tools; its
# chunks are handed on as they are, but for the ids of calls that have none or another's. In the *calls* phase the
# chunks come from `RunningCalls`. The phases overlap where a call begins before its answer has ended: from then on both
# are read at the same time (`merged`).
#
# A call begins early as soon as its arguments are a whole JSON object, whatever the vendor sends afterwards. It does
# not begin early where that could be wrong or too much: if the answer may begin again (`on_interrupt="restart"`,
# `retries`), if results are saved (the answer has to be saved first), and if the call needs approval.
#
# The run ends in one of these ways:
#   the last answer asks for no tool, or was stopped by the reader                    well
#   calls wait for approval (`Completion.pending`), or have a tool without `run`      well; the caller goes on
#   `max_steps`, `max_tool_calls` or `max_cost`                                       AgentLimitReached
#   an error of an answer, a clock that ran out during the calls                      that error
# Every error has `partial`, with all steps. Tools that still run are cancelled before the reader sees the end.

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anyio

from streamcore.base.error import ToolArgumentsError
from streamcore.chunk import Chunk, ToolCall, ToolResult
from streamcore.completion import Completion
from streamcore.concurrency.generators import opened
from streamcore.concurrency.merge import merged
from streamcore.errors import AgentLimitReached, ConfigError, OutputValidationError, StreamcoreError, StreamTimeout
from streamcore.pipeline.run import AnswerRun
from streamcore.reports.agent import AgentReport
from streamcore.request import Message, Tool
from streamcore.stream import Plan, answer_run
from streamcore.structured.json_end import JSONEnd
from streamcore.tools.calls import RunningCalls, denied, nesting
from streamcore.tools.decisions import AgentState, Approve, Approver, Decision, Deny, decision_of, unanswered
from streamcore.tools.results import failed, message_of
from streamcore.tools.toolbox import AnyTool, open_tools
from streamcore.usage_sum import added_usage

if TYPE_CHECKING:
    from streamcore.pricing.limit import CostLimit

MAX_DEPTH = 5
"""How many agents may run inside each other."""

INTERRUPTED = "the process ended while the tool ran; it may or may not have had its effect"

Save = Callable[[AgentState], Awaitable[object]]
"""Saves a run; called after each answer, before its tools begin, and after each result."""


@dataclass(frozen=True, slots=True)
class AgentPlan:
    """What an agent needs besides the `Plan` of an answer; see `stream_agent`."""

    tools: Sequence[AnyTool] = ()
    max_steps: int = 10
    max_tool_calls: int = 50
    max_parallel: int = 8
    approve: Approver | None = None
    saved: AgentState | None = None
    resume: Mapping[str, Decision] | bool | None = None
    save: Save | None = None
    state: Any = None
    max_cost: Decimal | float | None = None
    name: str = ""
    """The name of the prompt or node, for observers."""

    def __post_init__(self) -> None:
        for name in ("max_steps", "max_tool_calls", "max_parallel"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} is a number, 1 or more, not {value!r}")

    def __call__(self, plan: Plan) -> AgentRun:
        """Return the run of this agent, as `Plan.make_run` does."""
        return AgentRun(plan, self)


class AgentRun:
    """Run an agent; the source of a `Stream`, with the same guarantees as an `AnswerRun`."""

    def __init__(self, plan: Plan, agent: AgentPlan) -> None:
        self.output = plan.output
        self.document = ""
        self.outer_only = False
        self._plan = plan
        self._agent = agent
        self._tools: dict[str, Tool] = {}
        self._messages = list(agent.saved.messages if agent.saved else plan.candidate.request.messages)
        self._steps: list[Completion] = []
        self._answer: AnswerRun | None = None  # while it is read
        self._cost = None if agent.max_cost is None else _cost_limit(agent.max_cost)
        observers = (plan.observer, getattr(plan.candidate.provider, "observer", None), self._cost)
        self._report = AgentReport(agent.name, *observers)
        self._calls: RunningCalls = self._new_calls()
        self._asked: tuple[ToolCall, ...] = unanswered(self._messages)  # the calls of the last answer
        self._begun: tuple[str, ...] = ()
        self._early: set[int] = set()  # the positions of the calls that began before their answer had ended
        self._ends: dict[int, JSONEnd] = {}
        self._ids: dict[int, str] = {}  # of the calls of the answer, by position
        self._saving = anyio.Lock()
        self._used = 0  # calls
        self._over = False  # the limit of calls
        self._done = agent.saved is not None and agent.saved.complete
        self._stopped = False
        self._left = plan.timeouts.total or math.inf  # seconds
        self.pending: tuple[ToolCall, ...] = ()

    # -- what a stream needs -----------------------------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """True if `stop()` ended the run before its end."""
        return self._stopped and not self._done

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation, with the results so far; an answer that is not complete is not in it."""
        results = self._results() if self._answer is None else ()
        return tuple(_with_results(self._messages, results))

    def stop(self) -> None:
        """End the run where it is; tools that run are cancelled."""
        self._stopped = True
        if self._answer is not None:
            self._answer.stop()
        self._calls.stop()

    def completion(self, *, complete: bool) -> Completion:
        """Return the last answer, with all steps and the sum of their usage."""
        steps = list(self._steps)
        if self._answer is not None:
            steps.append(replace(self._answer.completion(complete=False), tool_results=self._results()))
        elif steps:
            steps[-1] = replace(steps[-1], tool_results=self._results() or steps[-1].tool_results)
        last = steps[-1] if steps else self._saved_answer()
        return replace(
            last,
            complete=complete,
            usage=added_usage(step.usage for step in steps),
            attempts=tuple(attempt for step in steps for attempt in step.attempts),
            pending=self.pending,
            steps=tuple(steps),
        )

    def _saved_answer(self) -> Completion:
        """Return the answer of a run that was saved after its end."""
        last = self._messages[-1] if self._messages else None
        if not self._done or last is None or last.role != "assistant" or last.tool_calls:
            return Completion()
        return Completion(text=last.text, opaque=last.opaque)

    async def chunks(self) -> AsyncGenerator[list[Chunk]]:
        """Yield the chunks of all answers and tools; the theory is at the top of this file."""
        failure: StreamcoreError | None = None
        done = False
        try:
            self._report.begin(self._plan.candidate.provider.name, self._plan.candidate.request)
            await self._open()
            while True:
                while (ready := await self._next_of_calls()) is not None:
                    yield ready
                await self._calls_ended()
                if self._done or self._stopped:
                    done = True
                    return
                self._report.step(len(self._steps) + 1)
                with self._report.around():
                    self._answer = answer = self._next_answer()
                yield [Chunk("step", data={"step": len(self._steps) + 1})]
                early = self._may_begin_early
                source = answer.chunks()
                async with opened(source) as batches:
                    async for batch in batches:
                        if not batch or (batch[0].kind == "text" and len(batch) == 1):
                            yield batch
                            continue
                        yield self._identified(batch)
                        if early and self._begin_early(batch):
                            break
                    if self._early:
                        async with opened(merged([self._rest(source), self._calls.chunks()], 2)) as both:
                            async for number, batch in both:
                                yield batch if number == 0 else self._outer(batch)
                await self._answered(answer)
        except StreamcoreError as error:
            error.partial = self.completion(complete=isinstance(error, OutputValidationError))
            failure = error
            raise
        finally:
            await self._calls.aclose()
            self._report.ended(self, failure, done=done)

    # -- the calls ---------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Gather the tools, and begin the calls that a saved conversation has left open.

        Raises:
            ConfigError: two tools have one name, or a decision is not about an open call.
            AgentLimitReached: too many agents run inside each other.
        """
        if nesting.get() >= MAX_DEPTH:
            raise self._limit("max_depth", f"{MAX_DEPTH} agents run inside each other, and no more may (max_depth)")
        if self._cost is not None:
            await self._cost.prepare()
        self._tools = await open_tools([*self._plan.candidate.request.tools, *self._agent.tools])
        decisions = self._agent.resume
        if isinstance(decisions, Mapping):
            known = [call.id for call in self._asked]
            for call_id in decisions:
                if call_id not in known:
                    raise ConfigError(f"resume= decides about the call {call_id!r}, but open are {known}")
        if self._asked:
            await self._begin(self._asked)

    async def _begin(self, calls: Sequence[ToolCall]) -> None:
        """Begin those calls of an answer that have not begun early, or say why they cannot."""
        interrupted = set(self._agent.saved.begun) if self._agent.saved and not self._steps else set[str]()
        begin: list[tuple[ToolCall, Tool, bool]] = []
        pending: list[ToolCall] = []
        for call in calls:
            tool = self._tools.get(call.name or "")
            if call.position in self._early:
                continue
            if tool is None:
                known = ", ".join(self._tools) or "none"
                self._calls.add(failed(call, f"Unknown tool {call.name!r}; the tools are: {known}"))
            elif tool.run is None:
                continue  # the caller runs it
            elif call.id in interrupted and not tool.idempotent:
                self._calls.add(failed(call, f"Interrupted: {INTERRUPTED}"))
            elif (found := self._decision(call, tool)) is None and self._agent.approve is None:
                pending.append(call)
            elif isinstance(found, Deny):
                self._calls.add(denied(call, found))
            elif self._used >= self._agent.max_tool_calls:
                self._over = True
                self._calls.add(failed(call, f"NotRun: the limit of {self._agent.max_tool_calls} calls was reached"))
            else:
                self._used += 1
                edited = found.arguments if found is not None else None
                begin.append((_edited(call, edited), tool, found is None))
        self.pending = tuple(pending)
        if self._agent.save is not None:
            self._begun = tuple(call.id or "" for call, _, _ in begin)
            await self._agent.save(AgentState(self.messages, self._begun, self._done))
        for call, tool, ask in begin:
            self._calls.start(call, tool, ask=ask)

    def _decision(self, call: ToolCall, tool: Tool) -> Approve | Deny | None:
        """Return the decision about a call; None if it has to be asked for."""
        if not needs_approval(tool, call):
            return Approve()
        resume = self._agent.resume if not self._steps else None
        given = resume.get(call.id or "") if isinstance(resume, Mapping) else resume
        return None if given is None else decision_of(given)

    async def _next_of_calls(self) -> list[Chunk] | None:
        """Return what the tools report next; None once all have ended.

        Raises:
            StreamTimeout: nothing came within the clock `stall`, or the longest timeout of a tool that runs; or the
                clock `total` ran out.
        """
        while self._calls.running and not self._stopped:
            stall = max(self._plan.timeouts.stall or math.inf, self._calls.patience)
            begun = anyio.current_time()
            ready: list[Chunk] | None = None
            with anyio.move_on_after(min(stall, self._left)) as scope:
                ready = await self._calls.next()
            self._left -= anyio.current_time() - begun
            if scope.cancelled_caught:
                if self._calls.patience == math.inf and self._left > 0:
                    continue
                clock = "total" if self._left <= 0 else "stall"
                seconds = (self._plan.timeouts.total if clock == "total" else stall) or stall
                names = ", ".join(map(repr, self._calls.open_tools))
                raise StreamTimeout(
                    f"these tools did not end, nor report progress, within {seconds:g} s: {names} (clock {clock!r})",
                    clock=clock,
                    seconds=seconds,
                )
            if ready is not None and (ready := self._outer(ready)):
                return ready
        if self._calls.error is not None:
            raise self._calls.error
        return None

    async def _calls_ended(self) -> None:
        """Add the results to the conversation, and decide whether the run goes on.

        Raises:
            AgentLimitReached: it would, but a limit is reached.
        """
        if self._stopped or not (self._steps or self._asked):
            return
        results = self._results()
        self._messages = _with_results(self._messages, results)
        if self._steps:
            self._steps[-1] = replace(self._steps[-1], tool_results=results)
        self._calls = self._new_calls()
        open_calls = unanswered(self._messages)
        self._asked = ()
        if self._over:
            limit = self._agent.max_tool_calls
            raise self._limit("max_tool_calls", f"the model asked for more calls of tools than max_tool_calls={limit}")
        if open_calls or self._done:
            self._done = True
        elif len(self._steps) >= self._agent.max_steps:
            limit = self._agent.max_steps
            raise self._limit("max_steps", f"max_steps={limit} is reached, and the last answer asks for tools again")
        elif self._cost is not None and self._cost.reached:
            raise self._limit("max_cost", f"the last answer asks for tools again; {self._cost.described()}")

    def _results(self) -> tuple[ToolResult, ...]:
        """Return the results of the open calls so far, in the order of the calls."""
        found = self._calls.results
        return tuple(found[call.id] for call in self._asked if call.id in found)

    def _new_calls(self) -> RunningCalls:
        agent = self._agent
        save = None if agent.save is None else self._save_result
        report = self._report.report
        return RunningCalls(
            limit=agent.max_parallel, state=agent.state, approve=agent.approve, saved=save, report=report
        )

    async def _save_result(self, result: ToolResult) -> None:
        if self._agent.save is not None:
            async with self._saving:  # else an older state could be saved last
                self._calls.results[result.call_id] = result
                await self._agent.save(AgentState(self.messages, self._begun))

    def _outer(self, chunks: list[Chunk]) -> list[Chunk]:
        """Leave out the chunks of nested runs if the reader does not want them."""
        return [chunk for chunk in chunks if not chunk.path] if self.outer_only else chunks

    def _limit(self, limit: str, what: str) -> AgentLimitReached:
        return AgentLimitReached(
            f"the agent was stopped: {what}; what arrived is in .partial, and .messages can be continued",
            limit=limit,
            messages=self.messages,
        )

    # -- the answers -------------------------------------------------------------------------------------------------

    def _next_answer(self) -> AnswerRun:
        """Return the run of the next answer, which begins with the provider that answered last."""
        plan = self._plan
        request = plan.candidate.request
        if self._steps and request.tool_choice not in (None, "auto", "none"):
            request = replace(request, tool_choice=None)  # else it would never end
        request = replace(request, messages=tuple(self._messages), tools=tuple(self._tools.values()))
        timeouts = plan.timeouts if self._left == math.inf else replace(plan.timeouts, total=max(self._left, 1e-3))
        self._early, self._ends, self._ids = set(), {}, {}
        return answer_run(replace(plan, candidate=replace(plan.candidate, request=request), timeouts=timeouts))

    async def _answered(self, answer: AnswerRun) -> None:
        """Note an answer that has ended, and begin its calls."""
        completion = answer.completion(complete=not answer.stopped)
        self._answer = None
        self._steps.append(completion)
        self.document = answer.document
        self._left = answer.clocks.left
        last = answer.retries.candidate
        request = replace(last.request, messages=self._plan.candidate.request.messages)
        request = replace(request, tool_choice=self._plan.candidate.request.tool_choice)
        self._plan = replace(
            self._plan, candidate=replace(last, request=request), fallback=tuple(answer.retries.fallback)
        )
        if answer.stopped:
            return
        self._messages.append(_sendable(completion.to_message()))
        self._asked = self._messages[-1].tool_calls
        self._done = not self._asked and completion.finish_reason != "pause"
        await self._begin(completion.tool_calls)

    def _identified(self, batch: list[Chunk]) -> list[Chunk]:
        """Return the chunks with the ids by which results and `Completion.tool_calls` name the calls.

        A server may send no id, or one twice; see `with_ids`.
        """
        if any(chunk.kind in ("tool_call", "restart") for chunk in batch):
            return [self._with_id(chunk) for chunk in batch]
        return batch

    def _with_id(self, chunk: Chunk) -> Chunk:
        if chunk.kind == "restart":
            self._ids.clear()
        call = chunk.tool_call
        if chunk.kind != "tool_call" or call is None or chunk.choice or self._answer is None:
            return chunk
        known = self._ids.get(call.position)
        taken = call.id in [given for position, given in self._ids.items() if position != call.position]
        if call.id and not taken:
            self._ids[call.position] = call.id
            return chunk
        if known is None:
            found = {one.position: one.id or "" for one in self._answer.completion(complete=False).tool_calls}
            self._ids[call.position] = known = found.get(call.position, "")
        elif not call.id:
            return chunk
        return replace(chunk, tool_call=replace(call, id=known))

    @property
    def _may_begin_early(self) -> bool:
        plan = self._plan
        return self._agent.save is None and plan.on_interrupt == "raise" and not plan.retries

    def _begin_early(self, batch: Iterable[Chunk]) -> bool:
        """Begin the calls whose arguments these chunks complete; return whether any has begun."""
        whole: list[int] = []
        for chunk in batch:
            call = chunk.tool_call
            if chunk.kind != "tool_call" or call is None or chunk.choice or call.custom or not call.arguments:
                continue
            end = self._ends.setdefault(call.position, JSONEnd())
            end.add(call.arguments)
            if call.position not in self._early and call.position not in whole and end.whole():
                whole.append(call.position)
        if whole and self._answer is not None:
            calls = {call.position: call for call in self._answer.completion(complete=False).tool_calls}
            for position in whole:
                self._begin_one_early(position, calls[position])
        return bool(self._early)

    def _begin_one_early(self, position: int, call: ToolCall) -> None:
        if self._used >= self._agent.max_tool_calls:
            return
        tool = self._tools.get(call.name or "")
        if tool is None or tool.run is None or not call.arguments.lstrip().startswith("{"):
            return
        if not needs_approval(tool, call):
            self._early.add(position)
            self._used += 1
            self._asked = (*self._asked, call)
            self._calls.start(call, tool)

    async def _rest(self, source: AsyncGenerator[list[Chunk]]) -> AsyncGenerator[list[Chunk]]:
        """Yield the rest of an answer some of whose calls have begun."""
        try:
            async for batch in source:
                yield self._identified(batch)
                self._begin_early(batch)
        finally:
            self._calls.leave()


def _cost_limit(max_cost: Decimal | float) -> CostLimit:
    from streamcore.pricing.limit import CostLimit  # seldom used

    return CostLimit(max_cost)


def needs_approval(tool: Tool, call: ToolCall) -> bool:
    """Return whether a call needs approval; one whose arguments do not fit does not, since it only fails."""
    if isinstance(tool.needs_approval, bool):
        return tool.needs_approval
    try:
        arguments: Mapping[str, Any] = call.parse()
        validated = getattr(tool.run, "validated", None)
        return bool(tool.needs_approval(arguments if validated is None else validated(arguments)))
    except ToolArgumentsError:
        return False


def _edited(call: ToolCall, arguments: Mapping[str, Any] | None) -> ToolCall:
    return call if arguments is None else replace(call, arguments=json.dumps(dict(arguments)))


def _sendable(message: Message) -> Message:
    """Return an answer as the next request may have it: a call whose arguments are not JSON has them as a text."""
    if all(call.complete and call.name for call in message.tool_calls):
        return message
    calls = [
        call
        if call.complete and call.name
        else replace(call, name=call.name or "unknown", arguments=json.dumps({"INVALID_JSON": call.arguments}))
        for call in message.tool_calls
    ]
    return replace(message, tool_calls=tuple(calls))


def _with_results(messages: list[Message], results: Sequence[ToolResult]) -> list[Message]:
    """Return the conversation with new results, all those of one answer in the order of its calls."""
    end = len(messages)
    while end and messages[end - 1].role == "tool":
        end -= 1
    answers = {message.tool_call_id: message for message in messages[end:]}
    answers |= {result.call_id: message_of(result) for result in results}
    order = [call.id for call in messages[end - 1].tool_calls] if end else []
    return [*messages[:end], *(answers[call_id] for call_id in order if call_id in answers)]
