"""Know what is served: a prompt, which remembers its turns, or a graph, whose threads remember themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from streamcore.checkpoints import Checkpointer, MemoryCheckpointer, open_checkpointer
from streamcore.completion import Completion
from streamcore.errors import ConfigError, PromptError
from streamcore.execute import stream_prompt
from streamcore.files.template import needed
from streamcore.files.yaml_file import is_mapping, load_yaml
from streamcore.graph.config import Config
from streamcore.graph.load import Graph, load_graph
from streamcore.graph.stream import stream_graph_with_tokens
from streamcore.graph.thread import Thread
from streamcore.graph.variables import missing_variables, paths_of
from streamcore.net.clients import chosen_transport
from streamcore.prompts.prompt_file import Prompt, load_prompt
from streamcore.provider import AnyProvider, ModelChoice, get_provider, resolve_provider
from streamcore.request import Message
from streamcore.web.models import About, Question, SessionState, Turn

INPUTS = ("message", "query", "question", "input", "prompt", "text", "topic")
"""What a variable or a key of the state that takes a user's message is mostly called; the first that is there."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client wants of the next run."""

    prompt: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict[str, Any])
    resume: Any = None


@dataclass(frozen=True, slots=True)
class ModelOverrides:
    """The operator's provider, model, temperature and transport, which override those of the file."""

    provider: AnyProvider | None = None
    model: str | None = None
    temperature: float | None = None
    transport: str | None = None

    @property
    def choice(self) -> ModelChoice:
        """The provider, model and temperature that the operator names."""
        return ModelChoice(self.provider, self.model, self.temperature, "provider= or --provider")

    def check(self) -> None:
        """Check that the provider exists, before the first request.

        Raises:
            ConfigError: there is no such provider or transport, or its SDK is missing.
        """
        chosen_transport(self.transport)
        if isinstance(self.provider, str | Mapping):
            get_provider(self.provider, model=self.model, transport=self.transport)


class Source(Protocol):
    """What a run gives: chunks, or a graph's events."""

    def __aiter__(self) -> AsyncIterator[Any]: ...
    async def __anext__(self) -> Any: ...
    async def aclose(self) -> None: ...


class Target(Protocol):
    """What is served. `key` is a conversation's name in the store."""

    @property
    def about(self) -> About: ...

    async def refuse(self, key: str, ask: Ask) -> str | None:
        """Return why this request is not valid, None if it is."""
        ...

    async def open(self, key: str, ask: Ask) -> Source: ...

    async def ended(self, key: str, ask: Ask, answer: Completion | None) -> None:
        """Remember a run that came to its end, or was stopped."""
        ...

    async def state(self, key: str) -> SessionState | None: ...

    async def forget(self, key: str) -> None:
        """Drop a conversation that is kept in memory only."""
        ...


def target_of(
    wanted: str | Path | Graph,
    settings: ModelOverrides,
    *,
    given: Mapping[str, Any],
    message_as: str | None,
    prompts_dir: str | Path | None,
    checkpointer: Checkpointer | Mapping[str, Any] | None,
    fallback: Checkpointer,
) -> Target:
    """Return what to serve: a graph, a graph's or prompt's file, or a prompt's name.

    Raises:
        ConfigError: there is no such thing, or it is wrong.
    """
    settings.check()
    if not isinstance(wanted, Graph) and str(wanted).endswith((".yaml", ".yml")):
        path = Path(wanted)
        data = load_yaml(path, PromptError).data
        if is_mapping(data) and "nodes" in data:
            wanted = load_graph(path)
        else:
            prompts_dir, wanted = path.parent, path.stem
    if isinstance(wanted, Graph):
        return GraphTarget(wanted, settings, given, message_as, checkpointer, fallback)
    prompt = load_prompt(str(wanted), prompts_dir=prompts_dir)
    resolve_provider([settings.choice, prompt.choice], f"prompt {prompt.name!r}")
    store = fallback if checkpointer is None else open_checkpointer(checkpointer)
    return PromptTarget(prompt, settings, given, _input_of(prompt, given, message_as), store, prompts_dir)


def _input_of(prompt: Prompt, given: Mapping[str, Any], message_as: str | None) -> str:
    wanted = [name for _, _, text in prompt.file.texts() for name in needed(text) if name not in given]
    if message_as is not None:
        wanted = [message_as, *(name for name in wanted if name != message_as)]
    named = [name for name in INPUTS if name in wanted]
    found = message_as or (named[0] if named else wanted[0] if len(wanted) == 1 else None)
    if found is None:
        what = f"needs {', '.join(wanted)}" if wanted else "needs no variable"
        raise ConfigError(
            f"prompt {prompt.name!r} {what}: say which one a user's message becomes (message_as=, --input), and give "
            "the others (variables=, --var)"
        )
    return found


def without_folders(message: str, *paths: Path) -> str:
    """Return a message with the names of these files only: where they are is no matter of a client's."""
    for path in sorted(paths, key=lambda path: -len(str(path))):
        message = message.replace(str(path), path.name)
    return message


