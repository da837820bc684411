"""Validate the events and objects of `/v1/responses` with the types of the Open Responses specification."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import EnumType
from typing import Any

import httpx2
import openresponses_types as types
import pytest
from pydantic import BaseModel

from streamcore.testing import Answer, FaultServer, PlannedCall, Simulator
from tests.serving import messages_in
from tests.support import DEADLINE, first_short, wait_until
from tests.web.endpoints.conftest import Serve
from tests.web.endpoints.endings import ENDINGS
from tests.web.endpoints.seen import requested

EVENTS: dict[str, type[BaseModel]] = {
    str(next(iter(kinds))): found
    for name, found in vars(types).items()
    if name.endswith("StreamingEvent") and isinstance(kinds := found.model_fields["type"].annotation, EnumType)
}
"""The type of each event, by its name: the only value of its field `type`."""
MODELS = ("openai/m", "openai-responses/m", "anthropic/m", "mistral/m")
FULL = Answer(
    ["Héllo", " 👋🏽", "\n\n", "data: x"],
    ["thin", "king"],
    [PlannedCall("clock", {"zone": "UTC"}, "call_1"), PlannedCall("clock", {"zone": "CET"}, "call_2")],
)


def checked(body: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream, each valid, numbered and named as its type."""
    found: list[dict[str, Any]] = []
    for one in messages_in(body):
        if one.data == "[DONE]":
            continue
        EVENTS[one.json["type"]].model_validate_json(one.data)
        assert one.name == one.json["type"]
        assert not one.id
        found.append(one.json)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def test_every_type_of_event_is_known() -> None:
    assert len(EVENTS) >= 20
    assert {"response.completed", "response.output_text.delta", "error"} <= EVENTS.keys()


@pytest.mark.parametrize("model", first_short(MODELS))
def test_a_full_answer(serve: Serve, model: str) -> None:
    with Simulator(FULL) as simulator, serve(simulator) as url:
        events = checked(requested(url, "responses", model, stream=True).body)
        whole = json.loads(requested(url, "responses", model, stream=False).body)
    types.ResponseResource.model_validate(whole)
    response = events[-1]["response"]
    assert [item["type"] for item in response["output"]] == ["reasoning", "message", "function_call", "function_call"]
    added: dict[str, Any] = {"id": None, "created_at": 0, "completed_at": 0, "output": []}
    assert {**response, **added} == {**whole, **added}
    for item in ("added", "done"):
        assert sum(event["type"] == f"response.output_item.{item}" for event in events) == 4


ENDS = [row for row in ENDINGS if not row.then and row.model != "slow"]


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.name, marks=() if row.name in ("length", "cut") else pytest.mark.long) for row in ENDS],
)
def test_every_ending(serve: Serve, row: Any) -> None:
    wire = "anthropic-messages" if row.model.startswith("anthropic") else "openai-chat"
    with FaultServer(row.play, wire=wire) as server, serve(server, **row.options) as url:
        raw = requested(url, "responses", row.model, stream=True)
        if raw.status == 200:
            assert checked(raw.body)
            raw = requested(url, "responses", row.model, stream=False)
    body = json.loads(raw.body)
    if raw.status == 200:
        types.ResponseResource.model_validate(body)
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}


def test_stored_responses(serve: Serve) -> None:
    with Simulator(Answer(["w "] * 3000), rate=50) as simulator, serve(simulator) as url:
        begun = httpx2.post(f"{url}/v1/responses", json={"model": "openai/m", "input": "Hi", "background": True})
        path = f"{url}/v1/responses/{begun.json()['id']}"
        types.ResponseResource.model_validate(begun.json())
        wait_until(lambda: httpx2.get(path).json()["output"], "the answer begins")
        types.ResponseResource.model_validate(httpx2.get(path).json())
        cancelled = httpx2.post(f"{path}/cancel", timeout=DEADLINE).json()
        types.ResponseResource.model_validate(cancelled)
        assert cancelled["status"] == "cancelled"


def failing(serve: Serve, play: Any, check: Callable[[str], None]) -> None:
    with FaultServer(play) as server, serve(server) as url:
        check(url)


def test_a_stored_response_that_failed(serve: Serve) -> None:
    def check(url: str) -> None:
        body = {"model": "openai/m", "input": "Hi", "background": True}
        path = f"{url}/v1/responses/{httpx2.post(f'{url}/v1/responses', json=body).json()['id']}"
        wait_until(lambda: httpx2.get(path).json()["status"] == "failed", "the answer failed")
        types.ResponseResource.model_validate(httpx2.get(path).json())

    failing(serve, "end-without-mark", check)
