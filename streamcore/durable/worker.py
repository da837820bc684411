"""Execute the jobs of durable runs: produce their segments, and continue those of workers that were lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
from anyio.abc import TaskGroup

from streamcore.durable.continuation import Segment, events
from streamcore.durable.engine import Engine
from streamcore.durable.graphs import Graphs
from streamcore.durable.outage import Outage
from streamcore.durable.outcome import outcome
from streamcore.durable.status import GIVEN_UP
from streamcore.durable.worker_lease import WorkerLease
from streamcore.errors import DurableError, RelayError, RunExists
from streamcore.relay import Relay
from streamcore.relay.entries import encode_end
from streamcore.relay.producer import Producer
from streamcore.sse import Item
from streamcore.sse.public import interrupted

log = logging.getLogger("streamcore")


class Worker:
    """The part of durable runs that works.

    Args:
        name: the worker's name.
        engine: has the jobs.
        relay: has the events.
        graphs: what it can run.
        lease: shows other workers that this one is alive.
        sweep_seconds: seconds between two searches for lost workers.
        hold: for how many seconds readers wait for a worker.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        relay: Relay,
        graphs: Graphs,
        lease: WorkerLease,
        *,
        sweep_seconds: float,
        hold: float,
    ) -> None:
        self._name = name
        self._engine = engine
        self._relay = relay
        self._graphs = graphs
        self._lease = lease
        self._sweep_seconds = sweep_seconds
        self._hold = hold
        self._producers: set[Producer] = set()
        self._closing = False
        self._lost: set[str] = set()  # workers that were reported
        self._given_up: set[str] = set()  # jobs whose runs were ended
        self._search = Outage(f"the search of worker {name!r} for lost workers")
        self._relaying = Outage(f"the relay of worker {name!r}, for which its runs wait,")

    async def execute(self, name: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Execute a job: produce its segment until it has ended, here or on another worker."""
        segment = Segment(**data)

        def source(before: list[Item]) -> Any:
            return events(self._graphs.find(segment.graph), self._graphs.config(segment), segment, before)

        while not self._closing:
            try:
                producer = await self._relay.adopt(name, source, max_seconds=segment.max_seconds)
                self._relaying.worked()
                if producer is not None:
                    self._producers.add(producer)
                    await producer.over.wait()
                    self._producers.discard(producer)
                    continue
                status = await self._relay.log.status(name)
                if status is None:  # its log was lost, as with a process whose memory it was
                    await self._relay.reserve(name, owner=segment.owner, thread=segment.key, hold=self._hold)
                elif status.state == "ended":
                    return await outcome(self._relay.log, self._graphs, name, status.seq, segment)
            except RunExists:  # another worker has just reserved it
                log.debug("run %r is reserved by another worker", name)
            except RelayError as error:
                self._relaying.failed(error)
            await anyio.sleep(0.05)
        await anyio.sleep_forever()  # the engine gives the job to another worker
        raise AssertionError  # not reached

    async def sweep(self) -> None:
        """Keep this worker's lease, take the jobs of lost workers, and end the runs of jobs that were given up."""
        while True:
            try:
                await self._lease.renew()
                await self._recover()
                await self._end_given_up()
                self._search.worked()
            except (RelayError, DurableError) as error:
                self._search.failed(error)
            await anyio.sleep(self._sweep_seconds)

    async def _recover(self) -> None:
        running = await self._engine.find(states=["running"], limit=10_000)
        for worker in {job.worker for job in running} - {self._name}:
            if worker is not None and await self._lease.is_lost(worker):
                if worker not in self._lost:
                    names = [job.name for job in running if job.worker == worker]
                    log.warning("worker %r is lost; its runs go on elsewhere: %s", worker, _shown(names))
                self._lost.add(worker)
                await self._engine.recover(worker)

    async def _end_given_up(self) -> None:
        """End the runs of jobs that the engine no longer executes, since their readers would wait for a worker."""
        for job in await self._engine.find(states=["given up"], limit=1000):
            if job.name in self._given_up:
                continue
            adopted = await self._relay.log.adopt(job.name, lease=5.0)
            if adopted is not None:
                log.error("run %r was given up, since its workers were lost too often", job.name)
                end = encode_end(interrupted(GIVEN_UP), None)
                await self._relay.log.append(job.name, adopted.epoch, adopted.seq, [], end, lease=5.0)
            status = await self._relay.log.status(job.name)
            if status is None or status.state == "ended":
                self._given_up.add(job.name)

    async def hand_over(self, group: TaskGroup) -> None:
        """Stop producing, so that other workers can go on; `group` has the task that sweeps."""
        self._closing = True
        group.cancel_scope.cancel()
        for producer in [*self._producers]:
            producer.hand_over()
        with anyio.CancelScope(shield=True):
            for producer in [*self._producers]:
                await producer.over.wait()


def _shown(names: Sequence[str], most: int = 20) -> str:
    """Return the names of runs for the log."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
