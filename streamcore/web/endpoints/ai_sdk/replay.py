"""Write the parts of a message as the stream that made them, for a client that reads the message from its beginning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streamcore.wire.lenient import is_array, is_object, mapping

_COPIED = ("dynamic", "providerExecuted", "title", "toolMetadata")


def replayed(message: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the parts of the protocol that make the message; nothing without one."""
    parts = mapping(message).get("parts")
    found: list[dict[str, Any]] = []
    for number, part in enumerate(parts if is_array(parts) else ()):
        if is_object(part) and isinstance(part.get("type"), str):
            found += _part(part, f"earlier-{number}")
    return found


def _part(part: Mapping[str, Any], identity: str) -> Iterator[dict[str, Any]]:
    kind: str = part["type"]
    if kind == "step-start":
        yield {"type": "start-step"}
    elif kind in ("text", "reasoning"):
        metadata = {"providerMetadata": part["providerMetadata"]} if is_object(part.get("providerMetadata")) else {}
        yield {"type": f"{kind}-start", "id": identity}
        yield {"type": f"{kind}-delta", "id": identity, "delta": str(part.get("text", ""))}
        yield {"type": f"{kind}-end", "id": identity, **metadata}
    elif kind == "dynamic-tool" or kind.startswith("tool-"):
        yield from _call(part, kind)
    elif kind.startswith("data-") or kind in ("source-url", "source-document", "file", "custom"):
        yield {key: value for key, value in part.items() if value is not None}


def _call(part: Mapping[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    call = {"toolCallId": part.get("toolCallId")}
    copied = {key: part[key] for key in _COPIED if part.get(key) is not None}
    named = {**call, "toolName": kind.removeprefix("tool-"), **copied}
    if kind == "dynamic-tool":
        named |= {"toolName": part.get("toolName"), "dynamic": True}
    if is_object(part.get("callProviderMetadata")):
        named["providerMetadata"] = part["callProviderMetadata"]
    yield {"type": "tool-input-available", **named, "input": part.get("input")}
    approval = mapping(part.get("approval"))
    if isinstance(approval.get("id"), str):
        yield {"type": "tool-approval-request", **call, "approvalId": approval["id"]}
        if isinstance(approval.get("approved"), bool):
            reason = {"reason": approval["reason"]} if isinstance(approval.get("reason"), str) else {}
            answer = {"approvalId": approval["id"], "approved": approval["approved"], **reason}
            yield {"type": "tool-approval-response", **answer}
    executed = {"providerExecuted": True} if part.get("providerExecuted") else {}
    match part.get("state"):
        case "output-available":
            yield {"type": "tool-output-available", **call, "output": part.get("output"), **executed}
        case "output-error":
            yield {"type": "tool-output-error", **call, "errorText": str(part.get("errorText", "")), **executed}
        case "output-denied":
            yield {"type": "tool-output-denied", **call}
        case _:
            pass
