"""Keep the conversation of `streamcore chat`: what goes with the next message, and how it is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamcore.checkpoints import Checkpointer
from streamcore.completion import Completion
from streamcore.errors import ConfigError
from streamcore.request import Message
from streamcore.stream import Stream
from streamcore.tools.decisions import unanswered


@dataclass(slots=True)
class Conversation:
    """The messages of a conversation, and the thread that keeps them if it has a name."""

    thread: str | None = None
    store: Checkpointer | None = None
    messages: list[Message] = field(default_factory=list[Message])
    """All but the system message, which comes from the prompt."""
    _version: int = 0

    async def load(self) -> None:
        """Read the thread.

        Raises:
            CheckpointError: the store cannot be read, or the thread has other data.
        """
        saved = None if self.store is None else await self.store.load(self._key)
        if saved is not None:
            self._version = saved.version
            self.messages = [Message.from_json(one) for one in saved.data["messages"]]

    async def save(self) -> None:
        """Write the thread.

        Raises:
            ThreadConflict: another process has saved the thread meanwhile.
        """
        if self.store is not None:
            data = {"messages": [message.to_json() for message in self.messages]}
            self._version = await self.store.save(self._key, data, self._version)

    def add(self, text: str, stream: Stream) -> None:
        """Add a turn: all of it if the answer is complete, else the message and the text that arrived."""
        answer = stream.partial
        if answer.complete and not unanswered(stream.messages):
            self.messages = [message for message in stream.messages if message.role != "system"]
            return
        arrived = said(answer)
        if arrived:  # without an answer, the next message would follow one of the same role
            self.messages += [Message("user", text), Message("assistant", arrived)]

    def write(self, path: Path) -> None:
        """Write the conversation to a file: as Markdown if its name ends in .md, else a message as JSON a line.

        Raises:
            ConfigError: the file cannot be written.
        """
        lines = self.readable() if path.suffix == ".md" else [message.to_json() for message in self.messages]
        try:
            path.write_text("\n".join(lines) + "\n", "utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error

    def readable(self) -> list[str]:
        """Return the conversation as lines for people."""
        lines: list[str] = []
        for message in self.messages:
            if message.text or not message.tool_calls:
                lines += [f"**{message.role}**: {message.text}", ""]
            for call in message.tool_calls:
                lines += [f"**calls** {call.name} {call.arguments}", ""]
        return lines[:-1]

    @property
    def _key(self) -> str:
        return f"chat/{self.thread}"


def said(answer: Completion) -> str:
    """Return the text of all steps of an answer."""
    steps: Sequence[Completion] = answer.steps or (answer,)
    return "".join(step.text or step.refusal for step in steps)
