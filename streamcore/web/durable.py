"""Submit the runs of served graphs to an engine, so that they go on when this process ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from streamcore.checkpoints import Checkpointer
from streamcore.errors import ConfigError
from streamcore.graph.config import Config
from streamcore.graph.thread import as_json_data
from streamcore.relay import Relay
from streamcore.web.graph_target import GraphTarget
from streamcore.web.target import ServedTarget

if TYPE_CHECKING:
    from streamcore.durable import DurableRuns, Queue


@dataclass(frozen=True, slots=True)
class Durable:
    """How a service executes the runs of its graphs durably; see `streamcore.durable.DurableRuns`.

    Attributes:
        database: `sqlite:///runs.db` or `postgresql://...`.
        work: False leaves the execution to workers (`streamcore worker`), which have the same graphs and stores.
        queues: limits by name.
        versions: what happens to runs that began with other graph or prompt files: `finish` or `refuse`.
        lease: seconds after which a worker that does not answer is lost.
        hold: for how many seconds readers wait for a worker if there is none.
    """

    database: str
    work: bool = True
    queues: Mapping[str, Queue] | None = None
    versions: Literal["finish", "refuse"] = "finish"
    lease: float = 10.0
    hold: float = 86_400.0

    @classmethod
    def of(cls, given: Durable | str | None) -> Durable | None:
        """Return what an argument means: a database is its default use."""
        return cls(given) if isinstance(given, str) else given

    def threads(self) -> Checkpointer:
        """Return the default store of conversations: the database of the runs, or a file beside it.

        Raises:
            ConfigError: a package is missing, or the URL is not valid.
        """
        from streamcore.durable.graphs import open_threads

        return open_threads(None, self.database)


class DurableGraphs:
    """The durable runs of a service's graphs.

    Args:
        given: the database, and how it is used.
        targets: what the service serves; of these, the graphs.
        relay: has the events; the service opens it.
        per_client: how many runs of a client workers may produce at once.
        max_seconds: seconds after which a run is ended as an error; None: no limit.

    Raises:
        ConfigError: there is no graph, a package is missing, or a setting is not valid.
    """

    def __init__(
        self,
        given: Durable,
        targets: Sequence[ServedTarget],
        relay: Relay,
        per_client: int,
        max_seconds: float | None,
    ) -> None:
        from streamcore.durable import DurableRuns

        graphs = [target for target in targets if isinstance(target, GraphTarget)]
        if not graphs:
            raise ConfigError(
                "durable= (--durable) needs a graph among the targets; the runs of prompts and models are not durable"
            )
        config = graphs[0].config("")
        self._runs = DurableRuns(
            database=given.database,
            graphs=[target.graph for target in graphs],
            relay=relay,
            config=Config(
                provider=config.provider,
                model=config.model,
                temperature=config.temperature,
                transport=config.transport,
                checkpointer=config.checkpointer,
            ),
            queues=given.queues,
            versions=given.versions,
            work=given.work,
            hold=given.hold,
            lease=given.lease,
        )
        self._per_client = per_client
        self._max_seconds = max_seconds

    def open(self) -> AbstractAsyncContextManager[DurableRuns]:
        """Return the runs as a context manager for the lifetime of the service."""
        return self._runs

    async def begin(
        self,
        name: str,
        target: GraphTarget,
        key: str,
        state: Mapping[str, Any],
        resume: Any,
        *,
        owner: str,
        conversation: str,
        client: str | None,
        first: Sequence[Mapping[str, Any]] = (),
        include_metadata: bool = False,
    ) -> None:
        """Submit a run; any worker executes it.

        Args:
            name: the run's name.
            target: the graph.
            key: the thread's name.
            state: values that override those of the thread.
            resume: the answer to the thread's question, None if there was none.
            owner: the user who owns the run.
            conversation: the name of the conversation in the relay.
            client: who the run is counted for if it has no owner; None: nobody.
            first: items that come before the events.
            include_metadata: whether events have `metadata`.

        Raises:
            RunExists: the conversation has a run that has not ended.
            TooManyRuns: the client has too many runs.
            RelayError, CheckpointError, DurableError: a store cannot be reached.
        """
        from streamcore.durable.continuation import Segment

        limits = asdict(target.limits)
        if limits["max_cost"] is not None:
            limits["max_cost"] = float(limits["max_cost"])
        segment = Segment(
            target.graph.name,
            key,
            as_json_data(state, "state"),
            resume,
            owner=owner,
            key=conversation,
            first=first,
            include_metadata=include_metadata,
            limits=limits,
            max_seconds=self._max_seconds,
        )
        limit = self._per_client if owner or client is not None else None
        await self._runs.submit(name, segment, limit=limit, client=None if owner else client)


def refuse_cost_limit(durable: Durable | None, max_cost: object) -> None:
    """Refuse a limit of cost, since the worker that executes a run does not know its user's sum.

    Raises:
        ConfigError: there are both.
    """
    if durable is not None and max_cost is not None:
        raise ConfigError(
            "max_cost= (--max-cost) cannot be used with durable= (--durable), since any worker may execute a run; "
            "limit runs with limits=RunLimits(max_cost=...) instead"
        )
