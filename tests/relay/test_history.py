"""Serve runs that have ended so that browsers and proxies can keep them."""

from __future__ import annotations

import anyio
import httpx2
import pytest
from fastapi import FastAPI, Request, Response

from streamcore.errors import RunNotFound
from streamcore.relay import MemoryLog, Relay, history_response
from streamcore.relay.entries import encode_end
from tests.serving import messages_in

END = encode_end(None, None)

pytestmark = pytest.mark.anyio


def app_of(relay: Relay, max_age: float = 0.0) -> FastAPI:
    """Return a service whose users name themselves."""
    app = FastAPI()

    @app.get("/{run_id}")
    async def history(request: Request, run_id: str, who: str = "") -> Response:
        given = request.headers.get("if-none-match")
        more = {"X-More": "1"}
        try:
            return await history_response(
                relay, run_id, who=who, if_none_match=given, max_age=max_age, headers=more, heartbeat=0
            )
        except RunNotFound:
            return Response(status_code=404)

    return app


async def test_a_run_that_has_ended_is_sent_once() -> None:
    log = MemoryLog()
    async with Relay(log) as relay:
        transport = httpx2.ASGITransport(app_of(relay))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            epoch = await log.start("mine", "ada", lease=60)
            await log.append("mine", epoch, 0, ["a", "b"], END, lease=60)
            assert (await client.get("/mine")).status_code == 404
            first = await client.get("/mine?who=ada")
            assert first.headers["cache-control"] == "private, no-cache"
            assert [one.data for one in messages_in(first.content)][:2] == [
                '{"kind":"text","text":"a"}',
                '{"kind":"text","text":"b"}',
            ]
            tag = first.headers["etag"]
            for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
                again = await client.get("/mine?who=ada", headers={"If-None-Match": given})
                assert (again.status_code, again.content) == (304, b"")
                assert (again.headers["etag"], again.headers["x-more"]) == (tag, "1")
            assert (await client.get("/mine?who=eve", headers={"If-None-Match": tag})).status_code == 404
            other = await client.get("/mine?who=ada", headers={"If-None-Match": '"other"'})
            assert (other.status_code, other.content) == (200, first.content)


async def test_a_run_that_goes_on_is_not_kept() -> None:
    log = MemoryLog()
    async with Relay(log) as relay:
        transport = httpx2.ASGITransport(app_of(relay, max_age=30))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            epoch = await log.start("running", "", lease=60)
            await log.append("running", epoch, 0, ["a"], None, lease=60)
            got: list[httpx2.Response] = []

            async def read() -> None:
                got.append(await client.get("/running", headers={"If-None-Match": "*"}))

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                await log.append("running", epoch, 1, ["b"], END, lease=60)
            assert got[0].headers["cache-control"] == "no-store"
            assert "etag" not in got[0].headers
            after = await client.get("/running")
            assert after.headers["cache-control"] == "public, max-age=30"
            assert b'"b"' in after.content


async def test_another_run_of_the_same_name_has_another_tag() -> None:
    tags: list[str] = []
    for text in ("a", "b"):
        log = MemoryLog()
        async with Relay(log) as relay:
            epoch = await log.start("name", "", lease=60)
            end = encode_end(RuntimeError(text), None)
            await log.append("name", epoch, 0, [text], end, lease=60)
            tags.append((await history_response(relay, "name")).headers["etag"])
    assert tags[0] != tags[1]