@dataclass(frozen=True, slots=True)
class PromptTarget:
    """A prompt as a conversation: the turns before stand between its system text and the new message."""

    prompt: Prompt
    settings: ModelOverrides
    given: Mapping[str, Any]
    input: str
    store: Checkpointer
    prompts_dir: str | Path | None

    @property
    def about(self) -> About:
        """Say what is served."""
        what = self.prompt.file.description or ""
        return About(name=self.prompt.name, kind="prompt", description=what, input=self.input, begins=False)

    async def refuse(self, key: str, ask: Ask) -> str | None:
        """Return what the request lacks: a message, or a variable of the prompt."""
        if ask.resume is not None:
            return "a prompt asks no questions; send a message"
        if not ask.prompt:
            return "there is nothing to stream: give ?prompt=, or POST start first"
        try:
            self.prompt.render(self._variables(ask), {})
        except PromptError as error:
            return without_folders(str(error), self.prompt.source.path)
        return None

    def _variables(self, ask: Ask) -> dict[str, Any]:
        return {**self.given, **ask.variables, self.input: ask.prompt}

    async def open(self, key: str, ask: Ask) -> Source:
        """Return the answer's stream."""
        history: list[Message] = []
        for turn in (await self._load(key))[1]:
            history += [Message("user", turn["user"]), Message("assistant", turn["assistant"])]
        return stream_prompt(
            self.prompt.name,
            self._variables(ask),
            provider=self.settings.provider,
            model=self.settings.model,
            temperature=self.settings.temperature,
            transport=self.settings.transport,
            prompts_dir=self.prompts_dir,
            history=history,
        )

    async def ended(self, key: str, ask: Ask, answer: Completion | None) -> None:
        """Add the turn, if there was an answer."""
        said = answer.text or answer.refusal if answer is not None else ""
        if said:
            version, turns = await self._load(key)
            await self.store.save(key, {"turns": [*turns, {"user": ask.prompt, "assistant": said}]}, version)

    async def state(self, key: str) -> SessionState | None:
        """Return the conversation's turns."""
        version, turns = await self._load(key)
        return SessionState(session_id="", status="idle", turns=[Turn(**one) for one in turns]) if version else None

    async def forget(self, key: str) -> None:
        """Drop the turns, where nothing but memory keeps them."""
        if isinstance(self.store, MemoryCheckpointer):
            await self.store.delete(key)

    async def _load(self, key: str) -> tuple[int, list[dict[str, str]]]:
        saved = await self.store.load(key)
        return (0, []) if saved is None else (saved.version, list(saved.data["turns"]))


@dataclass(frozen=True, slots=True)
class GraphTarget:
    """A graph: a message becomes a value of its state, an interrupt a question."""

    graph: Graph
    settings: ModelOverrides
    given: Mapping[str, Any]
    message_as: str | None
    checkpointer: Checkpointer | Mapping[str, Any] | None
    fallback: Checkpointer
    """What keeps threads where neither the service nor the graph says what does."""

    @property
    def input(self) -> str | None:
        """The key of the state that a message becomes: one that is declared, not given, and best that no node sets."""
        declared = [name for name in self.graph.file.state if name not in self.given]
        set_by_nodes = {key for name, node in self.graph.nodes.items() for key in node.writes(name)}
        free = [name for name in declared if name not in set_by_nodes]
        named = [name for names in (free, declared) for name in INPUTS if name in names]
        return self.message_as or (named[0] if named else free[0] if len(free) == 1 else None)

    @property
    def about(self) -> About:
        """Say what is served."""
        asks_first = not any(self.graph.nodes[name].type != "interrupt" for name in self._first())
        begins = self.input is None or asks_first
        what = self.graph.file.description or ""
        return About(name=self.graph.name, kind="graph", description=what, input=self.input, begins=begins)

    def _first(self) -> list[str]:
        return [name for edge in self.graph.edges["START"] for name in edge.targets() if name in self.graph.nodes]

    async def refuse(self, key: str, ask: Ask) -> str | None:
        """Return why the graph cannot take the message, or which variables a run would lack."""
        if ask.prompt and self.input is None:
            return f"graph {self.graph.name!r} takes no message; serve it with --input KEY, or give variables"
        if ask.resume is not None or not self._missing(Thread(self.graph), ask):
            return None
        thread = await Thread.open(self.graph, self._config(key))  # its saved state may have what is missing
        missing = [] if thread.asked is not None else self._missing(thread, ask)
        return without_folders("\n".join(missing), *paths_of(self.graph)) or None

    def _missing(self, thread: Thread, ask: Ask) -> list[str]:
        thread.state.update(self._state(ask))
        return [str(error) for error in missing_variables(self.graph, thread.view(), thread.next or None)]

    def _state(self, ask: Ask) -> dict[str, Any]:
        state = {**self.given, **ask.variables}
        if ask.prompt and self.input is not None:
            state[self.input] = ask.prompt
        return state

    async def open(self, key: str, ask: Ask) -> Source:
        """Return the run's events."""
        return stream_graph_with_tokens(self.graph, self._state(ask), replace(self._config(key), resume=ask.resume))

    async def ended(self, key: str, ask: Ask, answer: Completion | None) -> None:
        """Do nothing: the thread has been saved after each node."""

    async def state(self, key: str) -> SessionState | None:
        """Return the thread as it was last saved."""
        thread = await Thread.open(self.graph, self._config(key))
        if not thread.version:
            return None
        asked = Question(**thread.asked) if thread.asked else None
        status: Literal["waiting", "idle"] = "waiting" if asked else "idle"
        return SessionState(session_id="", status=status, question=asked, state=thread.state)

    async def forget(self, key: str) -> None:
        """Drop the thread, where nothing but memory keeps it."""
        if isinstance(self.fallback, MemoryCheckpointer):
            await self.fallback.delete(f"{self.graph.name}/{key}")

    def _config(self, key: str) -> Config:
        own = self.graph.file.checkpointer
        kept = self.checkpointer is not None or (own is not None and own.get("type") != "memory")
        store = self.checkpointer if kept else self.fallback
        return Config(
            thread_id=key,
            checkpointer=store,
            provider=self.settings.provider,
            model=self.settings.model,
            temperature=self.settings.temperature,
            transport=self.settings.transport,
        )
