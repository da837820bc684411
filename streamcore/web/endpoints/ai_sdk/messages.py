"""Read the messages of `useChat` as the conversation that a model gets.

Source: `ai` 7.0, `src/ui/ui-messages.ts` and `src/ui/convert-to-model-messages.ts`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamcore.chunk import Opaque, ToolCall
from streamcore.parts import Document, Image, Part, Text
from streamcore.request import Message
from streamcore.sse.ai_sdk.encoder import METADATA, RESULT_OF
from streamcore.sse.ai_sdk.values import output_text
from streamcore.sse.returned_opaque import returned_opaque
from streamcore.tools.decisions import DENIED
from streamcore.wire.encoding.documents import document_at
from streamcore.wire.encoding.reading import Fields, image_of
from streamcore.wire.encoding.wire import RequestRefused
from streamcore.wire.lenient import is_array, is_object, mapping, text

IGNORED = frozenset({"source-url", "source-document", "custom", "reasoning-file", "reasoning", "file"})
"""The parts of the assistant's messages that are no message for the model: it made them itself, or they are part of the
result of a call."""


@dataclass(slots=True)
class ChatMessages:
    """The messages of a chat, and what the user has decided about calls of the last one."""

    messages: list[Message] = field(default_factory=list[Message])
    decisions: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])


@dataclass(slots=True)
class _Step:
    """The parts of one answer of the model, in a message of the assistant."""

    files: Mapping[str, Sequence[Part]]
    """The files in the results of calls, by the calls' ids: of the whole message, since a result may come later."""
    texts: list[str] = field(default_factory=list[str])
    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    results: list[Message] = field(default_factory=list[Message])
    decisions: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    opaque: Opaque | None = None
    incomplete: bool = False

    def messages(self) -> Iterator[Message]:
        """Yield the answer and the results of its calls; an answer without content is left out."""
        opaque = None if self.incomplete else self.opaque  # which has the calls that are left out
        content = "".join(self.texts)
        if content or self.calls or opaque is not None:
            yield Message("assistant", content, tool_calls=tuple(self.calls), opaque=opaque)
        yield from self.results


def read_messages(fields: Fields) -> ChatMessages:
    """Return the conversation in `messages` of a body.

    Calls without a result are left out: those that a stop has cut, and those that nobody has decided about. So are
    calls that the user has approved; they run as the service has kept them, and not as the client sends them.

    Raises:
        RequestRefused: a message is not valid, or has something that no model gets.
    """
    found = ChatMessages()
    for message in fields.objects("messages"):
        role = message.one_of("role", ("system", "user", "assistant"))
        if role is None:
            raise message.refuse("role", "is required")
        parts = message.array("parts")
        if parts is None:
            raise message.refuse("parts", "is required")
        found.decisions = {}
        where = message.name("parts")
        if role == "assistant":
            _read_answer(found, parts, where)
        elif role == "system":
            found.messages.append(Message("system", "".join(_text(part) for part in parts)))
        else:
            found.messages.append(Message("user", _user_parts(parts, where)))
    if not found.messages:
        raise fields.refuse("messages", "must have at least one message")
    return found


def _text(part: object) -> str:
    return (text(mapping(part).get("text")) or "") if mapping(part).get("type") == "text" else ""


def _user_parts(parts: Sequence[object], where: str) -> list[Part]:
    """Return the content of a user's message.

    Raises:
        RequestRefused: a part is of another type than text and files, or a file is not valid.
    """
    found: list[Part] = []
    for number, given in enumerate(parts):
        part = Fields(given, f"{where}[{number}]")
        kind = part.required("type")
        if kind == "text":
            found.append(Text(part.required("text")))
        elif kind == "file":
            found.append(_file(part))
        elif not kind.startswith("data-"):
            raise part.refuse("type", "of a user's message must be text or file")
    return found


def _file(part: Fields) -> Image | Document:
    if part.any("providerReference") is not None:
        raise part.refuse("providerReference", "is not supported; send the file, or its URL")
    url, media_type, name = part.required("url"), part.required("mediaType"), part.text("filename")
    if not url.startswith(("data:", "https://", "http://")):
        raise part.refuse("url", "must be a data:, https: or http: URL")
    if media_type.split("/")[0] == "image":
        return image_of(url, part, "url")
    found = document_at(url, part, "url", name)
    return found if found.url is None else Document(url=url, media_type=media_type, name=name)


