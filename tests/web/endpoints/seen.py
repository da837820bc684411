"""Request answers without an SDK, and describe what a client sees of their end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.serving import messages_in
from tests.web.endpoints.endings import PATHS

PATIENCE = 120.0


@dataclass(slots=True)
class Raw:
    """A response, as it was received."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    broken: bool = False
    """Whether the connection ended without the end of the body."""


def body_for(endpoint: str, model: str, *, stream: bool, text: str = "Hi", **more: Any) -> dict[str, Any]:
    """Return the smallest request of an endpoint."""
    if endpoint == "responses":
        return {"model": model, "stream": stream, "input": text, **more}
    limit = {"max_tokens": 900} if endpoint == "messages" else {}
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}], **limit, **more}


def requested(
    url: str, endpoint: str, model: str, *, stream: bool, first: Callable[[], None] = lambda: None, **more: Any
) -> Raw:
    """Return the response to a request; `first` is called when the first bytes of its body have come."""
    found = Raw()
    body = body_for(endpoint, model, stream=stream, **more)
    try:
        with httpx2.stream("POST", url + PATHS[endpoint], json=body, timeout=PATIENCE) as response:
            found.status, found.headers = response.status_code, dict(response.headers)
            for piece in response.iter_raw():
                if not found.body:
                    first()
                found.body += piece
    except httpx2.RemoteProtocolError:
        found.broken = True
    return found


def described(endpoint: str, raw: Raw) -> str:
    """Return what a client sees of the end of an answer, as the table of the endings has it."""
    if raw.status != 200:
        assert not raw.broken
        return f"{raw.status}, `{json.loads(raw.body)['error']['type']}`"
    if not raw.headers["content-type"].startswith("text/event-stream"):
        return _whole(endpoint, json.loads(raw.body))
    events: list[Any] = [None if one.data == "[DONE]" else one.json for one in messages_in(raw.body)]
    error = next((event["error"]["type"] for event in events if event and event.get("error")), None)
    assert raw.broken == (error is not None)  # an answer that has no end never ends properly
    ends = _ends(endpoint, events)
    if error is not None:
        assert not any("stop" in end or "DONE" in end or "completed" in end for end in ends), ends
        return ", ".join([f"error `{error}`", *ends, "then the connection breaks"])
    return ", ".join(ends)


def _ends(endpoint: str, events: list[Any]) -> list[str]:
    """Return what marks the end of a stream."""
    found: list[str] = []
    for event in events:
        if event is None:
            found += ["`[DONE]`"] if endpoint == "chat" else []
        elif endpoint == "chat":
            for choice in event.get("choices", ()):
                found += ["text in `refusal`"] if choice["delta"].get("refusal") else []
                found += [f"`{choice['finish_reason']}`"] if choice["finish_reason"] else []
        elif endpoint == "messages":
            reason = event.get("delta", {}).get("stop_reason")
            found += [f"`{reason}`"] if reason else []
            found += ["`message_stop`"] if event["type"] == "message_stop" else []
        else:
            found += ["text in `refusal`"] if event["type"] == "response.refusal.done" else []
            if event["type"] in ("response.completed", "response.incomplete", "response.failed"):
                found.append(f"`{event['type']}`{_why(event['response'])}")
    return found


def _why(response: Any) -> str:
    if response["error"]:
        return f" with `{response['error']['code']}`"
    return f": `{response['incomplete_details']['reason']}`" if response["incomplete_details"] else ""


def _whole(endpoint: str, body: Any) -> str:
    if endpoint == "chat":
        choice = body["choices"][0]
        before = "text in `refusal`, " if choice["message"].get("refusal") else ""
        return f"{before}`{choice['finish_reason']}`"
    if endpoint == "messages":
        return f"`{body['stop_reason']}`"
    parts = [part["type"] for item in body["output"] if item["type"] == "message" for part in item["content"]]
    return f"{'text in `refusal`, ' if 'refusal' in parts else ''}`{body['status']}`{_why(body)}"
