"""Test that half a surrogate pair at any place of a request is sent as U+FFFD by every provider."""

from __future__ import annotations

import json
import traceback
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from streamcore import (
    ConfigError,
    Image,
    Message,
    ProviderError,
    Request,
    Text,
    Tool,
    ToolCall,
    get_provider,
    stream_request,
)
from streamcore.files.yaml_file import is_list, is_mapping
from streamcore.net.well_formed import send_well_formed, well_formed_json
from streamcore.testing import Answer, ScriptedProvider
from tests.support import EVERY_RUN, RUNS, Vendor, body_of, wire_of

pytestmark = pytest.mark.anyio

HALF = "\ud83d"
WEATHER = Tool("weather", f"tool{HALF}", {"type": "object", "properties": {f"key{HALF}": {"enum": [f"enum{HALF}"]}}})
CALL = ToolCall(f"id{HALF}", f"weather{HALF}", json.dumps({"city": f"ascii{HALF}"}, ensure_ascii=False))
REQUEST = Request(
    [
        Message("system", f"system{HALF}"),
        Message("user", [Text(f"part{HALF}"), Image(url="https://example.com/a.png")]),
        Message("assistant", f"said{HALF}", tool_calls=(CALL,)),
        Message("tool", f"result{HALF}", tool_call_id=f"id{HALF}"),
        Message("user", f"asked{HALF} \ud83d\ude00 \N{GRINNING FACE}"),
    ],
    tools=[WEATHER],
    tool_choice=f"weather{HALF}",
    extra={"metadata": {f"name{HALF}": [f"extra{HALF}"]}},
)


def request_for(name: str) -> Request:
    """Return the request, for Bedrock without the image's URL, which it cannot be sent."""
    if name != "bedrock":
        return REQUEST
    messages = [*REQUEST.messages]
    messages[1] = Message("user", f"part{HALF}")
    return replace(REQUEST, messages=messages)


@pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)
async def test_every_text_of_a_request_is_well_formed(name: str) -> None:
    vendor = Vendor(body_of(wire_of(name), Answer.of("ok")))
    answer = await stream_request(request_for(name), provider=vendor.provider(name), max_retries=0).collect()
    assert answer.text == "ok"
    (asked,) = vendor.requests
    body = asked.content.decode()
    for text in ("system", "part", "said", "result", "asked", "tool", "key", "enum", "weather", "ascii", "name"):
        assert f"{text}\ufffd" in body, text
    assert "asked\ufffd \N{GRINNING FACE} \N{GRINNING FACE}" in body
    assert "extra\ufffd" in body
    ids = Counter(_ids(json.loads(body)))
    assert set(ids.values()) == (set() if name == "google" else {2})  # of the call and of its result; Google needs none


def _ids(value: Any) -> list[str]:
    names = ("call_id", "tool_call_id", "tool_use_id", "toolUseId")
    if is_mapping(value):
        own: list[str] = [value[name] for name in names if name in value]
        own += [value["id"]] if value.get("type") in ("function", "tool_use") and "id" in value else []
        return own + [found for item in value.values() for found in _ids(item)]
    return [found for item in value for found in _ids(item)] if is_list(value) else []


HALF_A_KEY = "PLANTED-key-0123456789"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("transport", ["httpx2", "aiohttp"])
@pytest.mark.parametrize("name", sorted({name for _, name in RUNS}))
@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": HALF_A_KEY + HALF},
        {"headers": {"x-any": HALF_A_KEY + HALF}},
        {"headers": {f"x-{HALF_A_KEY}{HALF}": "any"}},
        {"base_url": f"http://127.0.0.1:1/{HALF_A_KEY}{HALF}"},
    ],
    ids=["key", "header", "name", "url"],
)
async def test_a_head_that_cannot_be_encoded_is_an_error_of_ours(
    settings: dict[str, Any], name: str, transport: str
) -> None:
    settings = {"api_key": "k", "base_url": "http://127.0.0.1:1", "model": "m", **settings}
    provider = get_provider(name, transport=transport, **settings)
    with pytest.raises(ConfigError, match=r"cannot be sent over HTTP|is not valid") as caught:
        await stream_request(request_for(name), provider=provider, max_retries=0).collect()
    assert HALF_A_KEY not in "".join(traceback.format_exception(caught.value))


async def test_an_error_can_be_printed_whatever_it_quotes() -> None:
    provider = ScriptedProvider(ProviderError(f"bad model{HALF}", model=f"m{HALF}"))
    with pytest.raises(ProviderError, match="model\ufffd") as caught:
        await stream_request(REQUEST, provider=provider, max_retries=0).collect()
    "".join(traceback.format_exception(caught.value)).encode()


async def test_a_well_formed_request_is_sent_unchanged_and_once() -> None:
    sent: list[dict[str, Any]] = []

    async def send(body: dict[str, Any]) -> None:
        sent.append(body)

    body = {"text": "\N{GRINNING FACE}"}
    await send_well_formed(send, body)
    assert len(sent) == 1
    assert sent[0] is body


async def test_another_text_that_cannot_be_encoded_raises() -> None:
    calls = 0

    async def send(_body: dict[str, Any]) -> None:
        nonlocal calls
        calls += 1
        "é".encode("ascii")

    with pytest.raises(UnicodeEncodeError):
        await send_well_formed(send, {"text": "x"})
    assert calls == 1


def test_every_part_of_json_data_becomes_well_formed() -> None:
    given = {f"a{HALF}": (HALF, 1, None, [True, {"b": "\ude00\ud83d\ude00"}])}
    assert well_formed_json(given) == {"a\ufffd": ["\ufffd", 1, None, [True, {"b": "\ufffd\N{GRINNING FACE}"}]]}
