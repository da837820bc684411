"""Encode a stream as AG-UI events: chunks of an answer or an agent, tokens, and the events of a graph."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from streamcore.chunk import CONTENT_KINDS, Chunk, ToolCall, Usage
from streamcore.completion import Completion, merged_usage
from streamcore.errors import ConfigError
from streamcore.sse.agui.json_patch import difference
from streamcore.sse.agui.speaker import Speaker
from streamcore.sse.agui.usage import TokenUsage
from streamcore.sse.agui.writing import Ids, Transcript, event
from streamcore.sse.encoder import HEARTBEAT, Refusal, json_bytes
from streamcore.sse.public import interrupted
from streamcore.wire.encoding.wire import STATUSES, Problem

TOOL_CALL, INPUT_REQUIRED = "tool_call", "input_required"
"""The reasons of interrupts that the protocol defines, as far as they are used here."""

DECISION_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean"},
        "editedArgs": {"type": "object", "description": "The arguments to use instead of all those of the call."},
        "reason": {"type": "string", "description": "Why the call is denied, for the model."},
    },
    "required": ["approved"],
}
"""The form of the answer to an interrupt that asks whether a call may run."""

_GRAPH_CONTENT = frozenset(
    {"token", "node_complete", "interrupt", "graph_complete", "tool_call", "tool_result", "pending"}
)


@dataclass(frozen=True, slots=True)
class AguiRun:
    """Describe a run before it begins: what its request says, and what the service adds."""

    thread_id: str
    run_id: str
    messages: Sequence[Mapping[str, Any]] | None = None
    """The conversation as the client sent it; None if it is not known: then an answer cannot begin again."""
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The state of a graph at the start of the run."""
    parent_run_id: str | None = None
    protocol_version: str | None = None
    model: str | None = None
    """The name of the model in token counts; None: the name that the vendor sends."""
    returned: frozenset[str] | None = None
    """The tools whose calls the client answers; None: all."""
    raw: bool = True
    """Whether events of the vendor without a normal form are sent as `RAW`."""

    @classmethod
    def of(cls, body: Mapping[str, Any], default_id: str) -> AguiRun:
        """Return the run of a `RunAgentInput`, or of a mapping that has some of its keys.

        Raises:
            ConfigError: a key has the wrong type.
        """
        ids = {key: body.get(key, default_id) for key in ("threadId", "runId")}
        for key, value in ids.items():
            if not (isinstance(value, str) and value):
                raise ConfigError(f"{key} of a RunAgentInput is a text, not {value!r}")
        messages: Any = body.get("messages")
        state: Any = body.get("state") or {}
        if not (messages is None or isinstance(messages, list)) or not isinstance(state, Mapping):
            raise ConfigError("messages of a RunAgentInput is a list, and state an object")
        return cls(
            ids["threadId"],
            ids["runId"],
            cast("list[Mapping[str, Any]] | None", messages),
            cast("Mapping[str, Any]", state),
            body.get("parentRunId"),
            body.get("protocolVersion"),
        )


