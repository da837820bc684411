"""Load what is served: a prompt, whose turns are saved here, or a graph, which saves its own threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from streamcore.checkpoints import Checkpointer, MemoryCheckpointer, open_checkpointer
from streamcore.completion import Completion
from streamcore.errors import ConfigError, PromptError
from streamcore.execute import stream_agent, stream_prompt
from streamcore.files.yaml_file import is_mapping, load_yaml
from streamcore.graph.config import Config
from streamcore.graph.limits import AnswerTokens, Budget, RunLimits
from streamcore.graph.load import Graph, load_graph
from streamcore.graph.stream import stream_graph_with_tokens
from streamcore.graph.thread import Thread, open_store
from streamcore.graph.variables import missing_variables, paths_of
from streamcore.net.transports import chosen_transport
from streamcore.net.well_formed import well_formed_json
from streamcore.prompts.message_variable import INPUTS, message_variable
from streamcore.prompts.prompt_file import Prompt, load_prompt
from streamcore.provider import AnyProvider, ModelChoice, Provider, get_provider, resolve_provider
from streamcore.request import Message
from streamcore.web.approvals import Waiting, text_of
from streamcore.web.files import UserFile
from streamcore.web.graph_counts import CountedEvents, GraphCounts
from streamcore.web.history import HistoryLimit, SavedTurn, saved_turn, user_message, with_files
from streamcore.web.input_check import refuse_variables
from streamcore.web.models import About, Question, SessionState, Turn
from streamcore.web.spending import run_cost

SERVED_LIMITS = RunLimits(
    max_items=100, max_model_calls=100, max_nodes=1000, max_tokens=1_000_000, max_state_bytes=16 * 2**20
)
"""What one run of a graph or prompt that is served may cost by default."""


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


def load_target(
    target: str | Path | Graph,
    overrides: ModelOverrides,
    *,
    given: Mapping[str, Any],
    message_as: str | None,
    client_variables: Collection[str] = (),
    prompts_dir: str | Path | None,
    checkpointer: Checkpointer | Mapping[str, Any] | None,
    fallback: Checkpointer,
    history: HistoryLimit | None = None,
    limits: RunLimits = SERVED_LIMITS,
) -> ServedTarget:
    """Return the target for a graph, the path of a graph's or prompt's file, or a prompt's name.

    Raises:
        ConfigError: there is no such target, or it is not valid.
    """
    overrides.check()
    fixed = [name for name in client_variables if name in given or name.startswith("_")]
    if fixed:
        raise ConfigError(
            f"clients may not set {', '.join(map(repr, fixed))}: remove it from client_variables= (--client-variable), "
            "or from variables= (--var); names that begin with _ are reserved"
        )
    if not isinstance(target, Graph) and str(target).endswith((".yaml", ".yml")):
        path = Path(target)
        data = load_yaml(path, PromptError).data
        if is_mapping(data) and "nodes" in data:
            target = load_graph(path)
        else:
            prompts_dir, target = path.parent, path.stem
    if isinstance(target, Graph):
        undeclared = [name for name in client_variables if name not in target.file.state]
        if undeclared:
            raise ConfigError(
                f"graph {target.name!r} declares no {', '.join(map(repr, undeclared))}: add it to `state` in "
                f"{target.path}, or remove it from client_variables= (--client-variable)"
            )
        return GraphTarget(
            target, overrides, given, message_as, checkpointer, fallback, frozenset(client_variables), limits
        )
    prompt = load_prompt(str(target), prompts_dir=prompts_dir)
    resolve_provider([overrides.choice, prompt.choice], f"prompt {prompt.name!r}")
    store = fallback if checkpointer is None else open_checkpointer(checkpointer)
    variable = message_variable(prompt, given, message_as, client_variables)
    limit = history or HistoryLimit()
    return PromptTarget(
        prompt, overrides, given, variable, store, prompts_dir, frozenset(client_variables), limit, limits
    )


def without_folders(message: str, *paths: Path) -> str:
    """Return a message with the names of these files only, since clients must not learn where they are."""
    for path in sorted(paths, key=lambda path: -len(str(path))):
        message = message.replace(str(path), path.name)
    return message


@dataclass(frozen=True, slots=True)
class PromptTarget:
    """A prompt as a conversation: earlier turns are sent between its system text and the new message."""

    prompt: Prompt
    overrides: ModelOverrides
    given: Mapping[str, Any]
    input: str
    store: Checkpointer
    prompts_dir: str | Path | None
    client_variables: Collection[str]
    history: HistoryLimit
    limits: RunLimits

    @property
    def path(self) -> Path:
        """The prompt's file."""
        return self.prompt.source.path

    @property
    def about(self) -> About:
        """What is served."""
        what = self.prompt.file.description or ""
        suggestions = self.prompt.file.suggestions
        return About(
            name=self.prompt.name,
            kind="prompt",
            description=what,
            input=self.input,
            begins=False,
            forks=True,
            suggestions=suggestions,
        )

    async def refuse(self, key: str, run_request: RunRequest) -> str | None:
        """Return what the request lacks: a message, or a variable of the prompt."""
        if run_request.resume is not None:
            waiting = (await self._load(key)).waiting
            return (
                "no call waits for approval; send a message." if waiting is None else waiting.refuse(run_request.resume)
            )
        if not run_request.prompt and not run_request.files:
            return "there is no message; give ?prompt=, or send one with POST /start."
        why = refuse_variables(run_request.variables, self.client_variables)
        if why is None and self.history.full == "refuse":
            why = self.history.refuse((await self._load(key)).turns)
        if why is not None:
            return why
        try:
            self.prompt.render(self._variables(run_request), {})
        except PromptError as error:
            return without_folders(str(error), self.prompt.source.path)
        return None

    def _variables(self, run_request: RunRequest) -> dict[str, Any]:
        return {**run_request.variables, **self.given, self.input: run_request.prompt or ""}

    async def open(self, key: str, run_request: RunRequest) -> AnswerSource:
        """Return the answer's stream."""
        saved = await self._load(key)
        resumed = saved.waiting if run_request.resume is not None else None
        choice = self._choice(run_request.model if resumed is None else resumed.model)
        options: dict[str, Any] = {
            "provider": choice.provider,
            "model": choice.model,
            "temperature": self.overrides.temperature,
            "transport": self.overrides.transport,
            "prompts_dir": self.prompts_dir,
            "max_cost": run_cost(self.limits),
        }
        if resumed is not None:
            decided = replace(resumed, decided=True).to_data()
            await self.store.save(key, {"turns": saved.turns, "waiting": decided}, saved.version)
            asked = RunRequest(resumed.user, resumed.variables)
            return stream_agent(
                self.prompt.name,
                self._variables(asked),
                messages=resumed.messages,
                resume=run_request.resume,
                **options,
            )
        history: list[Message] = []
        for turn in self.history.latest(saved.turns):
            history += [user_message(turn), Message("assistant", turn["assistant"])]
        if run_request.files:
            options["change"] = partial(with_files, files=run_request.files)
        return stream_prompt(self.prompt.name, self._variables(run_request), history=history, **options)

    def _choice(self, model: str) -> ModelChoice:
        """Return the provider and the model that the user has chosen, or else the operator's."""
        provider, slash, name = model.partition("/")
        return ModelChoice(provider, name) if slash else self.overrides.choice

    def provider_for(self, model: str) -> Provider:
        """Return the provider that answers; `model` is the user's choice.

        Raises:
            ConfigError: the provider cannot be used.
        """
        resolved = resolve_provider([self._choice(model), self.prompt.choice], f"prompt {self.prompt.name!r}")
        if not isinstance(resolved.provider, str | Mapping):
            return resolved.provider
        return get_provider(resolved.provider, model=resolved.model, transport=self.overrides.transport)

    async def files(self, key: str, run: str) -> list[UserFile]:
        """Return the files of the message that a run answered."""
        turns = [turn for turn in (await self._load(key)).turns if turn.get("run") == run]
        return [UserFile.from_data(one) for turn in turns for one in turn.get("files", ())]

    def tokens(self) -> AnswerTokens:
        """Return what counts the tokens of an answer's chunks."""
        return Budget(self.limits).answer(self.prompt.name, count_steps=True)

    async def ended(
        self, key: str, run_request: RunRequest, answer: Completion | None, messages: Sequence[Message]
    ) -> None:
        """Save the turn if there was an answer, or what it waits for if calls need approval."""
        saved = await self._load(key)
        before = saved.waiting if run_request.resume is not None else None
        user = before.user if before is not None else run_request.prompt or ""
        text = (before.text if before is not None else "") + ("" if answer is None else text_of(answer))
        files = before.files if before is not None else run_request.files
        turns, data = saved.turns, dict[str, Any]()
        if before is None and saved.waiting is not None and saved.waiting.text:  # nobody decided about its calls
            turns = [*turns, saved_turn(saved.waiting.user, saved.waiting.text, saved.waiting.files)]
        if answer is not None and answer.pending:
            variables = before.variables if before is not None else run_request.variables
            model = before.model if before is not None else run_request.model
            asked = [call.id or "" for call in answer.pending]
            data["waiting"] = Waiting(user, text, variables, messages, asked, files=files, model=model).to_data()
        elif text:
            turns = [*turns, saved_turn(user, text, files, run_request.run)]
        elif saved.waiting is None:
            return
        await self.store.save(key, {"turns": self.history.latest(turns), **data}, saved.version)

    async def state(self, key: str) -> SessionState | None:
        """Return the conversation's turns, and the calls that wait for approval."""
        saved = await self._load(key)
        if not saved.version:
            return None
        turns = [Turn.model_validate(one) for one in saved.turns]
        waiting = saved.open_question
        if waiting is None:
            return SessionState(session_id="", status="idle", turns=turns)
        return SessionState(session_id="", status="waiting", turns=turns, question=waiting.question())

    @property
    def kept_bytes(self) -> int:
        """The bytes of all turns, if only memory keeps them."""
        return self.store.size if isinstance(self.store, MemoryCheckpointer) else 0

    async def forget(self, key: str) -> None:
        """Delete the turns, if only memory keeps them."""
        if isinstance(self.store, MemoryCheckpointer):
            await self.store.delete(key)

    async def delete(self, key: str) -> None:
        """Delete the turns."""
        await self.store.delete(key)

    async def fork(self, key: str, new: str, runs: Collection[str]) -> None:
        """Begin a conversation with some turns of another."""
        turns = [turn for turn in (await self._load(key)).turns if turn.get("run") in runs]
        if turns:
            await self.store.save(new, {"turns": turns}, 0)

    @property
    def conversations(self) -> Checkpointer:
        """The store of the turns."""
        return self.store

    async def _load(self, key: str) -> _Saved:
        saved = await self.store.load(key)
        if saved is None:
            return _Saved(0, [], None)
        waiting = saved.data.get("waiting")
        return _Saved(saved.version, list(saved.data["turns"]), None if waiting is None else Waiting.from_data(waiting))


