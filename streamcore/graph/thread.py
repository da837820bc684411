"""Define `Thread`, the saved state of a conversation: values, next nodes, pending question, text of interrupted nodes.

It is saved as JSON:

    {"format": 1, "state": {...}, "next": ["node"], "asked": {"node", "message", "resume_key"} | null,
     "counts": {"node": 1}, "cut": {"node": "text"}, "agents": {"node": {...}}, "children": {"node": {...}}}

`next` is empty and `asked` is null when the graph has reached its end. `cut` has the text of interrupted nodes, and
`agents` the conversations of agent nodes.
`children` has the threads of graphs inside nodes that have not ended, without `format`, with `written`, the keys that
their nodes have set, and with `begun`, since a graph may reach its end before its node is saved. A question of such a
graph has `at`, the path of the node that asks. A question of an agent has `calls`, the ids of the calls that wait.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Self

import anyio
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from streamcore.checkpoints import Checkpointer, open_checkpointer
from streamcore.concurrency.resources import CLOSE_SECONDS
from streamcore.errors import ConfigError, NodeError, StreamcoreError
from streamcore.files.yaml_file import is_mapping
from streamcore.graph.config import Config
from streamcore.graph.limits import MAX_STATE_BYTES
from streamcore.graph.load import Graph
from streamcore.storage.sizes import data_size

log = logging.getLogger("streamcore")

FORMAT = 1
_SAVED = ("state", "next", "asked", "counts", "cut", "agents")


@dataclass(slots=True)
class Thread:
    """Keep the state of one conversation with a graph; without a thread_id, of one run, which is not saved."""

    graph: Graph
    thread_id: str | None = None
    store: Checkpointer | None = None
    key: str = ""
    """The thread's name in the store: the graph's name or path, and the thread_id."""
    version: int = 0
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    next: list[str] = field(default_factory=list[str])
    asked: dict[str, Any] | None = None
    counts: dict[str, int] = field(default_factory=dict[str, int])
    cut: dict[str, str] = field(default_factory=dict[str, str])
    children: dict[str, Thread | dict[str, Any]] = field(default_factory=lambda: dict[str, "Thread | dict[str, Any]"]())
    """The threads of graphs inside this one, by node; a mapping is one that was saved and has not been continued."""
    written: dict[str, None] = field(default_factory=dict[str, None])
    """The keys that nodes have set, in order."""
    agents: dict[str, dict[str, Any]] = field(default_factory=lambda: dict[str, dict[str, Any]]())
    """The conversations of agents, by node; see `agent_node.py`."""
    parent: Thread | None = field(default=None, repr=False)
    """The thread with which this one is saved."""
    saving: anyio.Lock = field(default_factory=anyio.Lock, repr=False, compare=False)
    begun: bool = False
    """True from the start of a graph inside a node to the end of the node."""
    max_bytes: int | None = MAX_STATE_BYTES
    """The limit of the state; None: no limit."""
    sizes: dict[str, int] = field(default_factory=dict[str, int], repr=False, compare=False)
    """The bytes of each key of the state, once they were measured."""
    ended: bool = False
    """True if the end of the graph has been saved."""

    @classmethod
    async def open(cls, graph: Graph, config: Config) -> Self:
        """Return the thread that a config names, as it was saved last.

        Raises:
            ConfigError: the checkpointer cannot be opened, or the saved thread does not fit the graph.
        """
        max_bytes = MAX_STATE_BYTES if config.limits is None else config.limits.max_state_bytes
        if config.thread_id is None:
            return cls(graph, max_bytes=max_bytes)
        own = graph.file.checkpointer
        given = config.checkpointer if config.checkpointer is not None else own
        # In one process, graphs of the same name differ by path. A database may be shared by several
        # checkouts, so there the path does not count.
        owner = str(graph.path.resolve()) if _in_process(given) else graph.name
        try:
            store = open_store(given)
        except ConfigError as error:
            if given is not own:
                raise
            raise ConfigError(f"{graph.path}:{graph.source.line(('checkpointer',))}: {error}") from error
        thread = cls(graph, config.thread_id, store, f"{owner}/{config.thread_id}", max_bytes=max_bytes)
        saved = await store.load(thread.key)
        if saved is not None:
            thread._take(saved.version, saved.data)
        return thread

    def _take(self, version: int, data: Mapping[str, Any]) -> None:
        if data.get("format") != FORMAT:
            raise ConfigError(
                f"thread {self.key!r} was saved in format {data.get('format')!r}, and this version reads only format "
                f"{FORMAT}; use another thread_id"
            )
        self.version = version
        self._restore(data)

    def _restore(self, data: Mapping[str, Any]) -> None:
        self.state = dict(data["state"])
        self.next = list(data["next"])
        self.asked = data["asked"]
        self.counts = dict(data["counts"])
        self.cut = dict(data["cut"])
        self.agents = dict(data.get("agents", {}))
        self.children = dict(data.get("children", {}))
        self.written = dict.fromkeys(data.get("written", ()))
        self.begun = data.get("begun", False)
        for name in [*self.next, *([self.asked["node"]] if self.asked else [])]:
            if name not in self.graph.nodes:
                raise ConfigError(
                    f"thread {self.key!r} stopped at the node {name!r}, which {self.graph.path} no longer has; "
                    "restore the node's name, or use another thread_id"
                )

    def child(self, name: str, graph: Graph) -> Thread:
        """Return the thread of a graph that runs as a node of this one, as it was left; it is saved with this one.

        Raises:
            ConfigError: the saved thread does not fit the graph.
        """
        found = self.children.get(name)
        if isinstance(found, Thread):
            return found
        thread_id = None if self.thread_id is None else f"{self.thread_id}:{name}"
        child = Thread(graph, thread_id, key=f"{self.key}:{name}", parent=self, max_bytes=self.max_bytes)
        if found is not None:
            child._restore(found)
        self.children[name] = child
        return child

    def forget_child(self, name: str) -> None:
        """Remove the thread of a graph whose node has ended.

        What stays are the conversations of its agents, and its state if its file names a checkpointer.
        """
        child = self.children.pop(name, None)
        if not isinstance(child, Thread) or child.next:
            return
        keeps_state = child.graph.file.checkpointer is not None
        if keeps_state or child._has_conversations():
            child.begun = False
            child.cut = {}
            if not keeps_state:
                child.state, child.sizes, child.written = {}, {}, {}
            self.children[name] = child

    def _has_conversations(self) -> bool:
        children = (child for child in self.children.values() if isinstance(child, Thread))
        return bool(self.agents) or any(child._has_conversations() for child in children)

    def data(self) -> dict[str, Any]:
        """Return what is saved."""
        found: dict[str, Any] = {name: getattr(self, name) for name in _SAVED}
        if self.children:
            # They run on while this thread is being saved.
            found["children"] = {
                name: child._data_of_child() if isinstance(child, Thread) else child
                for name, child in self.children.items()
            }
        return found

    def _data_of_child(self) -> dict[str, Any]:
        return {**deepcopy(self.data()), "written": [*self.written], "begun": self.begun}

    def public_state(self) -> dict[str, Any]:
        """Return the state for callers, with the counts of the nodes in loops."""
        loops = {
            name: count
            for name, count in self.counts.items()
            if name not in self.graph.nodes  # of a graph inside this one
            or name in self.graph.reach[name]
            or name in self.graph.file.loop_limits
        }
        return {**self.state, **({"_loop_counts": loops} if loops else {})}

    def view(self) -> dict[str, Any]:
        """Return the state as nodes and expressions see it, with declared keys, loop counts and interrupted texts."""
        counts = {**dict.fromkeys(self.graph.nodes, 0), **self.counts}
        cut = {"_partial": dict(self.cut)} if self.cut else {}
        return {**dict.fromkeys(self.graph.file.state), **self.state, "_loop_counts": counts, **cut}

    def question(self) -> dict[str, Any] | None:
        """Return `node`, `message` and `resume_key` of the question that waits for an answer, None if none does."""
        if self.asked is None:
            return None
        return {
            "node": self.asked.get("at", self.asked["node"]),
            "message": self.asked["message"],
            "resume_key": self.asked["resume_key"],
        }

    @property
    def waiting_calls(self) -> Sequence[str]:
        """The ids of the calls of an agent that the question asks about; empty for any other question."""
        found: Sequence[str] = () if self.asked is None else self.asked.get("calls", ())
        return found

    def begin(self, values: Mapping[str, Any]) -> None:
        """Update the state with a caller's values.

        Raises:
            ConfigError: the state would be larger than it may be.
        """
        why = self._too_large(values)
        if why is not None:
            raise ConfigError(f"the state of graph {self.graph.name!r} is too large with the caller's values: {why}")
        self.state.update(values)

    def _too_large(self, values: Mapping[str, Any]) -> str | None:
        """Return why the state cannot have these values, None if it can."""
        if self.max_bytes is None:
            return None
        if not self.sizes:
            self.sizes = {key: data_size(value) for key, value in self.state.items()}
        self.sizes |= {key: data_size(value) for key, value in values.items()}
        total = sum(self.sizes.values())
        if total <= self.max_bytes:
            return None
        key = max(self.sizes, key=self.sizes.__getitem__)
        return (
            f"it would have {total:,} bytes and may have {self.max_bytes:,}; its largest key is {key!r} with "
            f"{self.sizes[key]:,}. Keep less in it, or set a higher RunLimits.max_state_bytes"
        )

    def take(self, name: str, output: Mapping[str, Any]) -> None:
        """Update the state with a copy of a node's output: the reader of the event may change the original.

        Raises:
            NodeError: the state would be larger than it may be.
        """
        why = self._too_large(output)
        if why is not None:
            message = f"the state of graph {self.graph.name!r} is too large with the output of node {name!r}: {why}"
            raise NodeError(message, graph=self.graph.name, node=name)
        self.state.update(deepcopy(dict(output)))
        self.written.update(dict.fromkeys(output))
        self.cut.pop(name, None)

    async def keep(self, cut: Mapping[str, str]) -> None:
        """Save the text of interrupted nodes by name, to be reported when the thread continues."""
        self.cut.update(cut)
        if self.store is None or not (cut or self._has_cut_children()):
            return
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            try:
                await self.save()
            except StreamcoreError as error:  # the error that interrupted the run is raised instead
                log.warning("the text of %s was not saved: %s", ", ".join(map(repr, cut)), error)

    def _has_cut_children(self) -> bool:
        children = [child for child in self.children.values() if isinstance(child, Thread)]
        return any(child.cut or child._has_cut_children() for child in children)

    async def save(self) -> None:
        """Save the thread.

        Raises:
            ThreadConflict: another run has saved the thread in the meantime.
        """
        if self.store is not None:
            async with self.saving:  # several nodes of a step may save at the same time
                self.version = await self.store.save(self.key, {"format": FORMAT, **self.data()}, self.version)
        self.ended = not self.next and self.asked is None

    async def save_all(self) -> None:
        """Save the thread, or the one with which it is saved; see `save`."""
        thread = self
        while thread.parent is not None:
            thread = thread.parent
        await thread.save()

    @property
    def durable(self) -> bool:
        """True if the thread is saved somewhere."""
        return self.parent.durable if self.parent is not None else self.store is not None

    def __str__(self) -> str:
        return f"thread {self.thread_id!r}" if self.thread_id is not None else "this run, which has no thread_id"


def open_store(given: Checkpointer | Mapping[str, Any] | None) -> Checkpointer:
    """Return the checkpointer of a mapping or object; SQLite in memory is the memory of the process."""
    return open_checkpointer(None if given == {"type": "sqlite", "path": ":memory:"} else given)


def _in_process(given: Checkpointer | Mapping[str, Any] | None) -> bool:
    return given is None or given in ({"type": "memory"}, {"type": "sqlite", "path": ":memory:"})


def as_json_data(values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return values as JSON data: pydantic models become mappings, dates become text.

    Raises:
        ConfigError: a value has no form in JSON, or a key is not text.
    """
    if not is_mapping(values):
        raise ConfigError(f"{what} must be a mapping, not a {type(values).__name__}")
    try:
        key = next(_keys_that_change(values, ""), None)
        if key is not None:
            raise ConfigError(f"{what} must be JSON data, whose keys are text: {key}; convert the key with str()")
        found: dict[str, Any] = to_jsonable_python(dict(values), fallback=_left_out)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise ConfigError(f"{what} must be JSON data: {error}") from error
    return found


def _keys_that_change(value: object, path: str) -> Iterator[str]:
    """Yield a description of every key that is not text: JSON has none, so it would change, or replace another key."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {name: getattr(value, name, None) for name in value.__dataclass_fields__}
    elif isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, Mapping):
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            if type(key) is not str:  # pyright: ignore[reportUnknownArgumentType]
                yield f"{path or 'the mapping'} has the key {key!r}"
            yield from _keys_that_change(item, f"{path}.{key}" if path else str(key))  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield from _keys_that_change(item, f"{path}[{number}]")  # pyright: ignore[reportUnknownArgumentType]


def _left_out(value: object) -> str:
    """Convert `...` to text: examples in documents use it for data that they leave out."""
    if value is ...:
        return "..."
    raise ValueError(f"a {type(value).__name__} has no form in JSON")
