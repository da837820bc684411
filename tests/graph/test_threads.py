"""Test what a graph remembers: threads, interrupts and resuming, cut nodes, conflicts, two processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamcore import ConfigError, NodeError, ThreadConflict, stream_graph_with_tokens, stream_node_output
from streamcore.checkpoints import MemoryCheckpointer, Saved
from streamcore.testing import Answer, Simulator
from tests.graphs import answers, collect, kinds, output, ran, text_of, write_graph
from tests.support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("vendor")]


INTERVIEW = """
    name: interview
    state: {name: str, topic: str}
    nodes:
      welcome: {prompt: welcome}
      ask_name: {type: interrupt, prompt: ask, state_key: question, resume_key: name}
      ask_topic: {type: interrupt, message: "What shall we talk about, {state.name}?", resume_key: topic}
      greet: {prompt: greet}
    edges:
      - {from: START, to: welcome}
      - {from: welcome, to: ask_name}
      - {from: ask_name, to: ask_topic}
      - {from: ask_topic, to: greet}
      - {from: greet, to: END}
"""
PROMPTS = {"welcome": "Welcome", "ask": "Ask after {welcome}", "greet": "Greet {name} about {topic}"}
SAID = {"Welcome": "Hi!", "Ask after Hi!": "Who are you?", "Greet Ada about tea": "Hello Ada, tea it is."}


async def test_an_interview(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, INTERVIEW, **PROMPTS)
    answers(vendor, SAID)
    config = {"configurable": {"thread_id": "t"}}
    first = await collect(stream_graph_with_tokens(path, {}, config))
    assert kinds(first) == [
        ("node_start", "welcome"),
        ("node_complete", "welcome"),
        ("node_start", "ask_name"),
        ("interrupt", "ask_name"),
    ]
    assert first[-1] == {"type": "interrupt", "node": "ask_name", "message": "Who are you?", "resume_key": "name"}
    assert text_of(first, "ask_name") == "Who are you?"

    second = await collect(stream_graph_with_tokens(path, None, {"thread_id": "t", "resume": "Ada"}))
    assert second == [
        {"type": "node_complete", "node": "ask_name", "output": {"question": "Who are you?", "name": "Ada"}},
        {"type": "node_start", "node": "ask_topic"},
        {
            "type": "interrupt",
            "node": "ask_topic",
            "message": "What shall we talk about, Ada?",
            "resume_key": "topic",
        },
    ]
    third = await collect(stream_graph_with_tokens(path, None, {"thread_id": "t", "resume": "tea"}))
    assert ran(third) == ["ask_topic", "greet"]
    assert third[-1]["state"] == {
        "welcome": "Hi!",
        "question": "Who are you?",
        "name": "Ada",
        "interrupt_message": "What shall we talk about, Ada?",
        "topic": "tea",
        "greet": "Hello Ada, tea it is.",
    }
    assert len(vendor.requests) == 3


async def test_a_pending_question_is_yielded_again_but_not_generated_again(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, INTERVIEW, **PROMPTS)
    answers(vendor, SAID)
    first = await collect(stream_graph_with_tokens(path, {}, {"thread_id": "t"}))
    asked = len(vendor.requests)
    again = await collect(stream_graph_with_tokens(path, {}, {"thread_id": "t"}))
    assert again == first[-1:]
    assert len(vendor.requests) == asked


async def test_a_question_in_a_loop_is_made_again_each_time(tmp_path: Path) -> None:
    text = """
        nodes:
          ask: {type: interrupt, message: "{'#' ~ _loop_counts.ask}", resume_key: said}
        edges:
          - {from: START, to: ask}
          - {from: ask, to: ask, condition: "said != 'stop'"}
    """
    path = write_graph(tmp_path, text)
    config = {"thread_id": "t"}
    assert (await collect(stream_graph_with_tokens(path, {}, config)))[-1]["message"] == "#0"
    assert (await collect(stream_graph_with_tokens(path, {}, {**config, "resume": "on"})))[-1]["message"] == "#1"
    end = await collect(stream_graph_with_tokens(path, {}, {**config, "resume": "stop"}))
    assert end[-1]["type"] == "graph_complete"


async def test_an_interrupt_waits_for_the_other_branch(tmp_path: Path, vendor: Simulator) -> None:
    text = """
        nodes:
          a: {type: interrupt, message: {question: "A?", of: "{state.x}"}, state_key: qa, resume_key: a}
          b: {type: interrupt, message: "B?", state_key: qb, resume_key: b}
          c: {prompt: c}
          end: {type: passthrough, output: {all: "{[a, b, c]}"}}
        edges:
          - {from: START, to: [a, b, c]}
          - {from: [a], to: end}
    """.replace("[a], to: end", "a, to: end}\n          - {from: b, to: end}\n          - {from: c, to: end")
    path = write_graph(tmp_path, text, c="c")
    answers(vendor, lambda asked: "C")
    first = await collect(stream_graph_with_tokens(path, {"x": [1]}, {"thread_id": "t"}))
    assert ran(first) == ["c"]
    assert first[-1]["message"] == {"question": "A?", "of": [1]}
    second = await collect(stream_graph_with_tokens(path, {}, {"thread_id": "t", "resume": 1}))
    assert second[-1]["message"] == "B?"
    third = await collect(stream_graph_with_tokens(path, {}, {"thread_id": "t", "resume": {"k": 2}}))
    assert third[-1]["state"]["all"] == [1, {"k": 2}, "C"]


CHAT = """
    name: chat
    nodes:
      remember: {type: passthrough, output: {history: "{(state.history or []) + [state.message]}"}}
      answer: {prompt: answer, skip_if_exists: false}
    edges:
      - {from: START, to: remember}
      - {from: remember, to: answer}
