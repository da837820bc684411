"""Check AG-UI events as its own libraries do: the models of ag-ui-protocol, and the rules of ag-ui-validate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ag_ui.core import Event, RunAgentInput
from ag_ui_validate.engine import create_validator
from pydantic import TypeAdapter

MODELS: TypeAdapter[Any] = TypeAdapter(Event)
INFORMATION = frozenset({"AGUI208", "AGUI301", "AGUI304", "AGUI902"})
"""Rules that only inform: a parent message without a text, a snapshot after deltas, no timestamps."""


def events_of(body: bytes) -> list[dict[str, Any]]:
    """Return the events of a body, after its form was checked: `data:` only, one line, a blank line."""
    found: list[dict[str, Any]] = []
    for block in body.decode().split("\n\n")[:-1]:
        if not block.startswith(":"):
            assert block.startswith("data: "), block
            assert "\n" not in block, block
            found.append(json.loads(block.removeprefix("data: ")))
    assert not body or body.endswith(b"\n\n")
    return found


def checked(body: bytes, *, allowed: Sequence[str] = (), ends: bool = True) -> list[dict[str, Any]]:
    """Return the events of a body that the models and the rules accept.

    Args:
        body: the body of the response.
        allowed: rules that the events may break.
        ends: False for a body whose run has not ended.
    """
    found = events_of(body)
    validator = create_validator()
    for event in found:
        assert "null" not in [json.dumps(value) for key, value in event.items() if key not in ("value", "snapshot")]
        MODELS.validate_python(event)
        validator.feed(event)
    if ends:
        validator.finalize()
    report = validator.report()
    assert not report.internal_errors
    broken = [one for one in report.diagnostics if one.rule not in INFORMATION | set(allowed)]
    assert not broken, broken
    return found


def run_input(text: str = "Hello", **more: Any) -> dict[str, Any]:
    """Return the JSON of a request, after the model has accepted it."""
    body: dict[str, Any] = {"threadId": "t1", "runId": "r1", "messages": [user(text)], **more}
    RunAgentInput.model_validate(body)
    return body


def user(text: str, identity: str = "u1") -> dict[str, Any]:
    """Return a message of the user."""
    return {"id": identity, "role": "user", "content": text}


def texts(events: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the texts of the messages by their ids."""
    found: dict[str, str] = {}
    for event in events:
        if event["type"] == "TEXT_MESSAGE_CONTENT":
            found[event["messageId"]] = found.get(event["messageId"], "") + event["delta"]
    return found


def text_of(events: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of all messages."""
    return "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")


def kinds(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the types of the events."""
    return [event["type"] for event in events]
