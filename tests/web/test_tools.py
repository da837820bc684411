"""Serve a prompt whose tools run: calls in the stream, approval over HTTP, limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from streamcore.graph.limits import RunLimits
from streamcore.testing import Answer, PlannedCall, Simulator
from streamcore.web import create_app
from tests.serving import messages_in, serving
from tests.support import provider_at

FUNCTIONS = '''
from pathlib import Path
from streamcore.tools import tool

@tool(needs_approval=True)
async def delete(path: str) -> str:
    """Delete a file."""
    with Path(__file__).with_name("log").open("a") as log:
        log.write(path)
    return f"deleted {path}"
'''
CALL = Answer.of("Wait. ", calls=[PlannedCall("delete", {"path": "a"}, "d1")])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p.yaml").write_text('user: "{message}"\ntools: [{python: "functions.py:delete"}]\n', "utf-8")
    (tmp_path / "functions.py").write_text(FUNCTIONS, "utf-8")
    return tmp_path


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator([CALL, "Done."]) as found:
        yield found


class Client:
    """A client of one conversation."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.Client(base_url=url, timeout=60)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def post(self, path: str, body: Any) -> httpx2.Response:
        return self._http.post(path, json=body)

    def run(self, path: str, body: Any) -> list[Any]:
        """Start a run and return its messages."""
        begun = self.post(path, body)
        assert begun.is_success, begun.text
        stream = self._http.get(f"/{begun.json()['stream']}&format=json")
        return [one.json for one in messages_in(stream.content)]

    def state(self) -> Any:
        return self._http.get("/state/s").json()


def results(messages: list[Any]) -> list[str]:
    return [one["tool_result"]["content"] for one in messages if one.get("kind") == "tool_result"]


DECISIONS: list[tuple[Any, str]] = [
    (True, "deleted a"),
    (False, "This call was denied"),
    ({"d1": {"approve": False, "reason": "no"}}, "This call was denied: no"),
    ({"d1": {"approve": True, "arguments": {"path": "b"}}}, "deleted b"),
]


@pytest.mark.parametrize(("answer", "result"), DECISIONS)
def test_a_decision_continues_the_run(folder: Path, simulator: Simulator, answer: Any, result: str) -> None:
    app = create_app("p", provider=provider_at(simulator, "openai"), prompts_dir=folder)
    with serving(app) as url, Client(url) as client:
        client.run("/start", {"prompt": "Hi", "session_id": "s"})
        state = client.state()
        assert state["status"] == "waiting"
        assert state["question"]["resume_key"] == "decisions"
        assert state["question"]["message"] == {"calls": [{"id": "d1", "name": "delete", "arguments": '{"path": "a"}'}]}
        assert results(client.run("/resume/s", {"answer": answer})) == [result]
        state = client.state()
        assert (state["status"], state["question"]) == ("idle", None)
        assert state["turns"] == [{"user": "Hi", "assistant": "Wait. Done."}]
        again = client.post("/resume/s", {"answer": answer})
        assert again.status_code == 409


WRONG: list[tuple[Any, str]] = [
    ("yes", "the answer is a decision for each call"),
    ({}, "the answer must decide about exactly these calls: d1"),
    ({"d1": True, "d2": True}, "the answer must decide about exactly these calls: d1"),
    ({"d1": "yes"}, "a decision about a tool call is True, False"),
    ({"d1": {"approve": True, "arguments": []}}, "`arguments` of a decision is an object"),
]


def test_an_answer_that_is_no_decision(folder: Path, simulator: Simulator) -> None:
    app = create_app("p", provider=provider_at(simulator, "openai"), prompts_dir=folder)
    with serving(app) as url, Client(url) as client:
        client.run("/start", {"prompt": "Hi", "session_id": "s"})
        for answer, says in WRONG:
            refused = client.post("/resume/s", {"answer": answer})
            assert (refused.status_code, says in refused.json()["detail"]) == (400, True), refused.text
        assert client.state()["status"] == "waiting"
        assert not (folder / "log").exists()


def test_a_message_instead_of_a_decision(folder: Path, simulator: Simulator) -> None:
    app = create_app("p", provider=provider_at(simulator, "openai"), prompts_dir=folder)
    with serving(app) as url, Client(url) as client:
        client.run("/start", {"prompt": "Hi", "session_id": "s"})
        client.run("/start", {"prompt": "Never mind", "session_id": "s"})
        state = client.state()
        assert state["turns"] == [{"user": "Hi", "assistant": "Wait. "}]
        assert state["status"] == "waiting"  # the script asks again
        assert not (folder / "log").exists()


def test_a_decision_is_used_once_although_the_run_fails(folder: Path) -> None:
    with Simulator([CALL, Answer.of("Cut", cut=0)]) as simulator:
        app = create_app("p", provider=provider_at(simulator, "openai"), prompts_dir=folder)
        with serving(app) as url, Client(url) as client:
            client.run("/start", {"prompt": "Hi", "session_id": "s"})
            messages = client.run("/resume/s", {"answer": True})
            assert any(one.get("type") == "StreamInterrupted" for one in messages)
            assert client.post("/resume/s", {"answer": True}).status_code == 409
    assert (folder / "log").read_text("utf-8") == "a"


def test_each_step_counts_as_a_model_call(folder: Path) -> None:
    (folder / "p.yaml").write_text('user: "{message}"\ntools: [{python: "functions.py:again"}]\n', "utf-8")
    (folder / "functions.py").write_text("def again() -> int:\n    return 1\n", "utf-8")
    with Simulator(Answer(calls=[PlannedCall("again")])) as simulator:
        limits = RunLimits(max_model_calls=3)
        app = create_app("p", provider=provider_at(simulator, "openai"), prompts_dir=folder, limits=limits)
        with serving(app) as url, Client(url) as client:
            messages = client.run("/start", {"prompt": "Hi", "session_id": "s"})
            assert any(one.get("type") == "RunLimitReached" for one in messages)
        assert len(simulator.requests) == 3