"""


async def test_a_finished_thread_begins_again_with_its_state(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, CHAT, answer="{history}")
    answers(vendor, lambda asked: f"<{asked.text}>")
    store = MemoryCheckpointer()
    for number, text in enumerate(["a", "b", "c"], 1):
        config = {"thread_id": "t", "checkpointer": store}
        events = await collect(stream_graph_with_tokens(path, {"message": text}, config))
        assert output(events, "answer") == {"answer": f"<{', '.join('abc'[:number])}>"}
    other = await collect(stream_graph_with_tokens(path, {"message": "x"}, {"thread_id": "u", "checkpointer": store}))
    assert output(other, "answer") == {"answer": "<x>"}


async def test_memory_of_the_process_is_by_graph_and_thread(tmp_path: Path, vendor: Simulator) -> None:
    answers(vendor, lambda asked: asked.text)
    one = write_graph(tmp_path / "one", CHAT, answer="{history}")
    two = write_graph(tmp_path / "two", CHAT, answer="{history}")
    await collect(stream_graph_with_tokens(one, {"message": "a"}, {"thread_id": "t"}))
    events = await collect(stream_graph_with_tokens(two, {"message": "b"}, {"thread_id": "t"}))
    assert output(events, "answer") == {"answer": "b"}
    events = await collect(stream_graph_with_tokens(one, {"message": "b"}, {"thread_id": "t"}))
    assert output(events, "answer") == {"answer": "a, b"}


async def test_without_a_thread_nothing_is_kept(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, CHAT, answer="{history}")
    answers(vendor, lambda asked: asked.text)
    for _ in range(2):
        events = await collect(stream_graph_with_tokens(path, {"message": "a"}))
        assert output(events, "answer") == {"answer": "a"}


async def test_one_node_on_a_thread_answers_on_every_turn(tmp_path: Path, vendor: Simulator) -> None:
    text = "    nodes: {chat: {prompt: chat, state_key: reply}}\n    edges: [{from: START, to: chat}]\n"
    path = write_graph(tmp_path, text)
    answers(vendor, lambda asked: asked.text.split(" ")[0].upper())
    config = {"thread_id": "t"}
    (tmp_path / "prompts" / "chat.yaml").write_text(
        "user: '{{ message }} after {{ reply | default(\"nothing\") }}'", "utf-8"
    )
    for message in ("one", "two", "three"):
        assert "".join(await collect(stream_node_output(path, "chat", {"message": message}, config))) == message.upper()
    asked = [request.body["messages"][0]["content"] for request in vendor.requests]
    assert asked == ["one after nothing", "two after ONE", "three after TWO"]


class Failing:
    """A store that can no longer save after a number of times."""

    def __init__(self, inner: MemoryCheckpointer, times: int) -> None:
        self.inner = inner
        self.left = times
        self.saved: list[Mapping[str, Any]] = []

    async def load(self, thread: str) -> Saved | None:
        return await self.inner.load(thread)

    async def save(self, thread: str, data: Mapping[str, Any], version: int) -> int:
        if self.left == 0:
            raise OSError("the disk is full")
        self.left -= 1
        self.saved.append(data)
        return await self.inner.save(thread, data, version)

    async def delete(self, thread: str) -> None:
        await self.inner.delete(thread)

    async def aclose(self) -> None:
        await self.inner.aclose()


@pytest.mark.parametrize("times", [0, 1, 2])
async def test_no_event_reports_a_node_that_is_not_saved(tmp_path: Path, vendor: Simulator, times: int) -> None:
    text = """
        nodes: {a: {prompt: a}, b: {prompt: b}, c: {prompt: c}}
        edges: [{from: START, to: a}, {from: a, to: b}, {from: b, to: c}]
    """
    path = write_graph(tmp_path, text, a="a", b="b", c="c")
    answers(vendor, lambda asked: asked.text)
    inner = MemoryCheckpointer()
    received_events: list[Any] = []
    with pytest.raises(OSError, match="the disk is full"):
        async for event in stream_graph_with_tokens(
            path, {}, {"thread_id": "t", "checkpointer": Failing(inner, times)}
        ):
            received_events.append(event)
    assert ran(received_events) == ["a", "b", "c"][:times]
    rest = await collect(stream_graph_with_tokens(path, {}, {"thread_id": "t", "checkpointer": inner}))
    assert ran(rest) == ["a", "b", "c"][times:]


async def test_two_workers_on_one_thread(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, CHAT, answer="{message}")
    answers(vendor, lambda asked: asked.text)
    store = MemoryCheckpointer()
    config = {"thread_id": "t", "checkpointer": store}
    slow = stream_graph_with_tokens(path, {"message": "slow"}, config)
    assert (await anext(slow))["type"] == "node_start"
    fast = await collect(stream_graph_with_tokens(path, {"message": "fast"}, config))
    with pytest.raises(ThreadConflict):
        await collect(slow)
    saved = await store.load("chat/t")
    assert saved is not None
    assert saved.data["state"] == fast[-1]["state"]


LONG = """
    name: long
    nodes:
      first: {prompt: first}
      talk: {prompt: talk}
    edges:
      - {from: START, to: first}
      - {from: first, to: talk}
