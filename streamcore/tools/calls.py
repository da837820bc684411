"""Run the tool calls of one step at the same time, each in a task of its own, and hand on what they report.

The tasks are started outside any task group, so that a reader who stops leaves no scope open. Each has its own cancel
scope; `aclose` cancels them and waits until they have ended.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from inspect import isawaitable
from json import dumps
from typing import Any, cast

import anyio
import anyio.lowlevel

from streamcore.base.error import ToolArgumentsError
from streamcore.chunk import Chunk, ToolCall, ToolResult
from streamcore.concurrency.event_loop import start_task
from streamcore.concurrency.resources import CLOSE_SECONDS
from streamcore.errors import StreamInterrupted
from streamcore.reports.agent import tool_reported
from streamcore.reports.report import Reporter
from streamcore.request import Tool
from streamcore.tools.context import ToolContext
from streamcore.tools.decisions import DENIED, Approver, Deny, decision_of
from streamcore.tools.results import error_text, failed, result_of

MOST_READY = 256
"""How many chunks of tools may wait for a slow reader before a tool that awaits its progress waits, too."""

nesting: ContextVar[int] = ContextVar("streamcore_agents", default=0)
"""How many agents run around the current code."""


@dataclass(slots=True)
class _Call:
    """A call that waits, runs or has ended."""

    call: ToolCall
    tool: Tool
    ask: bool
    scope: anyio.CancelScope
    context: ToolContext
    begun: bool = False
    result: ToolResult | None = None


class RunningCalls:
    """Run calls, at most `limit` at a time and in the order given, and keep their results.

    A call of a `sequential` tool begins when all before it have ended, and those after it wait for it.
    """

    def __init__(
        self,
        *,
        limit: int,
        state: Any,
        approve: Approver | None,
        saved: Callable[[ToolResult], Awaitable[None]] | None = None,
        report: Reporter | None = None,
    ) -> None:
        self.results: dict[str, ToolResult] = {}
        """The results by the id of the call, in the order of their arrival."""
        self.error: Exception | None = None
        """What `approve` or `saved` raised; it ends the run."""
        self._limit = limit
        self._state = state
        self._approve = approve
        self._saved = saved
        self._report = report
        self._calls: list[_Call] = []
        self._ready: list[Chunk] = []
        self._changed = anyio.Event()
        self._taken = anyio.Event()
        self._left = False
        self._stopped = False

    # -- starting ----------------------------------------------------------------------------------------------------

    def start(self, call: ToolCall, tool: Tool, *, ask: bool = False) -> None:
        """Start a call as soon as the limits allow it; with `ask` only if `approve` approves it."""
        context = ToolContext(replace(call), self._state, self)
        self._calls.append(_Call(call, tool, ask, anyio.CancelScope(), context))
        self._schedule()

    def add(self, result: ToolResult) -> None:
        """Add the result of a call that is not run."""
        self.results[result.call_id] = result
        self.put([Chunk("tool_result", tool_result=result)])

    def leave(self) -> None:
        """End `chunks` where it is; the rest is read with `next`."""
        self._left = True
        self._changed.set()

    def _schedule(self) -> None:
        running = [one for one in self._calls if one.begun and one.result is None]
        for number, one in enumerate(self._calls):
            if one.begun:
                continue
            earlier = [other for other in self._calls[:number] if other.result is None]
            if len(running) >= self._limit or any(other.tool.sequential for other in earlier):
                return
            if one.tool.sequential and earlier:
                return
            one.begun = True
            running.append(one)
            start_task(partial(self._run, one))

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """True while a call has no result, or a chunk has not been read."""
        return bool(self._ready) or any(one.result is None for one in self._calls)

    @property
    def open_tools(self) -> list[str]:
        """The names of the tools whose calls have begun and have no result, each once."""
        return list(dict.fromkeys(one.tool.name for one in self._calls if one.begun and one.result is None))

    @property
    def patience(self) -> float:
        """For how many seconds the longest call may still be silent by its own timeout; infinity while one is asked."""
        open_calls = [one for one in self._calls if one.begun and one.result is None]
        return max((math.inf if one.ask else one.tool.timeout or 0.0 for one in open_calls), default=0.0)

    def put(self, chunks: Sequence[Chunk]) -> None:
        """Hand chunks to the reader."""
        self._ready += chunks
        self._changed.set()

    async def below_limit(self) -> None:
        """Wait until the reader has taken most of what was put."""
        while len(self._ready) >= MOST_READY and not self._stopped:
            self._taken = anyio.Event()
            await self._taken.wait()
        await anyio.lowlevel.checkpoint()

    async def next(self) -> list[Chunk] | None:
        """Return what the tools have reported, after waiting for it if there is nothing; None at the end.

        Raises:
            Exception: what `approve` or `saved` raised.
        """
        while True:
            if self.error is not None:
                raise self.error
            if self._ready:
                ready, self._ready = self._ready, []
                self._taken.set()
                return ready
            if self._stopped or not self.running:
                return None
            await self._change()

    async def chunks(self) -> AsyncGenerator[list[Chunk]]:
        """Yield what the tools report until `leave` is called."""
        while not self._left and not self._stopped:
            if self._ready or self.error is not None:
                yield await self.next() or []
            else:
                await self._change()

    async def _change(self) -> None:
        self._changed = anyio.Event()
        await self._changed.wait()

    # -- ending ------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End what is read where it is."""
        self._stopped = True
        self._changed.set()

    async def aclose(self) -> None:
        """Cancel what runs, and wait until it has ended."""
        self._stopped = True
        self._taken.set()
        running = [one for one in self._calls if one.begun and one.result is None]
        for one in self._calls:
            one.context.cancelled = True
            one.scope.cancel()
        if running:
            with anyio.move_on_after(2 * CLOSE_SECONDS, shield=True):
                while any(one.result is None for one in running):
                    await self._change()

    # -- one call ----------------------------------------------------------------------------------------------------

    async def _run(self, one: _Call) -> None:
        result = failed(one.call, "CancelledError: the run ended before the call")
        nesting.set(nesting.get() + 1)
        try:
            with one.scope:
                with tool_reported(one.call, one.tool.description, self._report) as report:
                    result = await self._result(one)
                    if report is not None:
                        report.result = result
                if self._saved is not None:
                    await self._saved(result)
                self.results[result.call_id] = result
                self._ready.append(Chunk("tool_result", tool_result=result))
        except Exception as error:  # noqa: BLE001  raised on the reader's side
            self.error = self.error or error
        except BaseException:
            # Cancelled from outside, as by a loop that ends: the reader must not take this for the end.
            self.error = self.error or StreamInterrupted("the run was cancelled before its end")
            raise
        finally:
            one.result = result
            one.context.cancelled = True
            self._changed.set()
            if not self._stopped:
                self._schedule()

    async def _result(self, one: _Call) -> ToolResult:
        """Ask for approval if that is needed, run the tool, and return its result, which may be an error."""
        call = one.call
        try:
            parsed: object = {"input": call.arguments} if call.custom else call.parse()
        except ToolArgumentsError as error:
            return failed(call, error_text(error))
        if not isinstance(parsed, Mapping):
            return failed(call, f"ToolArgumentsError: the arguments are not a JSON object, but {call.arguments[:80]!r}")
        arguments = cast("Mapping[str, Any]", parsed)
        if one.ask and self._approve is not None:
            answer = self._approve(call)
            decision = decision_of(await answer if isawaitable(answer) else answer)
            one.ask = False
            if isinstance(decision, Deny):
                return denied(call, decision)
            if decision.arguments is not None:
                arguments = decision.arguments
                one.context.call = replace(call, arguments=dumps(dict(arguments)))
        begun = anyio.current_time()
        for left in reversed(range(one.tool.retries + 1)):
            try:
                value = await self._value(one, arguments)
                return result_of(call, value, anyio.current_time() - begun)
            except ToolArgumentsError as error:
                return failed(call, error_text(error), anyio.current_time() - begun)
            except Exception as error:  # noqa: BLE001  the model gets it
                if not left:
                    return failed(call, error_text(error), anyio.current_time() - begun)
        raise AssertionError

    async def _value(self, one: _Call, arguments: Mapping[str, Any]) -> Any:
        """Return what the tool returns.

        Raises:
            TimeoutError: it took longer than its timeout.
            Exception: what the tool raises.
        """
        if one.tool.run is None:
            raise TypeError(f"tool {one.tool.name!r} cannot run")
        if one.tool.timeout is None:
            return await one.tool.run(arguments, one.context)
        with anyio.move_on_after(one.tool.timeout) as scope:
            return await one.tool.run(arguments, one.context)
        if scope.cancelled_caught:
            raise TimeoutError(f"the tool did not end within {one.tool.timeout:g} s")
        return None


def denied(call: ToolCall, decision: Deny) -> ToolResult:
    """Return the result of a call that was denied."""
    reason = f": {decision.reason}" if decision.reason else ""
    return ToolResult(call.id or "", call.name or "", f"{DENIED}{reason}", f"Denied{reason}")
