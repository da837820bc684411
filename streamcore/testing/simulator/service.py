"""Run a simulator as a service: print how to reach it, serve until Ctrl-C, print what it did."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from streamcore.testing.simulator.server import Simulator


def serve(simulator: Simulator, say: Callable[[str], None], *, as_json: bool = False) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        simulator: what to serve.
        say: gets lines: the root URL and what to set in the environment, at the end the figures.
        as_json: say both as JSON.

    Raises:
        OSError: the port cannot be used.
    """
    _allow_many_connections()
    asyncio.run(_serve(simulator, say, as_json))


async def _serve(simulator: Simulator, say: Callable[[str], None], as_json: bool) -> None:
    url = await simulator.listen()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows has KeyboardInterrupt only
            loop.add_signal_handler(number, simulator.stop)
    if as_json:
        say(json.dumps({"url": url, "environment": simulator.environment}) + "\n")
    else:
        exports = [f"export {name}={value}" for name, value in simulator.environment.items()]
        say("\n".join([url, *exports]) + "\n")
    try:
        await simulator.serve()
    finally:
        say((simulator.figures.json() if as_json else simulator.figures.describe()) + "\n")


def _allow_many_connections() -> None:
    """Raise the limit of open sockets to the most that the system allows."""
    if sys.platform == "win32":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
