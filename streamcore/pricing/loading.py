"""Load the price list of `genai-prices` without blocking an event loop, since importing it takes about 0.3 s."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import anyio.to_thread

from streamcore.concurrency.event_loop import loop_is_running

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

log = logging.getLogger("streamcore")


@cache
def installed() -> bool:
    """True if `genai-prices` can be imported (the extra `cost`)."""
    return find_spec("genai_prices") is not None


class ListNotLoaded(Exception):  # noqa: N818  no failure: the look-up is repeated
    """Report that a look-up would import the price list, which `run_when_loaded` does not let block an event loop."""


class ListState:
    """Whether the price list is loaded, and what waits for the thread that loads it."""

    def __init__(self) -> None:
        self.done = False
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.waiting: list[Callable[[], object]] = []


state = ListState()
_only_loaded: ContextVar[bool] = ContextVar("streamcore_only_loaded_prices", default=False)
"""True in what must not import the list."""


def is_loaded() -> bool:
    """Return True if a look-up imports nothing: the price list is loaded, or not installed."""
    return state.done or not installed()


def load_list() -> None:
    """Import the price list, if it is installed, which takes about 0.3 s; see `load_prices`."""
    if not is_loaded():
        from genai_prices import Usage, calc_price
        from genai_prices.data_snapshot import get_snapshot

        vendor = get_snapshot().providers[0]
        with suppress(LookupError, ValueError):  # the first price imports the rest
            calc_price(Usage(input_tokens=1), vendor.models[0].id, provider_id=vendor.id)
        state.done = True


async def load_prices() -> None:
    """Load the price list of `genai-prices`, if it is installed, in a thread; await this where a service starts.

    The first look-up of a price loads it otherwise, which takes about 0.3 s. `Completion.cost` and `cost_of` block the
    event loop for that time; telemetry, logs, sums and limits do not. `create_app` and `router` do it at their start.
    """
    if not is_loaded():
        await anyio.to_thread.run_sync(load_list, abandon_on_cancel=True)


def load_in_background() -> None:
    """Begin to load the price list in a thread, unless it is loaded."""
    if not is_loaded():
        _run_in_thread(None)


def run_when_loaded(function: Callable[[], object]) -> None:
    """Run a function that looks prices up before anything else; never let it load the price list in an event loop.

    If it needs the list while an event loop runs and the list is not loaded, it is run once more, in the thread that
    loads the list, in the context of the caller. What it raises there is logged.
    """
    if is_loaded() or not loop_is_running():
        function()
        return
    token = _only_loaded.set(True)
    try:
        function()
    except ListNotLoaded:
        later = True
    else:
        later = False
    finally:
        _only_loaded.reset(token)
    if later:
        _run_in_thread(partial(copy_context().run, function))


def _run_in_thread(function: Callable[[], object] | None) -> None:
    """Let the thread that loads the list run a function after it; start that thread if there is none."""
    with state.lock:
        if function is not None:
            state.waiting.append(function)
        if state.thread is None or not state.thread.is_alive():  # after a fork, the parent's thread is not alive
            # Not a daemon: at its end, a program waits until what was deferred has run.
            state.thread = threading.Thread(target=_load_and_run, name="streamcore-prices")
            state.thread.start()


def _load_and_run() -> None:
    _logged(load_list)
    while True:
        with state.lock:
            functions = [*state.waiting]
            state.waiting.clear()
            if not functions:
                state.thread = None
                return
        for function in functions:
            _logged(function)


def _logged(function: Callable[[], object]) -> None:
    try:
        function()
    except Exception:  # the outermost edge of the thread
        log.exception("the cost of an answer was not recorded")


def current_list() -> DataSnapshot:
    """Return the current list.

    Raises:
        ListNotLoaded: it is not loaded, and may not be loaded here.
    """
    if not state.done:
        if _only_loaded.get():
            raise ListNotLoaded
        load_list()
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot()