def _read_answer(found: ChatMessages, parts: Sequence[object], where: str) -> None:
    """Add the messages of an assistant's message, whose steps are separate answers."""
    files = _files_of_results(parts, where)
    step = _Step(files)
    for number, given in enumerate(parts):
        part = mapping(given)
        kind = part.get("type")
        at = f"{where}[{number}]"
        if kind == "step-start" or kind == "steering-message":
            found.messages += step.messages()
            step = _Step(files)
            if kind == "steering-message" and is_array(part.get("parts")):
                found.messages.append(Message("user", _user_parts(part["parts"], f"{at}.parts")))
        elif kind == "text":
            step.texts.append(_text(part))
            step.opaque = step.opaque or _opaque(part.get("providerMetadata"))
        elif kind == "dynamic-tool" or (isinstance(kind, str) and kind.startswith("tool-")):
            _read_call(step, part, at)
        elif isinstance(kind, str) and kind in IGNORED:
            step.opaque = step.opaque or _opaque(part.get("providerMetadata"))
        elif not (isinstance(kind, str) and kind.startswith("data-")):
            raise RequestRefused(f"{at}.type is not known", param=f"{at}.type")
    found.messages += step.messages()
    found.decisions = step.decisions


def _files_of_results(parts: Sequence[object], where: str) -> dict[str, list[Part]]:
    """Return the files that the encoder sent with the results of calls, by the calls' ids."""
    found: dict[str, list[Part]] = {}
    for number, given in enumerate(parts):
        part = mapping(given)
        call = mapping(mapping(part.get("providerMetadata")).get(METADATA)).get(RESULT_OF)
        if part.get("type") == "file" and isinstance(call, str):
            found.setdefault(call, []).append(_file(Fields(part, f"{where}[{number}]")))
    return found


def _read_call(step: _Step, part: Mapping[str, Any], at: str) -> None:
    """Add a call and its result to a step, or the decision about it; a call without a result is left out."""
    identity = part.get("toolCallId")
    name = part.get("toolName") if part["type"] == "dynamic-tool" else part["type"].removeprefix("tool-")
    if not (isinstance(identity, str) and identity and isinstance(name, str) and name):
        raise RequestRefused(f"{at} must have a toolCallId and the name of a tool", param=at)
    step.opaque = step.opaque or _opaque(part.get("callProviderMetadata"))
    state, approval = part.get("state"), mapping(part.get("approval"))
    failed = state in ("output-error", "output-denied")
    content: str | list[Part]
    if state == "output-available" and not part.get("preliminary"):
        content = _result(part.get("output"), step.files.get(identity, ()), f"{at}.output")
    elif state == "output-error":
        content = text(part.get("errorText")) or "the tool failed"
    elif state == "output-denied":
        reason = text(approval.get("reason"))
        content = f"{DENIED}: {reason}" if reason else DENIED
    else:
        step.incomplete = True
        if state == "approval-responded" and isinstance(approval.get("approved"), bool):
            step.decisions[identity] = _decision(approval)
        return
    step.calls.append(ToolCall(identity, name, _arguments(part.get("input")), len(step.calls)))
    step.results.append(Message("tool", content, tool_call_id=identity, is_error=failed))


def _result(output: object, files: Sequence[Part], at: str) -> str | list[Part]:
    """Return the content of a result: its text, or its parts if it has files.

    An output as `toModelOutput` of the AI SDK returns it, `{"type": "content", "value": [...]}`, is read as its parts.
    """
    given = mapping(output)
    if set(given) == {"type", "value"} and given["type"] == "content" and is_array(given["value"]):
        return [_output_part(Fields(one, f"{at}.value[{number}]")) for number, one in enumerate(given["value"])]
    return [Text(output_text(output)), *files] if files else output_text(output)


def _output_part(part: Fields) -> Part:
    kind = part.required("type")
    if kind == "text":
        return Text(part.required("text"))
    if kind != "file":
        raise part.refuse("type", "of a result's part must be text or file")
    media_type, name, data = part.required("mediaType"), part.text("filename"), part.object("data")
    form = None if data is None else data.required("type")
    if data is None or form not in ("data", "url"):
        raise part.refuse("data", 'must be {"type": "data", "data": BASE64} or {"type": "url", "url": URL}')
    url = data.required("url") if form == "url" else f"data:{media_type};base64,{data.required('data')}"
    return _file(Fields({"url": url, "mediaType": media_type, "filename": name}, part.name("data")))


def _decision(approval: Mapping[str, Any]) -> dict[str, Any]:
    if approval["approved"]:
        return {"approve": True}
    return {"approve": False, "reason": text(approval.get("reason")) or ""}


def _arguments(given: object) -> str:
    """Return the JSON of a call's arguments; a text that is not JSON is wrapped, since vendors take objects only."""
    if given is None:
        return "{}"
    if not isinstance(given, str):
        return json.dumps(given, ensure_ascii=False)
    try:
        parsed: object = json.loads(given)
    except (ValueError, RecursionError):
        parsed = None
    return given if is_object(parsed) else json.dumps({"INVALID_JSON": given}, ensure_ascii=False)


def _opaque(metadata: object) -> Opaque | None:
    """Return what the encoder kept with a part for the vendor; None if there is nothing, or it was changed."""
    return returned_opaque(mapping(mapping(mapping(metadata).get(METADATA)).get("opaque")))