class _Saved(NamedTuple):
    """What is saved of a prompt's conversation."""

    version: int
    turns: list[SavedTurn]
    waiting: Waiting | None

    @property
    def open_question(self) -> Waiting | None:
        """What waits for decisions."""
        return None if self.waiting is None or self.waiting.decided else self.waiting


@dataclass(frozen=True, slots=True)
class GraphTarget:
    """A graph: a message becomes a value of its state, an interrupt a question."""

    graph: Graph
    overrides: ModelOverrides
    given: Mapping[str, Any]
    message_as: str | None
    checkpointer: Checkpointer | Mapping[str, Any] | None
    fallback: Checkpointer
    """The store of threads if neither the service nor the graph names one."""
    client_variables: Collection[str]
    limits: RunLimits

    @property
    def path(self) -> Path:
        """The graph's file."""
        return self.graph.path

    @property
    def input(self) -> str | None:
        """The key of the state that a message becomes: declared, without a given value, preferably set by no node."""
        declared = [name for name in self.graph.file.state if name not in self.given]
        set_by_nodes = {key for name, node in self.graph.nodes.items() for key in node.writes(name)}
        free = [name for name in declared if name not in set_by_nodes]
        named = [name for names in (free, declared) for name in INPUTS if name in names]
        return self.message_as or (named[0] if named else free[0] if len(free) == 1 else None)

    @property
    def about(self) -> About:
        """What is served."""
        asks_first = all(self.graph.nodes[name].type == "interrupt" for name in self._first())
        begins = self.input is None or asks_first
        what = self.graph.file.description or ""
        suggestions = self.graph.file.suggestions
        return About(
            name=self.graph.name,
            kind="graph",
            description=what,
            input=self.input,
            begins=begins,
            suggestions=suggestions,
        )

    def _first(self) -> list[str]:
        return [name for edge in self.graph.edges["START"] for name in edge.targets() if name in self.graph.nodes]

    async def refuse(self, key: str, run_request: RunRequest) -> str | None:
        """Return why the graph cannot take the message, or which variables a run would lack."""
        if run_request.files or run_request.model:
            return f"graph {self.graph.name!r} takes no files, and its models cannot be chosen."
        if run_request.prompt and self.input is None:
            return f"graph {self.graph.name!r} takes no message; send variables, or serve it with --input KEY."
        why = refuse_variables(run_request.variables, self.client_variables)
        if why is not None:
            return why
        if run_request.resume is not None or not self._missing(Thread(self.graph), run_request):
            return None
        thread = await Thread.open(self.graph, self.config(key))  # its saved state may have what is missing
        missing = [] if thread.asked is not None else self._missing(thread, run_request)
        return without_folders("\n".join(missing), *paths_of(self.graph)) or None

    def _missing(self, thread: Thread, run_request: RunRequest) -> list[str]:
        thread.state.update(self.initial_state(run_request))
        return [str(error) for error in missing_variables(self.graph, thread.view(), thread.next or None)]

    def initial_state(self, run_request: RunRequest) -> dict[str, Any]:
        """Return the state that a run starts with."""
        state = {**run_request.variables, **self.given}
        if run_request.prompt and self.input is not None:
            state[self.input] = run_request.prompt
        return state

    async def open(self, key: str, run_request: RunRequest) -> AnswerSource:
        """Return the run's events."""
        state, config = self.initial_state(run_request), replace(self.config(key), resume=run_request.resume)
        if not run_request.counted:
            return stream_graph_with_tokens(self.graph, state, config)
        counts = GraphCounts()
        return CountedEvents(stream_graph_with_tokens(self.graph, state, replace(config, observer=counts)), counts)

    def tokens(self) -> None:
        """Return None: the run's budget counts the tokens of its nodes."""

    async def ended(
        self, key: str, run_request: RunRequest, answer: Completion | None, messages: Sequence[Message]
    ) -> None:
        """Do nothing: the thread was saved after each node."""

    async def state(self, key: str) -> SessionState | None:
        """Return the thread as it was last saved."""
        thread = await Thread.open(self.graph, self.config(key))
        if not thread.version:
            return None
        question = thread.question()
        asked = Question(**well_formed_json(question)) if question is not None else None
        status: Literal["waiting", "idle"] = "waiting" if asked else "idle"
        return SessionState(session_id="", status=status, question=asked, state=well_formed_json(thread.state))

    async def waiting_calls(self, key: str) -> Sequence[str]:
        """Return the ids of the calls of an agent that wait for approval in a thread."""
        return (await Thread.open(self.graph, self.config(key))).waiting_calls

    @property
    def kept_bytes(self) -> int:
        """The bytes of all threads, if only memory keeps them."""
        return self.fallback.size if isinstance(self.fallback, MemoryCheckpointer) else 0

    async def forget(self, key: str) -> None:
        """Delete the thread, if only memory keeps it."""
        if isinstance(self.fallback, MemoryCheckpointer):
            await self.fallback.delete(f"{self.graph.name}/{key}")

    async def delete(self, key: str) -> None:
        """Delete the thread."""
        thread = await Thread.open(self.graph, self.config(key))
        await self.conversations.delete(thread.key)

    async def fork(self, key: str, new: str, runs: Collection[str]) -> None:
        """Do nothing: of a graph's thread only the latest state is kept, so the new conversation begins anew."""

    async def files(self, key: str, run: str) -> Sequence[UserFile]:
        """Return nothing: a graph takes no files."""
        return ()

    @property
    def conversations(self) -> Checkpointer:
        """The store of the threads."""
        given = self.config("").checkpointer
        return open_store(self.graph.file.checkpointer if given is None else given)

    def config(self, key: str) -> Config:
        """Return the settings of a run in a conversation."""
        own = self.graph.file.checkpointer
        kept = self.checkpointer is not None or (own is not None and own.get("type") != "memory")
        store = self.checkpointer if kept else self.fallback
        return Config(
            thread_id=key,
            checkpointer=store,
            provider=self.overrides.provider,
            model=self.overrides.model,
            temperature=self.overrides.temperature,
            transport=self.overrides.transport,
            limits=replace(self.limits, max_cost=run_cost(self.limits)),
        )
