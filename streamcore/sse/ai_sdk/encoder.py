"""Encode a stream as the UI message stream of the AI SDK (`useChat`): a pure state machine, bytes out.

Source: `ai` 7.0, `src/ui-message-stream/ui-message-chunks.ts` and `src/ui/process-ui-message-stream.ts`.
"""

# How a stream becomes parts of a message
# =======================================
#
# Text and reasoning become parts that are open while they grow. Of chunks at most one part is open, since they come in
# order. Of a graph's events each node has its own, since nodes run at the same time.
#
# A restart becomes `reset-step`, with which the client removes all parts of the current step. So each answer of an
# agent is a step. Of a graph, whose nodes share one step, the parts of the other nodes are sent again.
#
# Only `end` writes `finish` and `[DONE]`. The client takes a body that ends properly for a complete answer, so the
# sender must break the connection after `error`.

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from streamcore.chunk import CONTENT_KINDS, Chunk, FinishReason, Opaque, ToolCall, ToolResult, Usage
from streamcore.completion import Completion, merged_usage
from streamcore.parts import Image, Part, Text
from streamcore.sse.ai_sdk.values import (
    FINISH_REASONS,
    added,
    input_of,
    output_of,
    plain_json,
    source_part,
    usage_json,
    usage_of,
)
from streamcore.sse.encoder import HEARTBEAT, Describe, Refusal, json_bytes, status_of
from streamcore.sse.public import interrupted, public_message
from streamcore.tool_call_fragments import call_id
from streamcore.wire.lenient import is_object

HEADERS: Mapping[str, str] = {"x-vercel-ai-ui-message-stream": "v1"}
"""The headers of a response with this stream, by which clients recognize it."""

DONE = b"data: [DONE]\n\n"
METADATA = "streamcore"
"""The key in `providerMetadata` under which data for the next request are kept."""
RESULT_OF = "toolCallId"
"""The key below it with the call whose result a file belongs to."""

_TEXT_KINDS: Mapping[str, str] = {"text": "text", "refusal": "text", "reasoning": "reasoning"}


@dataclass(slots=True)
class _Part:
    """A text or reasoning that is open, and what of it a restart of another node would have to send again."""

    kind: str
    id: str
    texts: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class _Call:
    """A tool call of the current answer."""

    call: ToolCall
    id: str
    unsent: str = ""
    begun: bool = False
    complete: bool = False