"""


@pytest.mark.parametrize("how", ["closed", "cancelled", "failed", "dropped"])
async def test_the_text_of_an_interrupted_node_is_saved_and_reported(
    tmp_path: Path, vendor: Simulator, how: str
) -> None:
    path = write_graph(tmp_path, LONG, first="first", talk="talk")
    cut = 5 if how == "failed" else None
    # Long enough that the reader interrupts it before its end, also on a busy machine.
    talk = Answer.of("word " * 4000, cut=cut)
    vendor.decide = lambda asked: talk if asked.text == "talk" else Answer.of("word " * 40)
    vendor.rate = None if how == "failed" else 2000
    store = Failing(MemoryCheckpointer(), 10)
    config = {"thread_id": "t", "checkpointer": store}
    stream = stream_graph_with_tokens(path, {}, config)
    said = ""
    with anyio.CancelScope() as scope:
        try:
            async for event in stream:
                said += event["content"] if event["type"] == "token" and event["node"] == "talk" else ""
                if len(said) >= 15 and how == "cancelled":
                    scope.cancel()
                elif len(said) >= 15 and how != "failed":
                    break
        except NodeError:
            assert how == "failed"
    if how == "closed":
        await stream.aclose()
    del stream
    await eventually(lambda: len(store.saved) == 2, "the cut node's text was saved")
    kept = store.saved[-1]["cut"]["talk"]
    assert kept.startswith(said)
    assert store.saved[-1]["next"] == ["talk"]

    vendor.rate = None
    vendor.decide = lambda asked: Answer.of("whole")
    (tmp_path / "prompts" / "talk.yaml").write_text("user: 'so far: {{ state._partial.talk }}'", "utf-8")
    rest = await collect(stream_graph_with_tokens(path, {}, {**config, "include_metadata": True}))
    assert rest[0]["metadata"]["partial"] == kept
    assert vendor.requests[-1].body["messages"][0]["content"] == f"so far: {kept}"
    assert ran(rest) == ["talk"]
    assert rest[-1]["state"] == {"first": "word " * 40, "talk": "whole"}
    assert store.saved[-1]["cut"] == {}


async def test_a_branch_that_was_done_is_not_done_again(tmp_path: Path, vendor: Simulator) -> None:
    text = """
        nodes: {short: {prompt: short}, long: {prompt: long}, join: {prompt: join, variables: {s: "{short}"}}}
        edges:
          - {from: START, to: [short, long]}
          - {from: short, to: join}
          - {from: long, to: join}
    """
    path = write_graph(tmp_path, text, short="short", long="long", join="{s}")
    vendor.rate = 500
    vendor.decide = lambda asked: Answer.of("s" if asked.text == "short" else "l " * 60, cut=50)
    config = {"thread_id": "t", "checkpointer": MemoryCheckpointer()}
    first: list[Any] = []
    with pytest.raises(NodeError, match="node 'long'"):
        async for event in stream_graph_with_tokens(path, {}, config):
            first.append(event)
    assert ran(first) == ["short"]
    vendor.rate = None
    answers(vendor, lambda asked: asked.text)
    rest = await collect(stream_graph_with_tokens(path, {}, config))
    assert ran(rest) == ["long", "join"]
    assert output(rest, "join") == {"join": "s"}


async def test_a_checkpoint_of_another_graph_raises(tmp_path: Path, vendor: Simulator) -> None:
    answers(vendor, lambda asked: "x")
    store = MemoryCheckpointer()
    path = write_graph(tmp_path, INTERVIEW, **PROMPTS)
    await collect(stream_graph_with_tokens(path, {}, {"thread_id": "t", "checkpointer": store}))
    path = write_graph(tmp_path, INTERVIEW.replace("ask_name", "ask_who"), **PROMPTS)
    with pytest.raises(ConfigError, match=r"stopped at the node 'ask_name', which .* no longer has"):
        await collect(stream_graph_with_tokens(path, {}, {"thread_id": "t", "checkpointer": store}))


async def test_an_invalid_checkpointer_in_the_file(tmp_path: Path) -> None:
    path = write_graph(tmp_path, LONG + "    checkpointer: {type: sqlight, path: x}\n", first="x", talk="y")
    with pytest.raises(ConfigError) as caught:
        await collect(stream_graph_with_tokens(path, {}, {"thread_id": "t"}))
    assert str(caught.value).startswith(f"{path}:11: checkpointer: `type` must be one of")


PROCESS = """
import asyncio, json, sys
from streamcore import stream_graph_with_tokens

async def main(path, config):
    return [event async for event in stream_graph_with_tokens(path, {}, config)]

print(json.dumps(asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))))
"""


def test_an_interrupt_outlives_the_process(tmp_path: Path, vendor: Simulator) -> None:
    answers(vendor, SAID)
    path = write_graph(
        tmp_path, INTERVIEW + f"    checkpointer: {{type: sqlite, path: '{tmp_path}/t.db'}}\n", **PROMPTS
    )

    def run(**config: str) -> list[Any]:
        command = [sys.executable, "-W", "error", "-c", PROCESS, str(path), json.dumps({"thread_id": "t", **config})]
        done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
        assert done.stderr == ""
        events: list[Any] = json.loads(done.stdout)
        return events

    assert run()[-1]["message"] == "Who are you?"
    assert run(resume="Ada")[-1]["message"] == "What shall we talk about, Ada?"
    assert run(resume="tea")[-1]["state"]["greet"] == "Hello Ada, tea it is."
    assert [request.body["messages"][-1]["content"] for request in vendor.requests] == [*SAID]
