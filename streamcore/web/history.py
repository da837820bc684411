"""Keep the turns of a prompt's conversation within limits, and turn them into messages for the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from streamcore.net.well_formed import well_formed_json
from streamcore.request import Message, Request
from streamcore.web.files import UserFile

SavedTurn = dict[str, Any]
"""A turn as it is saved: `user`, `assistant`, and, if there are any, the `run` that answered and the `files`."""


@dataclass(frozen=True, slots=True)
class HistoryLimit:
    """How much of a conversation is kept, and sent with a message.

    Attributes:
        turns: the most turns.
        characters: the maximum number of characters of all turns together.
        full: what happens above that: `drop` leaves the oldest turns out, `refuse` refuses another message.
        file_bytes: the maximum number of bytes of the files of all turns together.
    """

    turns: int = 100
    characters: int = 400_000
    full: Literal["drop", "refuse"] = "drop"
    file_bytes: int = 8 * 2**20

    def latest(self, turns: Sequence[SavedTurn]) -> list[SavedTurn]:
        """Return the latest turns that are within the limits; at least the last one."""
        if self.full == "refuse":
            return [*turns]
        size = file_bytes = 0
        for count, turn in enumerate(reversed(turns)):
            size += _size(turn)
            file_bytes += _file_bytes(turn)
            if count and (count >= self.turns or size > self.characters or file_bytes > self.file_bytes):
                return [*turns[len(turns) - count :]]
        return [*turns]

    def refuse(self, turns: Sequence[SavedTurn]) -> str | None:
        """Return why a conversation cannot take another message, None if it can."""
        short = len(turns) < self.turns and sum(map(_size, turns)) < self.characters
        if short and sum(map(_file_bytes, turns)) < self.file_bytes:
            return None
        return "this conversation has reached its greatest length; begin a new one."


def _size(turn: SavedTurn) -> int:
    return len(turn["user"]) + len(turn["assistant"])


def _file_bytes(turn: SavedTurn) -> int:
    return sum(len(file["data"]) * 3 // 4 for file in turn.get("files", ()))


def saved_turn(user: str, assistant: str, files: Sequence[UserFile] = (), run: str = "") -> SavedTurn:
    """Return a turn as it is saved."""
    turn: SavedTurn = {"user": user, "assistant": well_formed_json(assistant)}
    if run:
        turn["run"] = run
    if files:
        turn["files"] = [file.to_data() for file in files]
    return turn


def user_message(turn: SavedTurn) -> Message:
    """Return the user's message of a turn, with its files."""
    files = [UserFile.from_data(one) for one in turn.get("files", ())]
    return _with_files(Message("user", turn["user"]), files)


def with_files(request: Request, files: Sequence[UserFile]) -> Request:
    """Return a request with files in its last message."""
    *before, last = request.messages
    return replace(request, messages=[*before, _with_files(last, files)])


def _with_files(message: Message, files: Sequence[UserFile]) -> Message:
    """Return a message with files before its text, the order that vendors recommend."""
    return replace(message, content=[*(file.part() for file in files), *message.parts]) if files else message
