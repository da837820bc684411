"""Test the AG-UI events of graphs: steps, state deltas that rebuild the state, parallel nodes, questions."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from ag_ui_validate.protocol.jsonpatch import PatchErr, apply_patch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Usage
from streamcore.sse.agui.encoder import AguiEncoder, AguiRun
from streamcore.sse.agui.json_patch import difference
from streamcore.wire.encoding.wire import Problem
from tests.agui_support import checked, kinds, texts, user

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b/c", "d~e", ""]), inner),
    max_leaves=8,
)
STATES = st.dictionaries(st.sampled_from(["a", "b", "c/d", "e~f", "_hidden", "__proto__"]), JSON, max_size=4)


def encoded(items: Sequence[Any], **run: Any) -> list[dict[str, Any]]:
    one = AguiEncoder(AguiRun("t1", "r1", **run), lambda error: Problem("failed", str(error)))
    return checked(b"".join([one.start(), *(one.feed([copy.deepcopy(item)]) for item in items), one.end()]))


def rebuilt(events: Sequence[dict[str, Any]]) -> Any:
    """Return the state as a client has it at the end."""
    state: Any = None
    for event in events:
        if event["type"] == "STATE_SNAPSHOT":
            state = event["snapshot"]
        elif event["type"] == "STATE_DELTA":
            applied = apply_patch(state, event["delta"])
            assert not isinstance(applied, PatchErr), applied
            state = applied.result
    return state


def node(name: str, *texts: str, **output: Any) -> list[dict[str, Any]]:
    tokens = [{"type": "token", "node": name, "content": text} for text in texts]
    return [
        {"type": "node_start", "node": name},
        *tokens,
        {"type": "node_complete", "node": name, "output": output, "metadata": {"usage": Usage(2, 3), "model": "m"}},
    ]


def test_a_graph_is_steps_and_state() -> None:
    complete: dict[str, Any] = {
        "type": "graph_complete",
        "state": {"topic": "sea", "text": "Hello", "_loop_counts": {}},
    }
    found = encoded([*node("write", "Hel", "lo", text="Hello"), complete], state={"topic": "sea"})
    assert kinds(found) == [
        "RUN_STARTED",
        "STATE_SNAPSHOT",
        "STEP_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "STATE_DELTA",
        "STEP_FINISHED",
        "RUN_FINISHED",
    ]
    assert rebuilt(found) == {"topic": "sea", "text": "Hello"}
    assert found[-1]["usage"] == [{"model": "m", "inputTokens": 2, "outputTokens": 3, "totalTokens": 5}]


def test_nodes_that_run_at_the_same_time_have_messages_of_their_own() -> None:
    one, other = node("one", "1", "2", a="12"), node("other", "x", "y", b="xy")
    items = [event for pair in zip(one, other, strict=True) for event in pair]
    found = encoded([*items, {"type": "graph_complete", "state": {"a": "12", "b": "xy"}}])
    assert sorted(texts(found).values()) == ["12", "xy"]
    assert rebuilt(found) == {"a": "12", "b": "xy"}


def test_the_items_of_a_map_have_messages_of_their_own() -> None:
    items = [
        {"type": "token", "node": "map", "content": text, "metadata": {"map_index": index}}
        for text, index in (("a", 0), ("x", 1), ("b", 0), ("y", 1))
    ]
    found = encoded([*items, *node("map", found=[]), {"type": "graph_complete", "state": {"found": []}}])
    assert sorted(texts(found).values()) == ["ab", "xy"]


def test_a_node_that_runs_twice_at_once_is_one_step() -> None:
    first, last = node("n", a=1)
    found = encoded([first, first, last, last, {"type": "graph_complete", "state": {"a": 1}}])
    assert kinds(found).count("STEP_STARTED") == kinds(found).count("STEP_FINISHED") == 1


def test_the_output_of_a_node_inside_a_node_is_not_state() -> None:
    found = encoded([*node("outer/inner", "x", secret=1), {"type": "graph_complete", "state": {}}])
    assert rebuilt(found) == {}


def test_a_question_is_an_interrupt() -> None:
    asks = {"type": "interrupt", "node": "ask", "message": "Name?", "resume_key": "name", "id": "ask@3"}
    found = encoded([{"type": "node_start", "node": "ask"}, asks])
    (interrupt,) = found[-1]["outcome"]["interrupts"]
    assert (interrupt["id"], interrupt["reason"], interrupt["message"]) == ("ask@3", "input_required", "Name?")
    assert interrupt["metadata"]["streamcore"] == {"node": "ask", "resumeKey": "name"}
    found = encoded([{**asks, "message": {"options": [1, 2]}}])
    (interrupt,) = found[-1]["outcome"]["interrupts"]
    assert json.loads(interrupt["message"]) == {"options": [1, 2]}


def test_an_agent_of_a_graph_has_calls_and_asks_for_approval() -> None:
    named = {"node": "agent", "call_id": "a", "tool": "look"}
    asks: dict[str, Any] = {"node": "agent", "message": {"tool": "drop", "args": {}}, "resume_key": "ok"}
    found = encoded(
        [
            {"type": "node_start", "node": "agent"},
            {"type": "step", "node": "agent", "step": 1},
            {"type": "token", "node": "agent", "content": "I look."},
            {"type": "tool_call", **named, "args": {"x": 1}},
            {"type": "tool_progress", **named, "progress": 1},
            {"type": "tool_result", **named, "output": "sunny", "error": None, "seconds": 1.0},
            {"type": "step", "node": "agent", "step": 2},
            {"type": "tool_call", "node": "agent", "call_id": "b", "tool": "drop", "args": "{}"},
            {"type": "interrupt", **asks},
        ],
        returned=frozenset(),
    )
    (interrupt,) = found[-1]["outcome"]["interrupts"]
    assert (interrupt["reason"], interrupt["toolCallId"]) == ("tool_call", "b")
    assert [event["content"] for event in found if event["type"] == "TOOL_CALL_RESULT"] == ["sunny"]
    assert "agent step 2" in [event.get("stepName") for event in found]


def test_an_item_of_a_map_that_failed_is_taken_back() -> None:
    tokens = [
        {"type": "token", "node": "map", "content": text, "metadata": {"map_index": index}}
        for text, index in (("good", 0), ("bad", 1))
    ]
    restart = {"type": "restart", "node": "map", "metadata": {"map_index": 1}}
    end: dict[str, Any] = {"type": "graph_complete", "state": {}}
    found = encoded([*tokens, restart, end], messages=[user("Hi")])
    snapshot = next(event for event in found if event["type"] == "MESSAGES_SNAPSHOT")
    assert [message["content"] for message in snapshot["messages"]] == ["Hi", "good"]


@settings(max_examples=30)
@given(STATES, st.lists(STATES, max_size=4))
def test_deltas_rebuild_any_state(first: dict[str, Any], outputs: list[dict[str, Any]]) -> None:
    state = dict(first)
    items: list[dict[str, Any]] = []
    for output in outputs:
        state.update(output)
        items += [{"type": "node_complete", "node": "n", "output": output}]
    items = [{"type": "node_start", "node": "n"}, *items, {"type": "graph_complete", "state": state}]
    found = encoded(items, state=first)
    expected = {key: value for key, value in state.items() if not key.startswith("_")}
    assert json.dumps(rebuilt(found), sort_keys=True) == json.dumps(expected, sort_keys=True)


@settings(max_examples=50)
@given(JSON, JSON)
def test_a_difference_turns_one_value_into_the_other(before: Any, after: Any) -> None:
    delta = difference(before, after)
    assert delta is not None
    applied = apply_patch(copy.deepcopy(before), delta)
    assert not isinstance(applied, PatchErr), applied
    assert json.dumps(applied.result, sort_keys=True) == json.dumps(after, sort_keys=True)


def test_a_list_that_grew_is_added_to() -> None:
    assert difference({"a": [1]}, {"a": [1, 2]}) == [{"op": "add", "path": "/a/-", "value": 2}]
    assert difference({"a": True}, {"a": 1}) == [{"op": "replace", "path": "/a", "value": 1}]
    assert difference({}, {"constructor": 1}) is None
