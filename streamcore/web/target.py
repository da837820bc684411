"""Define what a target is: a prompt or a graph that is served, and what a client sends to start a run of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from streamcore.checkpoints import Checkpointer
from streamcore.completion import Completion
from streamcore.graph.limits import AnswerTokens
from streamcore.net.transports import chosen_transport
from streamcore.provider import AnyProvider, ModelChoice, get_provider
from streamcore.request import Message
from streamcore.web.files import UserFile
from streamcore.web.models import About, SessionState


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a client sends to start a run: a message with variables, or the answer to a question."""

    prompt: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict[str, Any])
    resume: Any = None
    run: str = ""
    """The run's name, by which `fork` finds its turn."""
    files: Sequence[UserFile] = ()
    """The files that the user has sent with the message."""
    model: str = ""
    """The model that the user has chosen, as `provider/model`; "": the target's."""
    counted: bool = False
    """Whether the end of a graph's run has its tokens and its cost."""


@dataclass(frozen=True, slots=True)
class ModelOverrides:
    """The operator's provider, model, temperature and transport, which override the file's."""

    provider: AnyProvider | None = None
    model: str | None = None
    temperature: float | None = None
    transport: str | None = None

    @property
    def choice(self) -> ModelChoice:
        """The provider, model and temperature that the operator names."""
        return ModelChoice(self.provider, self.model, self.temperature, "provider= or --provider")

    def check(self) -> None:
        """Check that the provider and the transport exist.

        Raises:
            ConfigError: there is no such provider or transport, or its SDK is missing.
        """
        chosen_transport(self.transport)
        if isinstance(self.provider, str | Mapping):
            get_provider(self.provider, model=self.model, transport=self.transport)


class AnswerSource(Protocol):
    """The chunks of a run, or a graph's events."""

    def __aiter__(self) -> AsyncIterator[Any]: ...
    async def __anext__(self) -> Any: ...
    async def aclose(self) -> None: ...


class ServedTarget(Protocol):
    """A prompt or a graph that is served. `key` is a conversation's name in the store."""

    @property
    def about(self) -> About: ...

    @property
    def path(self) -> Path: ...

    async def refuse(self, key: str, run_request: RunRequest) -> str | None:
        """Return why this request is not valid, None if it is."""
        ...

    async def open(self, key: str, run_request: RunRequest) -> AnswerSource: ...

    def tokens(self) -> AnswerTokens | None:
        """Return what counts the tokens of a run's chunks; None if the target counts them itself."""
        ...

    async def ended(
        self, key: str, run_request: RunRequest, answer: Completion | None, messages: Sequence[Message]
    ) -> None:
        """Save a run that ended or was stopped; `messages` is its whole conversation."""
        ...

    async def state(self, key: str) -> SessionState | None: ...

    @property
    def kept_bytes(self) -> int:
        """The bytes of all conversations that only memory keeps."""
        ...

    async def forget(self, key: str) -> None:
        """Delete a conversation that only memory keeps."""
        ...

    async def delete(self, key: str) -> None:
        """Delete a conversation, wherever it is kept."""
        ...

    async def fork(self, key: str, new: str, runs: Collection[str]) -> None:
        """Begin the conversation `new` with the turns of another that these runs answered."""
        ...

    async def files(self, key: str, run: str) -> Sequence[UserFile]:
        """Return the files of the message that a run answered."""
        ...

    @property
    def conversations(self) -> Checkpointer:
        """The store of the conversations."""
        ...


def without_folders(message: str, *paths: Path) -> str:
    """Return a message with the names of these files only, since clients must not learn where they are."""
    for path in sorted(paths, key=lambda path: -len(str(path))):
        message = message.replace(str(path), path.name)
    return message
