"""Show a stream on the terminal, or as lines of JSON, and close it: at its end, at an error, at Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import typer

from streamcore.cli.output import INTERRUPTED, fail, json_line, json_value, note, put, text_length
from streamcore.cli.tool_lines import ChunkScreen
from streamcore.errors import StreamcoreError
from streamcore.stream import Stream
from streamcore.testing.stopwatch import Stopwatch

GRACE = 0.7
"""Seconds after Ctrl-C until the process exits, even if something blocks it, such as the look-up of a host name."""


def show(
    stream: Stream,
    *,
    as_json: bool = False,
    stats: bool = False,
    debug: bool = False,
    raw: bool = False,
    before_end: Callable[[], None] | None = None,
    close: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Stream to the terminal; exit with the code of the outcome if it is not 0.

    Args:
        stream: what to show.
        as_json: a line of JSON for every chunk instead of text.
        stats: print times, speed and usage at the end.
        debug: raise errors instead of printing them.
        raw: send control characters of the text to a terminal as they are.
        before_end: called once, also after an error and at Ctrl-C.
        close: closes what belongs to the stream, on its event loop.
    """
    watch = Stopwatch()
    once = threading.Lock()

    def end() -> None:
        if once.acquire(blocking=False) and before_end is not None:
            before_end()

    def interrupted() -> None:
        answer = stream.partial
        if as_json:
            message = f"interrupted; {text_length(answer)} arrived"
            shown = {"kind": "error", "type": "Interrupted", "message": message, "partial": json_value(answer)}
            put(json.dumps(shown) + "\n")
        note(f"\ninterrupted: the connection is closed; {text_length(answer)} arrived")
        end()

    async def work() -> None:
        try:
            await _show(stream, watch, as_json, raw)
        finally:
            if close is not None:
                await close()

    try:
        run(work, interrupted)
    except StreamcoreError as error:
        end()
        if debug:
            raise
        fail(error, as_json=as_json)
    except Exception:
        end()
        raise
    end()
    if stats:
        note(watch.describe(stream.partial))


def run(work: Callable[[], Coroutine[Any, Any, None]], interrupted: Callable[[], None]) -> None:
    """Run to the end, or until Ctrl-C; then cancel, call `interrupted` and exit with 130, all within a second.

    A thread that cannot be cancelled, such as one that looks up a host name, could keep the process alive. So a timer
    exits the process if cancelling has not ended it by then; the operating system closes what was open.
    """
    once = threading.Lock()
    pressed = False

    def report() -> None:
        if once.acquire(blocking=False):
            interrupted()

    def give_up() -> None:
        with suppress(Exception):
            report()
        os._exit(INTERRUPTED)

    async def main() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def on_sigint(_signal: int, _frame: object) -> None:
            nonlocal pressed
            if not pressed:
                pressed = True
                timer = threading.Timer(GRACE, give_up)
                timer.daemon = True
                timer.start()
            if task is not None:
                loop.call_soon_threadsafe(task.cancel)

        before = signal.getsignal(signal.SIGINT)
        # The loop's own handler makes a signal wake the loop, also one that arrives just before it waits for events;
        # ours replaces it because it runs even while the loop is blocked.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        signal.signal(signal.SIGINT, on_sigint)
        try:
            await work()
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, before)

    with asyncio.Runner() as runner:
        try:
            runner.run(main())
        except BaseException as error:  # a cancelled stream may raise anything
            if not pressed and not isinstance(error, KeyboardInterrupt):
                raise
            report()
            raise typer.Exit(INTERRUPTED) from None


async def _show(stream: Stream, watch: Stopwatch, as_json: bool, raw: bool) -> None:
    screen = ChunkScreen(raw=raw)
    async with stream:
        async for chunk in stream:
            watch.see(chunk)
            if as_json:
                put(json_line(chunk) + "\n")
            else:
                screen.show(chunk)
    if not as_json:
        screen.close()
        answered = {result.call_id for result in stream.partial.tool_results}
        for call in stream.partial.tool_calls:
            if call.id not in answered:
                note(f"the model asks to call {call.name} with {call.arguments}")