class UIMessageEncoder:
    """Encode one answer; an `EventEncoder`.

    Args:
        message_id: the id of the message; None leaves it to the client.
        model: the model's name in the message's metadata; None: that of the vendor.
        client_tools: the names of the tools that the client runs; None: those of a stream without steps. Calls of all
            others are dynamic, and marked as run by the server.
        replayed: parts that the message has already, for a client that gets it from its beginning.
        denied: the ids of calls that the user has denied.
        waits: nothing is encoded before the first content, so that an error before it can be a status.
        describe: returns the message that clients get for an error.
        status: returns the status of an error before the first event.
    """

    headers = HEADERS

    def __init__(
        self,
        *,
        message_id: str | None = None,
        model: str | None = None,
        client_tools: Collection[str] | None = None,
        replayed: Sequence[Mapping[str, Any]] = (),
        denied: Collection[str] = (),
        waits: bool = False,
        describe: Describe | None = None,
        status: Callable[[Exception], int] | None = None,
    ) -> None:
        self._message_id = message_id
        self._model = model
        self._client_tools = client_tools
        self._replayed = replayed
        self._denied = denied
        self.ended = False
        """Whether the end was encoded, or the error that is the end."""
        self._describe = describe or public_message
        self._status = status or status_of
        self._waiting: list[Any] | None = [] if waits else None
        self._started = self._in_step = self._agent = self._said = False
        self._number = self._items = 0
        self._open: dict[tuple[object, ...], _Part] = {}
        self._closed: list[tuple[str, bytes]] = []  # of a graph's step: the node of each event that is not text
        self._calls: dict[tuple[object, ...], _Call] = {}
        self._keep = False  # the answer has something that only its vendor can read, and must be sent back
        self._seen: set[str] = set()  # URLs
        self._nodes: dict[str, list[str]] = {}
        self._unanswered: dict[str, str] = {}  # the tools of a graph's calls without a result, by the calls' ids
        self._output: Mapping[str, Any] = {}
        self._usage: Usage | None = None
        self._step_usage: Usage | None = None
        self._reason: FinishReason | None = None
        self._response_id = ""

    # -- the events of a stream --------------------------------------------------------------------------------------

    def start(self) -> bytes:
        """Return the first event, which begins the message."""
        if self._started or self._waiting is not None:
            return b""
        self._started = True
        identity = {} if self._message_id is None else {"messageId": self._message_id}
        events = [event({"type": "start", **identity}), *map(event, self._replayed)]
        return b"".join(events)

    def feed(self, items: Sequence[Any]) -> bytes:
        """Return the events of some chunks, tokens or graph events.

        Raises:
            StreamInterrupted: a relay's `gap` that begins before what the client has.
        """
        if self._waiting is not None:
            self._waiting += items
            if not any(map(_is_content, items)):
                return b""
            items, self._waiting = self._waiting, None
        return self.start() + b"".join([self._item(item) for item in items])

    def heartbeat(self) -> bytes:
        """Return a comment, which keeps proxies from closing an idle connection."""
        return HEARTBEAT

    def end(self, completion: Completion | None = None) -> bytes:
        """Return the end of a stream that did not fail; of one that was stopped, `abort`."""
        self.ended = True
        before = self._all()
        if completion is not None and not completion.complete:
            return before + self._close_all() + event({"type": "abort", "reason": "stopped"}) + DONE
        before += self._whole_output() + self._end_answer(None)
        if completion is not None:
            before += b"".join([_approval(call.id) for call in completion.pending])
        if self._in_step:
            before += event({"type": "finish-step"})
        return before + self._finish() + DONE

    def error(self, error: Exception) -> bytes:
        """Return the end of a stream that failed: the error, and no `finish`; the text so far stays open."""
        self.ended = True
        return self._all() + event({"type": "error", "errorText": self._describe(error)})

    def refusal(self, error: Exception) -> Refusal:
        """Return the response for an error before the first event; the client shows the whole body as the error."""
        retry_after = getattr(error, "retry_after", None)
        headers = {"content-type": "text/plain; charset=utf-8"}
        if isinstance(retry_after, int | float):
            headers["retry-after"] = f"{retry_after:.0f}"
        return Refusal(self._status(error), self._describe(error).encode("utf-8", "replace"), headers)

    def _all(self) -> bytes:
        """Return what waits, and the beginning of the message if it has not begun."""
        waiting, self._waiting = self._waiting, None
        return self.start() + b"".join([self._item(item) for item in waiting or ()])

    def _finish(self) -> bytes:
        usage = added(self._usage, self._step_usage)
        reason = {} if self._reason is None else {"finishReason": FINISH_REASONS[self._reason]}
        metadata: dict[str, Any] = {} if usage is None else {"usage": usage_json(usage)}
        if self._model:
            metadata["model"] = self._model
        return event({"type": "finish", **reason, **({"messageMetadata": metadata} if metadata else {})})

    # -- items -------------------------------------------------------------------------------------------------------

    def _item(self, item: Any) -> bytes:
        self._items += 1
        if isinstance(item, Chunk):
            if item.path:
                return self._nested(item)
            return b"" if item.choice else self._chunk(item)
        if isinstance(item, str):
            return self._text((), "text", item)
        if item["type"] == "gap":
            return self._gap(item)
        return self._graph_event(item)

    def _chunk(self, chunk: Chunk) -> bytes:
        kind = chunk.kind
        if kind in _TEXT_KINDS:
            self._keep = self._keep or kind == "reasoning"
            return self._text((chunk.index,), _TEXT_KINDS[kind], chunk.text)
        match kind:
            case "tool_call" if chunk.tool_call is not None:
                self._keep = True
                return self._close_all() + self._call_piece((chunk.tool_call.position,), chunk.tool_call)
            case "tool_progress" if chunk.tool_call is not None:
                progress = chunk.text if chunk.data is None else chunk.data.get("progress")
                return self._progress(chunk.tool_call.id or "", progress)
            case "tool_result" if chunk.tool_result is not None:
                return self._result(chunk.tool_result)
            case "citation" if chunk.data is not None:
                return self._citation(chunk.data)
            case "start":
                self._response_id = chunk.id or self._response_id
                self._model = self._model or chunk.model
                self._step_usage = chunk.usage or self._step_usage
            case "usage" if chunk.usage is not None:
                self._step_usage = merged_usage(self._step_usage, chunk.usage)
            case "finish":
                self._reason = chunk.finish_reason or self._reason
                return self._end_answer(chunk.opaque)
            case "step":
                self._agent = True
                return self._new_step()
            case "restart":
                return self._reset()
            case _:
                pass
        return b""

    def _nested(self, chunk: Chunk) -> bytes:
        """Return the chunk of a nested run, which is not part of the message: for `onData` only."""
        if chunk.kind not in ("text", "reasoning", "refusal") or not chunk.text:
            return b""
        data = {"path": list(chunk.path), "kind": chunk.kind, "text": chunk.text}
        return event({"type": "data-nested", "data": data, "transient": True})

    def _gap(self, gap: Mapping[str, Any]) -> bytes:
        """Return the events of all items that a gap replaces.

        Raises:
            StreamInterrupted: the client has steps of them, which it cannot be told to remove.
        """
        before = b""
        if self._items > 1:
            if self._agent or self._closed:
                raise interrupted(
                    "the rest cannot be sent, since its beginning is no longer stored; read the answer again"
                )
            before = self._reset()
        return before + b"".join([self._item(item) for item in gap["items"]])

    # -- steps -------------------------------------------------------------------------------------------------------

    def _step(self) -> bytes:
        """Return the event that begins a step, unless one has begun."""
        if self._in_step:
            return b""
        self._in_step = True
        return event({"type": "start-step"})

    def _new_step(self) -> bytes:
        before = self._end_answer(None)
        self._calls.clear()
        self._usage, self._step_usage = added(self._usage, self._step_usage), None
        if self._in_step:
            before += event({"type": "finish-step"})
        self._in_step = True
        return before + event({"type": "start-step"})

    def _reset(self) -> bytes:
        """Return the event that removes the parts of the current answer."""
        self._open.clear()
        self._calls.clear()
        self._seen.clear()
        self._keep = False
        self._reason = self._step_usage = None
        return event({"type": "reset-step"}) if self._in_step else b""

    def _reset_node(self, node: str) -> bytes:
        """Return the events that remove what a node has sent, and send again what the others have."""
        if not self._in_step:
            return b""
        self._closed = [(owner, data) for owner, data in self._closed if owner != node]
        self._open.pop((node,), None)
        events = [event({"type": "reset-step"}), *(data for _, data in self._closed)]
        for part in self._open.values():
            events.append(event({"type": f"{part.kind}-start", "id": part.id}))
            events.append(event({"type": f"{part.kind}-delta", "id": part.id, "delta": "".join(part.texts)}))
        return b"".join(events)

    def _kept(self, node: str, data: bytes) -> bytes:
        """Note an event of a node, and return it."""
        self._closed.append((node, data))
        return data

    # -- text --------------------------------------------------------------------------------------------------------

    def _text(self, key: tuple[object, ...], kind: str, text: str) -> bytes:
        """Return the events of a piece of text or reasoning."""
        if not text:
            return b""
        self._said = True
        part = self._open.get(key)
        if part is None or part.kind != kind:
            before = self._step()
            before += self._close_all() if key == () or not isinstance(key[0], str) else self._close(key)
            self._number += 1
            part = self._open[key] = _Part(kind, f"{kind[0]}{self._number}")
            before += event({"type": f"{kind}-start", "id": part.id})
        else:
            before = b""
        if key and isinstance(key[0], str):
            part.texts.append(text)
        return b'%bdata: {"type":"%b-delta","id":"%b","delta":%b}\n\n' % (
            before, kind.encode(), part.id.encode(), json_bytes(text),
        )  # fmt: skip

    def _close(self, key: tuple[object, ...], metadata: Mapping[str, Any] | None = None) -> bytes:
        part = self._open.pop(key, None)
        if part is None:
            return b""
        end = event({"type": f"{part.kind}-end", "id": part.id, **(metadata or {})})
        if part.texts:
            begin = event({"type": f"{part.kind}-start", "id": part.id})
            delta = event({"type": f"{part.kind}-delta", "id": part.id, "delta": "".join(part.texts)})
            self._closed.append((str(key[0]), begin + delta + end))
        return end

    def _close_all(self, metadata: Mapping[str, Any] | None = None) -> bytes:
        return b"".join([self._close(key, metadata) for key in [*self._open]])

    def _end_answer(self, opaque: Opaque | None) -> bytes:
        """Return the end of the parts of an answer, with what the next request must send back."""
        metadata = _metadata(opaque) if self._keep and opaque is not None else {}
        open_calls = [call for call in self._calls.values() if not call.complete]
        events = self._close_all({} if open_calls else metadata) if self._open else b""
        if metadata and not (open_calls or events):
            self._number += 1
            identity = f"r{self._number}"
            events = event({"type": "reasoning-start", "id": identity})
            events += event({"type": "reasoning-end", "id": identity, **metadata})
        for call in open_calls:
            events += self._call_complete(call, metadata)
            metadata = {}
        return events

    # -- tools -------------------------------------------------------------------------------------------------------

    def _call_piece(self, key: tuple[object, ...], piece: ToolCall) -> bytes:
        """Return the events of a fragment of a call."""
        known = self._calls.get(key)
        if known is None:
            used = {call.id for call in self._calls.values()}
            known_id = piece.id if piece.id not in used else None  # a server may send one id twice
            identity = known_id or call_id(self._response_id, piece.position)
            known = self._calls[key] = _Call(replace(piece, arguments=""), identity)
        known.call = replace(
            known.call,
            name=piece.name or known.call.name,
            arguments=known.call.arguments + piece.arguments,
            custom=known.call.custom or piece.custom,
        )
        known.unsent += piece.arguments
        if known.call.name is None or known.complete:
            return b""
        events = self._step()
        if not known.begun:
            known.begun = True
            text = {"inputEncoding": "text"} if known.call.custom else {}
            events += event({"type": "tool-input-start", **self._named(known.id, known.call.name), **text})
        if known.unsent:
            delta, known.unsent = known.unsent, ""
            events += event({"type": "tool-input-delta", "toolCallId": known.id, "inputTextDelta": delta})
        return events

    def _named(self, identity: str, name: str) -> dict[str, Any]:
        """Return the fields of a call: which tool it is, and who runs it."""
        named: dict[str, Any] = {"toolCallId": identity, "toolName": name}
        of_client = not self._agent if self._client_tools is None else name in self._client_tools
        return named if of_client else {**named, "dynamic": True, "providerExecuted": True}

    def _call_complete(self, known: _Call, metadata: Mapping[str, Any]) -> bytes:
        known.complete = True
        name = known.call.name or "unknown"
        begin = b"" if known.begun else event({"type": "tool-input-start", **self._named(known.id, name)})
        given, why = input_of(known.call)
        written = {**self._named(known.id, name), "input": given, **metadata}
        if why is not None:
            return begin + event({"type": "tool-input-error", **written, "errorText": why})
        return begin + event({"type": "tool-input-available", **written})

    def _begin_run(self, identity: str) -> bytes:
        """Return the end of a call's input, since its tool runs."""
        return b"".join(
            [
                self._call_complete(call, {})
                for call in self._calls.values()
                if call.id == identity and not call.complete
            ]
        )

    def _progress(self, identity: str, progress: Any) -> bytes:
        output = {"toolCallId": identity, "output": plain_json(progress), "preliminary": True}
        return self._begin_run(identity) + event({"type": "tool-output-available", **output, "providerExecuted": True})

    def _result(self, result: ToolResult) -> bytes:
        ran = {"toolCallId": result.call_id, "providerExecuted": True}
        before = self._begin_run(result.call_id)
        if result.call_id in self._denied:
            return before + event({"type": "tool-output-denied", "toolCallId": result.call_id})
        if result.error is not None:
            return before + event({"type": "tool-output-error", **ran, "errorText": result.content})
        events = before + event({"type": "tool-output-available", **ran, "output": output_of(result.content)})
        return events + b"".join([_file(part, result.call_id) for part in result.parts])

    def _citation(self, citation: Mapping[str, Any]) -> bytes:
        self._number += 1
        part = source_part(citation, self._number)
        url = part.get("url")
        if url is not None:
            if url in self._seen:
                return b""
            self._seen.add(url)
        return self._step() + event(part)

    # -- graphs ------------------------------------------------------------------------------------------------------

    def _graph_event(self, given: Mapping[str, Any]) -> bytes:
        kind = given["type"]
        node: str = given.get("node", "")
        key = (node,)
        match kind:
            case "token":
                return self._text(key, "text", given["content"])
            case "node_start":
                self._number += 1
                identity = f"{node}-{self._number}"
                self._nodes.setdefault(node, []).append(identity)
                return self._step() + self._kept(node, _node_event(identity, node, "running"))
            case "node_complete":
                return self._node_complete(node, given)
            case "restart":
                return self._reset_node(node)
            case "interrupt":
                return self._close(key) + self._question(node, given)
            case "step":
                return self._close(key)
            case "tool_call":
                named = self._named(given["call_id"], given["tool"])
                self._unanswered[given["call_id"]] = given["tool"]
                available = {"type": "tool-input-available", **named, "input": plain_json(given["args"])}
                return self._step() + self._close(key) + self._kept(node, event(available))
            case "tool_progress":
                return self._kept(node, self._progress(given["call_id"], given["progress"]))
            case "tool_result":
                self._unanswered.pop(given["call_id"], None)
                result = ToolResult(given["call_id"], given["tool"], given["output"], given["error"])
                return self._kept(node, self._result(result))
            case _:
                return b""

    def _node_complete(self, node: str, given: Mapping[str, Any]) -> bytes:
        self._output = given.get("output") or self._output
        self._usage = added(self._usage, usage_of(given.get("metadata", {}).get("usage")))
        begun = self._nodes.get(node)
        identity = begun.pop(0) if begun else node
        return self._step() + self._close((node,)) + self._kept(node, _node_event(identity, node, "complete"))

    def _question(self, node: str, given: Mapping[str, Any]) -> bytes:
        """Return the events of a question, which is the end of the answer: as text, and as data.

        The question of an agent is a request for approval of its calls instead of a text.
        """
        message = given["message"]
        data = {"node": node, "message": plain_json(message), "resume_key": given["resume_key"]}
        before = self._step() + event({"type": "data-interrupt", "data": data})
        if is_object(message) and set(message) == {"tool", "args"}:
            return before + self._approvals(message, given.get("metadata", {}).get("calls"))
        text = message if isinstance(message, str) else json_bytes(plain_json(message)).decode()
        return before + self._text((f"{node}?",), "text", text) + self._close((f"{node}?",))

    def _approvals(self, asked: Mapping[str, Any], waiting: Sequence[str] | None) -> bytes:
        """Return the requests for approval of an agent's calls; the first one is shown if this stream has not yet."""
        tool = str(asked["tool"])
        calls = waiting or [call for call, name in self._unanswered.items() if name == tool][:1] or [f"{tool}?"]
        events = b""
        if calls[0] not in self._unanswered:
            shown = {**self._named(calls[0], tool), "input": plain_json(asked["args"])}
            events += event({"type": "tool-input-available", **shown})
            self._unanswered[calls[0]] = tool
        return events + b"".join([_approval(call) for call in calls if call in self._unanswered])

    def _whole_output(self) -> bytes:
        """Return the output of the last node as the text of a graph that has said nothing."""
        if self._said or not self._output:
            return b""
        values = [*self._output.values()]
        alone = values[0] if len(values) == 1 and isinstance(values[0], str) else None
        return self._text((), "text", alone or json_bytes(plain_json(dict(self._output))).decode())


