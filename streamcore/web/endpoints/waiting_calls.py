"""Keep the calls of a prompt's conversation that wait for approval, so that each is decided about once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamcore.errors import ThreadConflict
from streamcore.request import Message
from streamcore.web.approvals import Waiting
from streamcore.web.prompt_target import PromptTarget
from streamcore.wire.encoding.wire import RequestRefused


class WaitingCalls:
    """The calls of a prompt's thread that wait for approval, in the prompt's store."""

    def __init__(self, target: PromptTarget, key: str) -> None:
        self._target = target
        self._key = key
        self._version = 0

    async def load(self) -> Waiting | None:
        """Return the calls that nobody has decided about; None if there are none."""
        saved = await self._target.store.load(self._key)
        self._version = 0 if saved is None else saved.version
        data = None if saved is None else saved.data.get("waiting")
        return None if data is None else Waiting.from_data(data)

    async def save(self, user: str, messages: Sequence[Message], asked: Sequence[str]) -> None:
        """Save the calls at the end of a conversation that wait."""
        await self.load()
        await self._save(Waiting(user, "", {}, messages, asked))

    async def use(self) -> None:
        """Note that the decisions were sent: no call runs twice, whatever becomes of the run.

        Raises:
            RequestRefused: another request has sent decisions since `load`.
        """
        try:
            await self._save(None)
        except ThreadConflict as error:
            raise RequestRefused("another request has just decided about these calls", kind="conflict") from error

    async def _save(self, waiting: Waiting | None) -> None:
        data = {"turns": list[Any](), "waiting": None if waiting is None else waiting.to_data()}
        await self._target.store.save(self._key, data, self._version)
