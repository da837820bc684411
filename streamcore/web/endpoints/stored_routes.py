"""Answer requests for stored answers: read one, follow its events, cancel it, delete it."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import Path, Query, Request, Response

from streamcore.errors import StreamcoreError
from streamcore.web.endpoints.events import WireEvents
from streamcore.web.endpoints.problems import log_failure, problem_of
from streamcore.web.endpoints.service import streamed
from streamcore.web.endpoints.stored import StoredAnswers
from streamcore.web.users import owner
from streamcore.wire.encoding.events import dumps
from streamcore.wire.encoding.wire import Problem, RequestRefused, Wire

InId = Annotated[str, Path(description="The id of the response.")]
AsStream = Annotated[bool, Query(description="Whether to stream the events, those to come included.")]
After = Annotated[int | None, Query(description="The sequence number of the last event that the client has.", ge=0)]


class StoredRoutes:
    """The routes to the stored answers of one wire."""

    def __init__(self, wire: Wire, stored: StoredAnswers) -> None:
        self._wire = wire
        self._stored = stored

    async def get(
        self, request: Request, response_id: InId, stream: AsStream = False, starting_after: After = None
    ) -> Response:
        """Return the response in its state, or stream its events."""
        headers = self._headers()
        if starting_after is not None and not stream:
            refused = RequestRefused("starting_after needs stream=true", param="starting_after")
            return self._failed(refused, headers)
        try:
            state = await self._stored.state(response_id, owner(request), _explain)
            if not stream:
                return self._stored.response(state, headers)
            skip = 0 if starting_after is None else starting_after + 1
            events = WireEvents(self._wire, state.asked.head, _explain, headers, waits=False, skip=skip)
            return streamed(self._stored.reader(response_id, owner(request)), events, headers)
        except StreamcoreError as error:
            return self._failed(error, headers)

    async def cancel(self, request: Request, response_id: InId) -> Response:
        """End a response that is generated in the background, and return it."""
        headers = self._headers()
        try:
            await self._stored.cancel(response_id, owner(request))
            return self._stored.response(await self._stored.state(response_id, owner(request), _explain), headers)
        except StreamcoreError as error:
            return self._failed(error, headers)

    async def delete(self, request: Request, response_id: InId) -> Response:
        """Delete a response; one that is generated is cancelled."""
        headers = self._headers()
        try:
            await self._stored.delete(response_id, owner(request))
        except StreamcoreError as error:
            return self._failed(error, headers)
        body = {"id": response_id, "object": "response", "deleted": True}
        return Response(dumps(body), 200, headers, "application/json")

    def _headers(self) -> dict[str, str]:
        return {self._wire.request_id_header: f"req_{secrets.token_hex(12)}"}

    def _failed(self, error: Exception, headers: dict[str, str]) -> Response:
        log_failure(error)
        problem = problem_of(error)
        body = self._wire.error_body(problem, headers[self._wire.request_id_header])
        return Response(dumps(body), self._wire.status(problem), headers, "application/json")


def _explain(error: Exception) -> Problem:
    return problem_of(error)
