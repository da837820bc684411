"""Answer the requests of AG-UI clients: find what is asked, run it in its thread, and send its events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import Request, Response

from streamcore.errors import RunExists, RunNotFound
from streamcore.relay import Relay
from streamcore.sse.agui.encoder import AguiEncoder, problem_body
from streamcore.web.durable import DurableGraphs
from streamcore.web.endpoints.agui.reading import AguiRequest, read_run_input
from streamcore.web.endpoints.agui.runs import Runs
from streamcore.web.endpoints.agui.sources import GraphEvents
from streamcore.web.endpoints.agui.threads import hashed, thread_key
from streamcore.web.endpoints.catalog import Catalog, GraphModel, Model
from streamcore.web.endpoints.events import retry_headers
from streamcore.web.endpoints.problems import log_failure, problem_of
from streamcore.web.endpoints.service import Limits, streamed
from streamcore.web.endpoints.slots import Slots
from streamcore.web.input_check import refuse_value
from streamcore.web.peers import Peers
from streamcore.web.spending import check_spending
from streamcore.web.users import owner
from streamcore.wire.encoding.reading import Fields
from streamcore.wire.encoding.wire import STATUSES, Problem, RequestRefused


class AguiEndpoint:
    """The runs of AG-UI clients."""

    def __init__(
        self,
        service: str,
        catalog: Catalog,
        slots: Slots,
        peers: Peers,
        limits: Limits,
        relay: Relay,
        durable: DurableGraphs | None = None,
    ) -> None:
        self._service = service
        self._catalog = catalog
        self._slots = slots
        self._peers = peers
        self._limits = limits
        self._relay = relay
        self._durable = durable
        self._runs = Runs(service, limits.max_input)

    async def run(self, request: Request) -> Response:
        """Run a prompt, a graph, an agent or a model for an AG-UI client."""
        asked: AguiRequest | None = None
        model: Model | None = None
        try:
            asked = await self._read(request)
            model = self._find(asked)
            return await self._respond(request, asked, model)
        except Exception as error:  # noqa: BLE001  the outermost edge: logged, and sent to the client
            log_failure(error)
            return self._failed(error, self._problem(error, asked, model))

    async def stop(self, request: Request) -> Response:
        """End a run that was started with `forwardedProps.relay`, on any worker."""
        try:
            stopped = await self._stop(await _json(request), owner(request))
        except Exception as error:  # noqa: BLE001  the outermost edge: logged, and sent to the client
            log_failure(error)
            return self._failed(error, self._problem(error, None, None))
        return Response(json.dumps({"stopped": stopped}), 200, media_type="application/json")

    async def _stop(self, body: Mapping[str, Any], who: str) -> bool:
        fields = Fields(body)
        thread_id, run_id = fields.required("threadId"), fields.required("runId")
        fields.end()
        try:
            return await self._relay.stop(self._run_name(who, thread_id, run_id), who=who)
        except RunNotFound as error:
            raise RequestRefused(f"there is no run {run_id[:80]!r}", param="runId", kind="not_found") from error

    # -- the request -------------------------------------------------------------------------------------------------

    async def _read(self, request: Request) -> AguiRequest:
        """Return the request of a body.

        Raises:
            RequestRefused: it is not valid, or too large.
        """
        asked = read_run_input(await _json(request))
        most = self._limits.max_input
        longest = max((len(message.text) for message in asked.asked.request.messages), default=0)
        longest = max(longest, sum(len(what) + len(value) for what, value in asked.context))
        if longest > most:
            raise RequestRefused(
                f"messages: a message may have at most {most} characters; one has {longest}",
                param="messages",
                kind="too_large",
            )
        given: dict[str, Any] = {
            "messages": [message.text for message in asked.asked.request.messages],
            "context": [list(one) for one in asked.context],
            "state": asked.state,
        }
        for param, value in given.items():
            why = refuse_value(value)
            if why is not None:
                raise RequestRefused(f"{param}: {why}", param=param)
        return asked

    def _find(self, asked: AguiRequest) -> Model:
        name = asked.asked.model or self._catalog.default
        if not name:
            raise RequestRefused("forwardedProps.model is required: this service has no default", param="model")
        return self._catalog.find(name)

    def _run_name(self, who: str, thread_id: str, run_id: str) -> str:
        return f"agui_{hashed(self._service, who, thread_id, run_id)}"

    def _client(self, request: Request) -> str | None:
        """Return who the answer is counted for; None for nobody."""
        who = owner(request)
        if who:
            return f"user {who}"
        counted = self._limits.limit_local or not self._peers.is_local(request)
        return self._peers.address(request) if counted else None

    def _problem(self, error: Exception, asked: AguiRequest | None, model: Model | None) -> Problem:
        wire_request = None if asked is None else asked.asked
        return problem_of(error, wire_request, passes_on=model is not None and model.passes_on)

    def _failed(self, error: Exception, problem: Problem) -> Response:
        headers = retry_headers(error)
        if problem.kind == "rate_limit":
            headers = {"retry-after": "2"} | headers
        return Response(problem_body(problem), problem.status or STATUSES[problem.kind], headers, "application/json")

    # -- the response ------------------------------------------------------------------------------------------------

    async def _respond(self, request: Request, asked: AguiRequest, model: Model) -> Response:
        who, client = owner(request), self._client(request)
        name = self._run_name(who, asked.run.thread_id, asked.run.run_id)
        run = replace(asked.run, model=model.name, returned=_returned(asked, model))

        def problem(error: Exception) -> Problem:
            return self._problem(error, asked, model)

        if asked.relay and await self._is_known(name, who):
            return self._read_again(name, who, AguiEncoder(run, problem), asked, model)
        await check_spending()
        slot = None if asked.relay else self._slots.take(client)
        try:
            state, start = await self._runs.open(asked, model, who)
            source = await start()
            encoder = AguiEncoder(replace(run, state=state), problem, waits=not asked.relay)
            if slot is not None:
                slot.fill(source)
                return streamed(slot, encoder, {})
        except BaseException:
            if slot is not None:
                await slot.aclose()
            raise
        try:
            await self._start(name, source, who, client)
        except BaseException as error:
            await source.aclose()
            if not isinstance(error, RunExists):
                raise
            if not await self._is_known(name, who):  # then it is the thread that has a run
                raise RequestRefused(
                    "this thread has a run that has not ended; stop it first", param="threadId", kind="conflict"
                ) from error
        return self._read_again(name, who, encoder, asked, model)

    async def _start(self, name: str, source: Any, who: str, client: str | None) -> None:
        """Start a run that continues without its connection."""
        if self._durable is None or not isinstance(source, GraphEvents):
            most = None if client is None else self._limits.per_client
            await self._relay.start(name, source, owner=who, client=client, max_per_client=most)
            return
        thread = str(source.config.thread_id)
        await self._durable.begin(
            name,
            source.target,
            thread,
            source.values,
            source.config.resume,
            owner=who,
            conversation=thread,
            client=client,
            include_metadata=True,
        )

    async def _is_known(self, name: str, who: str) -> bool:
        try:
            await self._relay.status(name, who=who)
        except RunNotFound:
            return False
        return True

    def _read_again(self, name: str, who: str, encoder: AguiEncoder, asked: AguiRequest, model: Model) -> Response:
        reader = self._relay.read(name, who=who)
        if self._durable is None or not isinstance(model, GraphModel):
            return streamed(reader, encoder, {})
        key = thread_key(self._service, model.name, who, asked.run.thread_id)
        return streamed(GraphEvents(model.target, model.target.config(key), lambda: reader), encoder, {})


async def _json(request: Request) -> Mapping[str, Any]:
    try:
        body: Any = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise RequestRefused("the body is not valid JSON") from error
    if not isinstance(body, dict):
        raise RequestRefused("the body must be a JSON object")
    return body  # pyright: ignore[reportUnknownVariableType]


def _returned(asked: AguiRequest, model: Model) -> frozenset[str] | None:
    """Return the tools whose calls the client answers; None: all."""
    if model.returned is None:
        return frozenset() if isinstance(model, GraphModel) else None
    return model.returned | frozenset(tool.name for tool in asked.asked.request.tools)
