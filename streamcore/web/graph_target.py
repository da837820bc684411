"""Serve a graph, which saves its own threads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from streamcore.checkpoints import Checkpointer, MemoryCheckpointer
from streamcore.completion import Completion
from streamcore.graph.config import Config
from streamcore.graph.limits import RunLimits
from streamcore.graph.load import Graph
from streamcore.graph.stream import stream_graph_with_tokens
from streamcore.graph.thread import Thread, open_store
from streamcore.graph.variables import missing_variables, paths_of
from streamcore.net.well_formed import well_formed_json
from streamcore.prompts.message_variable import INPUTS
from streamcore.request import Message
from streamcore.web.files import UserFile
from streamcore.web.graph_counts import CountedEvents, GraphCounts
from streamcore.web.input_check import refuse_variables
from streamcore.web.models import About, Question, SessionState
from streamcore.web.spending import run_cost
from streamcore.web.target import AnswerSource, ModelOverrides, RunRequest, without_folders


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