class AguiEncoder:
    """Encode one run; an `EventEncoder`. The last event is `RUN_FINISHED` or `RUN_ERROR`, never both.

    Every speaker has its own messages: the model, each node of a graph, and each nested run, which is a subagent of
    the protocol. An answer that begins again is taken back with `MESSAGES_SNAPSHOT`. What has no event of its own is
    `CUSTOM`: `streamcore.citation`, `streamcore.tool_progress`.

    Args:
        run: what is known of the run.
        problem_of: returns what the client learns about an error.
        waits: nothing is returned before the first content, so that an error before it can become a status.
    """

    def __init__(self, run: AguiRun, problem_of: Callable[[Exception], Problem], *, waits: bool = False) -> None:
        self._run = run
        self._problem_of = problem_of
        self._ids = Ids(run.run_id, run.messages or ())
        self._transcript = Transcript(run.messages)
        self._speakers: dict[Any, Speaker] = {}
        self._main = self._speaker(((), 0))
        self._subagents: dict[tuple[str, ...], str] = {}
        self._steps: dict[str, int] = {}
        self._agent_steps: dict[str, str] = {}  # the step of each agent that is open
        self._state: dict[str, Any] | None = None
        self._usage = TokenUsage(run.model)
        self._counts: dict[Any, Usage] = {}  # of the answers that have not ended
        self._models: dict[Any, str | None] = {}
        self._unanswered: dict[str, str] = {}  # the names of the calls without a result, by id
        self._interrupts: list[dict[str, Any]] = []
        self._finish: str | None = None
        self._refused = False
        self._ended: bool | None = None  # None until something has an end: plain tokens have none
        self._begun = False
        self._shown = False  # the conversation before the run
        self._held: bytes | None = b"" if waits else None
        self._unsent: list[bytes] = []

    # -- the protocol of an encoder ----------------------------------------------------------------------------------

    def start(self) -> bytes:
        """Return the start of the run."""
        return self._released(self._start())

    def _start(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        run = self._run
        return event(
            "RUN_STARTED",
            threadId=run.thread_id,
            runId=run.run_id,
            parentRunId=run.parent_run_id,
            protocolVersion=run.protocol_version,
        )

    def feed(self, items: Sequence[Any]) -> bytes:
        """Return the events of some items.

        Raises:
            ConfigError: an answer began again, and the conversation before it is not known.
        """
        content = False
        self._unsent = [self._start()]  # what precedes an item that cannot be encoded is sent with the error
        for item in items:
            self._unsent.append(self._item(item))
            content = content or _is_content(item)
        written, self._unsent = self._unsent, []
        return self._released(b"".join(written), content=content)

    def _released(self, data: bytes, *, content: bool = False) -> bytes:
        """Return what may be sent: with `waits` nothing before the first content."""
        if self._held is None:
            return data
        held = self._held + data
        self._held = None if content else held
        return held if content else b""

    def heartbeat(self) -> bytes:
        """Return a comment, which keeps proxies from closing an idle connection."""
        return HEARTBEAT

    def end(self, completion: Completion | None = None) -> bytes:
        """Return the end of a run that did not fail: success, an interrupt, or cancelled if it was stopped.

        Raises:
            StreamInterrupted: the arguments of a call are not valid JSON, so that the client must not run it.
        """
        for call in () if completion is None else completion.pending:
            self._ask_for_decision(call.id or "", call.name or "")
        asked = [one.get("toolCallId", "") for one in self._interrupts]
        ended = [one.end_block() + one.end_calls(cut=False, asked=asked) for one in self._speakers.values()]
        why = next((one.unusable_call for one in self._speakers.values() if one.unusable_call is not None), None)
        if why is not None:
            raise interrupted(why)
        held, self._held = self._held or b"", None
        closed = [self._start(), *ended, self._end_subagents(()), self._end_steps()]
        return held + b"".join(closed) + self._finished(completion)

    def _finished(self, completion: Completion | None) -> bytes:
        self._count_all()
        outcome: dict[str, Any]
        result = None
        pending = [call for call, name in self._unanswered.items() if self._returns(name)]
        if self._interrupts:
            outcome = {"type": "interrupt", "interrupts": self._interrupts}
        elif self._is_cancelled(completion, pending):
            outcome = {"type": "cancelled"}
        else:
            outcome = {"type": "success", **({"pendingToolCallIds": pending} if pending else {})}
            result = None if self._finish is None else {"finishReason": self._finish}
        return event(
            "RUN_FINISHED",
            threadId=self._run.thread_id,
            runId=self._run.run_id,
            result=result,
            outcome=outcome,
            usage=self._usage.entries() or None,
        )

    def _returns(self, name: str) -> bool:
        return self._run.returned is None or name in self._run.returned

    def _is_cancelled(self, completion: Completion | None, pending: Sequence[str]) -> bool:
        if completion is not None and (completion.finish_reason is not None or not completion.complete):
            return not completion.complete
        if self._finish == "tool_calls" and not pending and self._run.returned is not None:
            return True  # the results were to be sent to the model
        return self._ended is False

    def error(self, error: Exception) -> bytes:
        """Return the end of a run that failed; what is open stays open, so that nothing looks complete."""
        held, self._held = (self._held or b"") + b"".join(self._unsent), None
        self._count_all()
        problem = self._problem_of(error)
        return (held or self._start()) + event(
            "RUN_ERROR",
            message=problem.message,
            code=problem.code or problem.kind,
            usage=self._usage.entries() or None,
        )

    def refusal(self, error: Exception) -> Refusal:
        """Return the response for an error that came before the first event."""
        retry_after = getattr(error, "retry_after", None)
        headers = {} if retry_after is None else {"retry-after": f"{retry_after:.0f}"}
        problem = self._problem_of(error)
        return Refusal(problem.status or STATUSES[problem.kind], problem_body(problem), headers)

    # -- speakers ----------------------------------------------------------------------------------------------------

    def _speaker(self, key: Any, path: tuple[str, ...] = ()) -> Speaker:
        found = self._speakers.get(key)
        if found is None:
            owner = self._subagents[path] if path else None
            found = self._speakers[key] = Speaker(self._ids, self._transcript, owner)
        return found

    def _begin_subagent(self, path: tuple[str, ...]) -> bytes:
        """Return the start of a nested run, and of those around it, unless it runs already."""
        if not path or path in self._subagents:
            return b""
        before = self._begin_subagent(path[:-1])
        self._subagents[path] = found = self._ids.message()
        parent = self._subagents.get(path[:-1])
        return before + event("SUBAGENT_STARTED", subagentRunId=found, name=path[-1], parentSubagentRunId=parent)

    def _end_subagents(self, path: tuple[str, ...]) -> bytes:
        """Return the ends of the nested runs below a path, the innermost first."""
        written: list[bytes] = []
        for one in sorted(self._subagents, key=len, reverse=True):
            if one[: len(path)] == path:
                for key in [key for key in self._speakers if key[0] == one]:
                    written.append(self._speakers.pop(key).new_answer())
                    written.append(self._count(key))
                written.append(event("SUBAGENT_FINISHED", subagentRunId=self._subagents.pop(one)))
        return b"".join(written)

    # -- chunks ------------------------------------------------------------------------------------------------------

    def _chunk(self, chunk: Chunk) -> bytes:
        path, kind = chunk.path, chunk.kind
        if kind == "ping":
            return b""
        if kind == "text" and not path and not chunk.choice:  # as nearly every chunk is
            self._ended = self._ended or False
            return self._main.text(chunk.text)
        before = self._begin_subagent(path) if path else b""
        key = (path, chunk.choice)
        speaker = self._speaker(key, path)
        self._note(key, chunk)
        if kind == "text" or kind == "refusal":
            return before + speaker.text(chunk.text)
        if kind == "reasoning":
            return before + speaker.reasoning(chunk.text, new_part="part" in (chunk.data or {}))
        if kind == "tool_call" and chunk.tool_call is not None:
            written = speaker.call(chunk.tool_call)
            if not path:
                call_id, name = speaker.open_call(chunk.tool_call.position)
                self._unanswered[call_id] = name
            return before + written
        if kind == "finish":
            ended = speaker.end_block() + speaker.end_calls(cut=False)
            return before + ended + (b"" if chunk.opaque is None else speaker.keep(chunk.opaque))
        if kind == "step":
            step = (chunk.data or {}).get("step", 1)
            return before + speaker.new_answer() + (b"" if path else self._agent_step("", f"step {step}"))
        if kind == "restart":
            return before + self._take_back([speaker])
        if kind == "tool_result" and chunk.tool_result is not None:
            result = chunk.tool_result
            ended = self._end_subagents((*path, result.name))
            if not path:
                self._unanswered.pop(speaker.client_id(result.call_id), None)
            return before + ended + self._result(speaker, result.call_id, result.content)
        return before + self._without_event(chunk, speaker)

    def _result(self, speaker: Speaker, call_id: str, content: str) -> bytes:
        """Return the events of a result; the call of an earlier run is shown in a snapshot first, once."""
        before = b""
        if not speaker.has_call(call_id):
            speaker = next((one for one in self._speakers.values() if one.has_call(call_id)), speaker)
        if not self._shown and self._transcript.known and not speaker.has_call(call_id):
            self._shown, before = True, self._transcript.snapshot()
        return before + speaker.result(call_id, content)

    def _without_event(self, chunk: Chunk, speaker: Speaker) -> bytes:
        """Return `CUSTOM` or `RAW` for what the protocol has no event for."""
        if chunk.kind == "citation":
            value = {"messageId": speaker.answer_id, "citation": dict(chunk.data or {})}
            return event("CUSTOM", name="streamcore.citation", value=value)
        if chunk.kind == "tool_progress" and chunk.tool_call is not None:
            progress = chunk.text if chunk.data is None else chunk.data.get("progress")
            return _progress(speaker.client_id(chunk.tool_call.id or ""), chunk.tool_call.name, progress)
        if chunk.kind == "other" and chunk.raw and self._run.raw:
            try:
                return event("RAW", event=json.loads(chunk.raw), source=chunk.event)
            except ValueError:
                return b""
        return b""

    def _note(self, key: Any, chunk: Chunk) -> None:
        """Keep what the end of the run tells: token counts, the model, the reason of the end."""
        kind = chunk.kind
        if kind in ("start", "step", "restart"):
            self._count(key)
            self._models[key] = chunk.model
        if chunk.usage is not None:
            self._counts[key] = merged_usage(self._counts.get(key), chunk.usage)
        if not chunk.path and not chunk.choice:
            self._refused = self._refused or kind == "refusal"
            if kind == "finish":
                reason = "refusal" if self._refused and chunk.finish_reason == "stop" else chunk.finish_reason
                self._finish, self._ended = reason or self._finish, True
            elif kind in ("start", "step", "restart"):
                self._finish, self._ended, self._refused = None, False, False
            elif self._ended is None:
                self._ended = False

    def _count(self, key: Any) -> bytes:
        """Add the token counts of an answer to those of the run; return b""."""
        counts = self._counts.pop(key, None)
        if counts is not None:
            self._usage.add(self._models.get(key), counts)
        return b""

    def _count_all(self) -> None:
        for key in list(self._counts):
            self._count(key)

    def _take_back(self, speakers: Sequence[Speaker]) -> bytes:
        """Return the snapshot without what some speakers have said in their current answers.

        Raises:
            ConfigError: the conversation before the run is not known.
        """
        for call_id in [one for speaker in speakers for one in speaker.call_ids]:
            self._unanswered.pop(call_id, None)
        if not any(speaker.has_answer for speaker in speakers):
            return b"".join([speaker.take_back() for speaker in speakers])
        if not self._transcript.known:
            raise ConfigError(
                "the answer was restarted, and its messages can be taken back only if the conversation is known: give "
                "sse_response the request as run_input=, or turn off on_interrupt: restart and retries"
            )
        return b"".join([*(speaker.take_back() for speaker in speakers), self._transcript.snapshot()])

    # -- events of a graph -------------------------------------------------------------------------------------------

    def _graph_event(self, item: Mapping[str, Any]) -> bytes:
        kind, node = item["type"], item.get("node", "")
        if kind == "gap":
            return b"".join([self._item(one) for one in item["items"]])
        if kind == "pending":  # of an agent; without a relay, `Completion.pending` has them
            for call in item["calls"]:
                self._ask_for_decision(call["id"], call["name"])
            return b""
        if self._ended is None:
            self._ended = False
        before = self._state_snapshot()
        speaker = self._speaker((("node", node), item.get("metadata", {}).get("map_index")))
        match kind:
            case "token":
                return before + speaker.text(item["content"])
            case "node_start":
                return before + self._begin_step(node)
            case "node_complete":
                return before + self._end_node(item, node)
            case "restart":
                return before + self._take_back(self._of_node(node, item))
            case "step":
                return before + speaker.new_answer() + self._agent_step(node, f"{node} step {item['step']}")
            case "tool_call":
                args = item["args"]
                text = args if isinstance(args, str) else json_bytes(args).decode()
                call = ToolCall(item["call_id"], item["tool"], text)
                written = speaker.call(call)
                self._unanswered[speaker.client_id(call.id or "")] = item["tool"]
                return before + written + speaker.end_calls()
            case "tool_progress":
                return before + _progress(speaker.client_id(item["call_id"]), item["tool"], item["progress"])
            case "tool_result":
                self._unanswered.pop(speaker.client_id(item["call_id"]), None)
                return before + self._result(speaker, item["call_id"], item["output"])
            case "interrupt":
                self._ended = True
                self._ask(item)
                return before + (self._change_state(item["state"], whole=True) if "state" in item else b"")
            case "state":
                return before + self._change_state(item["state"], whole=True)
            case "graph_complete":
                self._ended = True
                return before + self._change_state(item["state"], whole=True)
            case _:
                return before

    def _item(self, item: Any) -> bytes:
        if isinstance(item, Chunk):
            return self._chunk(item)
        return self._main.text(item) if isinstance(item, str) else self._graph_event(item)

    def _of_node(self, node: str, item: Mapping[str, Any]) -> list[Speaker]:
        index = item.get("metadata", {}).get("map_index")
        found = [key for key in self._speakers if key[0] == ("node", node) and index in (None, key[1])]
        return [self._speakers[key] for key in found]

    def _end_node(self, item: Mapping[str, Any], node: str) -> bytes:
        speakers = [key for key in self._speakers if key[0] == ("node", node)]
        written = [self._speakers.pop(key).new_answer() for key in speakers]
        facts = item.get("metadata", {})
        usage = facts.get("usage")
        if isinstance(usage, Mapping):  # it was read from a relay
            usage = Usage(**cast("Mapping[str, Any]", usage))
        if isinstance(usage, Usage):
            self._usage.add(facts.get("model"), usage)
        if "/" not in node:  # the output of a node inside a node is not part of the state
            written.append(self._change_state(item["output"]))
        open_step = self._agent_steps.pop(node, None)
        if open_step is not None:
            written.append(self._end_step(open_step))
        return b"".join([*written, self._end_step(node)])

    def _ask(self, item: Mapping[str, Any]) -> None:
        """Add the interrupt of a graph's question."""
        message: Any = item["message"]
        identity: str = item.get("id") or item["node"]
        asked = cast("Mapping[str, Any]", message) if isinstance(message, Mapping) else dict[str, Any]()
        if set(asked) == {"tool", "args"}:  # an agent asks whether a call may run
            name = str(asked["tool"])
            call = next((one for one, tool in self._unanswered.items() if tool == name), "")
            self._ask_for_decision(identity, name, call)
            return
        facts: dict[str, Any] = {"node": item["node"], "resumeKey": item["resume_key"]}
        if not isinstance(message, str):
            facts["message"] = message
            message = json_bytes(cast("object", message)).decode()
        question: dict[str, Any] = {"id": identity, "reason": INPUT_REQUIRED, "message": message}
        self._interrupts.append({**question, "responseSchema": {}, "metadata": {"streamcore": facts}})

    def _ask_for_decision(self, identity: str, name: str, call_id: str | None = None) -> None:
        found = self._main.client_id(identity) if call_id is None else call_id
        self._unanswered.pop(found, None)
        self._interrupts.append(
            {
                "id": identity,
                "reason": TOOL_CALL,
                "message": f"May {name!r} be called with these arguments?",
                **({"toolCallId": found} if found else {}),
                "responseSchema": dict(DECISION_SCHEMA),
            }
        )

    # -- steps and state ---------------------------------------------------------------------------------------------

    def _begin_step(self, name: str) -> bytes:
        self._steps[name] = count = self._steps.get(name, 0) + 1
        return event("STEP_STARTED", stepName=name) if count == 1 else b""

    def _end_step(self, name: str) -> bytes:
        count = self._steps.get(name, 0)
        if count > 1:
            self._steps[name] = count - 1
            return b""
        return event("STEP_FINISHED", stepName=name) if self._steps.pop(name, None) else b""

    def _agent_step(self, agent: str, name: str) -> bytes:
        """Return the end of the agent's last step, and the begin of the next."""
        before = self._agent_steps.get(agent)
        self._agent_steps[agent] = name
        return (b"" if before is None else self._end_step(before)) + self._begin_step(name)

    def _end_steps(self) -> bytes:
        names, self._steps = list(self._steps), {}
        return b"".join([event("STEP_FINISHED", stepName=name) for name in reversed(names)])

    def _state_snapshot(self) -> bytes:
        if self._state is not None:
            return b""
        self._state = visible(self._run.state)
        return event("STATE_SNAPSHOT", snapshot=self._state)

    def _change_state(self, values: Mapping[str, Any], *, whole: bool = False) -> bytes:
        before = self._state or {}
        self._state = visible(values) if whole else {**before, **visible(values)}
        delta = difference(before, self._state)
        if delta is None:
            return event("STATE_SNAPSHOT", snapshot=self._state)
        return event("STATE_DELTA", delta=delta) if delta else b""


def _is_content(item: Any) -> bool:
    if isinstance(item, Chunk):
        return item.kind in CONTENT_KINDS or item.kind == "finish"
    return bool(item) if isinstance(item, str) else item["type"] in _GRAPH_CONTENT or item["type"] == "gap"


def visible(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state that clients get: without the keys of streamcore itself, which begin with `_`."""
    return {key: value for key, value in state.items() if not key.startswith("_")}


def problem_body(problem: Problem) -> bytes:
    """Return the JSON of an error before the run began."""
    facts = {"type": problem.kind, "message": problem.message, "param": problem.param, "code": problem.code}
    return json_bytes({"error": {key: value for key, value in facts.items() if value is not None}})


def _progress(call_id: str, name: str | None, progress: Any) -> bytes:
    value = {"toolCallId": call_id, "name": name, "progress": progress}
    return event("CUSTOM", name="streamcore.tool_progress", value=value)
