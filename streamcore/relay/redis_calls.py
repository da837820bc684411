"""Call the Lua scripts in Redis: calls that are made during a round trip to a node are sent together as the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import AskError, NoScriptError, TryAgainError

from streamcore.errors import RelayError
from streamcore.net.clients import shared_client
from streamcore.net.redis_client import FAILURES, RedisDatabase
from streamcore.relay.redis_scripts import INDEX_SCRIPT, RUN_SCRIPT, sha

CLOSED = "the connections to Redis were closed during the call"

_NAMES = {script: sha(script) for script in (RUN_SCRIPT, INDEX_SCRIPT)}
_MOVED = (AskError, TryAgainError)
"""The errors that name another node of a cluster; `MovedError` is one of them."""

_Call = tuple[Sequence[object], "asyncio.Future[Any]"]


class _ScriptQueue:
    """Send the script calls of one event loop to one node."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self.loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        self._calls: list[_Call] = []
        self._task: asyncio.Task[None] | None = None

    async def call(self, command: Sequence[object]) -> Any:
        """Send an EVALSHA and return its result."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.append((command, answer))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        while self._calls:
            calls, self._calls = self._calls, []
            answers: list[Any] = [RelayError(CLOSED)] * len(calls)
            try:
                answers = await self._round_trip(calls)
            except Exception as error:  # noqa: BLE001  raised to the callers
                answers = [error] * len(calls)
            finally:
                self._answer(calls, answers)

    @staticmethod
    def _answer(calls: Sequence[_Call], answers: Sequence[Any]) -> None:
        for (_, answer), found in zip(calls, answers, strict=True):
            if answer.done():  # its caller was cancelled
                continue
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

    async def _round_trip(self, calls: Sequence[_Call]) -> list[Any]:
        answers: list[Any] = []
        for _ in range(2):
            pipe = self._client.pipeline(transaction=False)
            for command, _answer in calls:
                pipe.execute_command(*command)  # pyright: ignore[reportUnknownMemberType]
            answers = await pipe.execute(raise_on_error=False)
            if not any(isinstance(answer, NoScriptError) for answer in answers):
                break
            # The calls of a run come one at a time, and each may be repeated: so all may.
            for script in _NAMES:
                await self._client.script_load(script)  # pyright: ignore[reportUnknownMemberType]
        return answers

    async def aclose(self) -> None:
        """Fail the calls that wait: the loop ends."""
        self.loop = None
        if self._task is not None:
            self._task.cancel()
        self._answer(self._calls, [RelayError(CLOSED)] * len(self._calls))


class ScriptCalls:
    """Call scripts on whichever node has their keys.

    Args:
        database: the Redis or the cluster.
    """

    def __init__(self, database: RedisDatabase) -> None:
        self.database = database
        self._only: _ScriptQueue | None = None  # of the loop that called last; a look-up costs a tenth of a call

    async def run(self, run_id: str, keys: Sequence[bytes], *arguments: object) -> Any:
        """Call the script of a run; its keys are the run and its items.

        Raises:
            RelayError: Redis cannot be reached, or failed.
        """
        return await self._call(run_id, RUN_SCRIPT, keys, arguments)

    async def index(self, run_id: str, key: bytes, *arguments: object) -> Any:
        """Call the script of an owner, a client or a thread.

        Raises:
            RelayError: Redis cannot be reached, or failed.
        """
        return await self._call(run_id, INDEX_SCRIPT, (key,), arguments)

    async def _call(self, run_id: str, script: str, keys: Sequence[bytes], arguments: Sequence[object]) -> Any:
        self.database.check_loop()
        values = [utf8(one) if isinstance(one, str) else one for one in arguments]
        command = ("EVALSHA", _NAMES[script], len(keys), *keys, *values)
        with self.mapped_errors(run_id):
            try:
                return await (await self._queue(keys[0])).call(command)
            except _MOVED:
                await self.database.refresh()
                send = cast("Callable[..., Awaitable[Any]]", (await self.database.client()).eval)
                return await send(script, len(keys), *keys, *values)  # it follows the cluster's redirections
            except FAILURES:
                if self.database.is_cluster:  # another node may have the keys now: for the next call
                    with suppress(*FAILURES):
                        await self.database.refresh()
                raise

    async def _queue(self, key: bytes) -> _ScriptQueue:
        queue = self._only
        if queue is not None and queue.loop is asyncio.get_running_loop():
            return queue
        client = await self.database.node(key)

        def make() -> tuple[_ScriptQueue, Callable[[], Awaitable[object]]]:
            queue = _ScriptQueue(client)
            return queue, queue.aclose

        queue = await shared_client(("relay", self, id(client)), make)
        if not self.database.is_cluster:
            self._only = queue
        return queue

    @contextmanager
    def mapped_errors(self, run_id: str) -> Generator[None]:
        """Map redis-py's errors to `RelayError`, without the password."""
        try:
            yield
        except FAILURES as error:
            reason = self.database.describe(error)
            raise RelayError(f"run {run_id!r}: {self.database.location} failed ({reason}); try again later") from error


def utf8(text: str) -> bytes:
    """Return the bytes of a text, half surrogate pairs included."""
    return text.encode("utf-8", "surrogatepass")
