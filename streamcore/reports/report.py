"""Deliver events to observers, and know which operation runs around the current code."""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TypeVar

from streamcore.concurrency.generators import opened
from streamcore.errors import RunLimitReached, StreamInterrupted, StreamTimeout

if TYPE_CHECKING:
    from streamcore.observe.events import Event, Operation, OperationKind, Outcome

log = logging.getLogger("streamcore")
T = TypeVar("T")


class Observer(Protocol):
    """Receive the events of answers, agents, tools, graphs and relays: any function that takes an event.

    It is called at once, in the code that reads the stream, so it must be quick and must not block. An exception that
    it raises is logged once and changes nothing. Optional attributes are used where an observer has them:

    - `wants_chunks = True`: it also receives `ChunksArrived`, which costs something for every token;
    - `activate(operation)` returns a context manager, which is entered around the code of tools, of nodes that are
      code, and of a relay's producer, as to set context variables for them;
    - `trace(operation)` returns a text that is stored with a relay's run, and given to its readers on all workers.
    """

    def __call__(self, event: Event, /) -> object: ...


_around: ContextVar[tuple[tuple[Observer, ...], Operation | None]] = ContextVar(
    "streamcore_observers", default=((), None)
)
"""The observers of the current context, and the operation that runs around the current code."""
_registered: tuple[Observer, ...] = ()
_failed: set[tuple[str, int]] = set()
"""The observers whose error was logged."""


@contextmanager
def observe(*observers: Observer) -> Generator[None]:
    """Let observers receive the events of everything that begins inside the block, in tasks and threads, too.

    with observe(print):
        async for token in execute_prompt_streaming("greet", {"name": "World"}):
            ...
    """
    known, operation = _around.get()
    token = _around.set(((*known, *observers), operation))
    try:
        yield
    finally:
        _around.reset(token)


def add_observer(observer: Observer) -> None:
    """Let an observer receive all events of this process, until `remove_observer`."""
    global _registered
    if all(one is not observer for one in _registered):
        _registered = (*_registered, observer)


def remove_observer(observer: Observer) -> None:
    """End what `add_observer` began; harmless if it did not."""
    global _registered
    _registered = tuple(one for one in _registered if one is not observer)


class Reporter:
    """Deliver the events of one operation to its observers."""

    __slots__ = ("_around", "begun", "observers", "operation")

    def __init__(self, operation: Operation, observers: tuple[Observer, ...]) -> None:
        self.operation = operation
        self.observers = observers
        self.begun = time.monotonic()
        self._around = (observers, operation)

    @property
    def seconds(self) -> float:
        """The seconds since the operation began."""
        return time.monotonic() - self.begun

    def tell(self, event: Event) -> None:
        """Deliver an event; an observer that raises is logged once."""
        for observer in self.observers:
            try:
                observer(event)
            except Exception:  # the outermost edge: an observer must not end what it observes
                name = getattr(observer, "__qualname__", type(observer).__qualname__)
                if (name, id(observer)) not in _failed:
                    _failed.add((name, id(observer)))
                    log.exception("the observer %s failed at %s", name, type(event).__name__)

    @contextmanager
    def active(self, *, enter: bool = False) -> Generator[None]:
        """Make what begins inside the block a part of this operation; with `enter`, enter what observers activate."""
        token = _around.set(self._around)
        try:
            with ExitStack() as stack:
                for observer in self.observers if enter else ():
                    activate = getattr(observer, "activate", None)
                    if activate is not None:
                        stack.enter_context(activate(self.operation))
                yield
        finally:
            _around.reset(token)

    async def within(self, source: AsyncGenerator[T], *, enter: bool = False) -> AsyncGenerator[T]:
        """Yield the items of a source; what begins in its steps is a part of this operation."""
        async with opened(source) as items:
            while True:
                if enter:
                    with self.active(enter=True):
                        try:
                            item = await anext(items)
                        except StopAsyncIteration:
                            return
                else:
                    token = _around.set(self._around)  # without a context manager, which costs more than the rest
                    try:
                        item = await anext(items)
                    except StopAsyncIteration:
                        return
                    finally:
                        _around.reset(token)
                yield item

    def trace(self) -> str:
        """Return what observers store with a relay's run."""
        found = (getattr(observer, "trace", None) for observer in self.observers)
        return next((text for trace in found if trace is not None and (text := trace(self.operation))), "")


def reporter(
    kind: OperationKind, name: str | Callable[[], str], *observers: Observer | None, parent: Reporter | None = None
) -> Reporter | None:
    """Return what reports an operation that begins now; None if nobody observes it, which is the usual case.

    Args:
        kind: what the operation is.
        name: the name of the model, agent, tool, graph, node or run, or what returns it.
        observers: further observers, of the call and of the provider.
        parent: the operation around it; None takes that of the current context.
    """
    around, operation = _around.get() if parent is None else (parent.observers, parent.operation)
    further = [one for one in observers if one is not None]
    if not (around or _registered or further):
        return None
    from streamcore.observe.events import Operation

    given = (*_registered, *around, *further)
    known = name if isinstance(name, str) else name()
    return Reporter(Operation(kind, known, operation), tuple({id(one): one for one in given}.values()))


def outcome_of(error: BaseException | None) -> Outcome:
    """Return how an operation ended that this exception ended; `finished` for None."""
    cause = getattr(error, "cause", None) if type(error).__name__ == "NodeError" else None
    if isinstance(cause, Exception) and cause is not error:
        return outcome_of(cause)
    match error:
        case None:
            return "finished"
        case GeneratorExit():
            return "closed"
        case StreamInterrupted():
            return "interrupted"
        case StreamTimeout() | TimeoutError():
            return "timed_out"
        case RunLimitReached(limit="timeout"):
            return "timed_out"
        case CancelledError():
            return "cancelled"
        case Exception():
            return "failed"
        case _:  # trio's Cancelled, KeyboardInterrupt
            return "cancelled"