def event(part: Mapping[str, Any]) -> bytes:
    """Return the event of one part of the protocol."""
    return b"data: %b\n\n" % json_bytes(part)


def _approval(call: str | None) -> bytes:
    return event({"type": "tool-approval-request", "approvalId": call, "toolCallId": call})


def _file(part: Part, call: str) -> bytes:
    """Return the event of a file in the result of a call, which names the call for the next request."""
    if isinstance(part, Text) or not part.as_url:
        return b""
    kind = part.media_type or ("image/*" if isinstance(part, Image) else "application/octet-stream")
    metadata = {METADATA: {RESULT_OF: call}}
    return event({"type": "file", "url": part.as_url, "mediaType": kind, "providerMetadata": metadata})


def _node_event(identity: str, node: str, status: str) -> bytes:
    return event({"type": "data-node", "id": identity, "data": {"node": node, "status": status}})


def _is_content(item: Any) -> bool:
    if isinstance(item, Chunk):
        return item.kind in CONTENT_KINDS or item.kind in ("finish", "tool_result")
    return isinstance(item, str) or item["type"] != "node_start"


def _metadata(opaque: Opaque) -> dict[str, Any]:
    """Return what the client keeps with a part and sends back: data that only the vendor can read."""
    kept: dict[str, Any] = {"wire": opaque.wire, "items": list(opaque.items), "fields": dict(opaque.fields)}
    if opaque.source is not None:
        kept["source"] = opaque.source
    return {"providerMetadata": {METADATA: {"opaque": kept}}} if plain_json(kept) is kept else {}
