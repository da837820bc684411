"""Kill workers that run an agent with kill -9 at random times, and check that no saved result is computed again.

    python -m tests.agent_kill_trials sqlite [RUNS [SEED]]
    python -m tests.agent_kill_trials redis [RUNS [SEED]]
    python -m tests.agent_kill_trials postgres [RUNS [SEED]]

A run is one thread of a graph with an agent that calls tools in three answers, one of them only with approval. Its
forked processes are killed, except the last. Each call notes in a file that it begins. Checked from outside: a call
whose result was saved when a worker began does not run in it, a call that is not idempotent runs at most once, an
idempotent one has its own result, and every run ends with a result for each call.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio

from streamcore import Chunk, ToolCall, stream_graph_with_tokens
from streamcore.checkpoints import open_checkpointer
from streamcore.request import Request
from streamcore.testing import ScriptedProvider
from tests.graphs import write_graph
from tests.kill_trials import Instant, in_a_fork
from tests.servers import open_store

MOST_KILLS = 6
"""The largest number of workers of a run that are killed; the next one is not."""
ANSWERS = [["once", "again", "once"], ["once", "careful"], ["again", "once"]]
"""The tools that each answer calls; the next answer is the last."""
GRAPH = """
    name: agents
    tools:
      once: {type: python, module: tests.agent_kill_trials, function: once}
      again: {type: python, module: tests.agent_kill_trials, function: again, idempotent: true}
      careful: {type: python, module: tests.agent_kill_trials, function: careful}
    nodes:
      helper: {type: agent, prompt: say, tools: [once, again, careful], approve: [careful], state_key: answer}
    edges: [{from: START, to: helper}, {from: helper, to: END}]
"""


async def once(key: str) -> str:
    """Do something that may be done once."""
    return await _note(key)


async def again(key: str) -> str:
    """Do something that may be done again."""
    return await _note(key)


async def careful(key: str) -> str:
    """Do something that a person approves."""
    return await _note(key)


async def _note(key: str) -> str:
    calls = os.open(os.environ["CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(calls, f"{key}\n".encode())
    os.close(calls)
    await anyio.sleep(random.uniform(0, 0.003))
    return f"did {key}"


def answer(request: Request) -> list[Any]:
    """Return the next answer of the model: how many there were is in the conversation."""
    number = sum(message.role == "assistant" for message in request.messages)
    if number == len(ANSWERS):
        return [Chunk("start"), 0.001, "All ", 0.001, "done.", Chunk("finish", finish_reason="stop")]
    calls = [
        Chunk(
            "tool_call",
            tool_call=ToolCall(
                f"call{number}{position:03}", name, json.dumps({"key": f"{number}.{position} {name}"}), position
            ),
        )
        for position, name in enumerate(ANSWERS[number])
    ]
    return [Chunk("start"), 0.001, *calls, 0.001, Chunk("finish", finish_reason="tool_calls")]


class Trials:
    """Runs of one graph on one store, and their results."""

    def __init__(self, path: Path, store: Mapping[str, Any], seed: int) -> None:
        self._path = path
        self._store = store
        self._random = random.Random(seed)
        self.kills = 0
        self.interrupted = 0
        self.asked = 0

    def run(self, runs: int) -> None:
        self._share_imports()
        began = time.monotonic()
        lines = len(self._worker("measured", None, resume=None))
        whole = time.monotonic() - began
        for number in range(runs):
            instants: list[Instant | None] = [
                (self._random.uniform(0, whole), 0)
                if self._random.random() < 0.5
                else (self._random.uniform(0, 0.004), self._random.randrange(1, lines + 1))
                for _ in range(MOST_KILLS)
            ]
            self._one(f"thread-{number}", [*instants, None, None])

    def _share_imports(self) -> None:
        """Run the graph here once, so that the forks have everything imported."""

        async def run() -> None:
            async for _ in stream_graph_with_tokens(
                self._path, {}, {"provider": ScriptedProvider(answer), "model": "m"}
            ):
                pass

        open_checkpointer(self._store)
        asyncio.run(run())

    def _one(self, thread: str, instants: list[Instant | None]) -> None:
        counts: Counter[str] = Counter()
        for kill_at in instants:
            saved = self._saved(thread)
            if saved is not None and not saved["next"] and saved["asked"] is None:
                break
            done = _results(saved)
            resume = True if saved is not None and saved["asked"] is not None else None
            self.asked += resume is not None
            Path(os.environ["CALLS"]).write_text("", "utf-8")
            self._worker(thread, kill_at, resume=resume)
            ran = Counter(Path(os.environ["CALLS"]).read_text("utf-8").splitlines())
            counts += ran
            assert not [key for key in ran if f"did {key}" in done], f"{thread}: {ran} after {done}"
        saved = self._saved(thread) or {}
        assert saved["next"] == [], f"{thread}: it has not ended: {saved['next']}"
        assert saved["asked"] is None, f"{thread}: it waits for {saved['asked']}"
        assert saved["state"]["answer"] == "All done.", saved["state"]
        results = [message for message in saved["state"]["messages"] if message["role"] == "tool"]
        wanted = [
            f"{number}.{position} {name}" for number, names in enumerate(ANSWERS) for position, name in enumerate(names)
        ]
        assert len(results) == len(wanted), results
        for key, result in zip(wanted, results, strict=True):
            again_allowed = key.endswith("again")
            assert counts[key] <= 1 or again_allowed, f"{thread}: {key} ran {counts[key]} times"
            if again_allowed or "Interrupted" not in result["content"]:
                assert result["content"] == f"did {key}", result
            else:
                self.interrupted += 1

    def _worker(self, thread: str, kill_at: Instant | None, *, resume: Any) -> list[str]:
        """Run the graph in a separate process, kill it at a given time, and return what it printed."""

        async def work(say: Callable[[str], None]) -> None:
            config = {
                "thread_id": thread,
                "checkpointer": self._store,
                "provider": ScriptedProvider(answer),
                "model": "m",
                "resume": resume,
            }
            async for event in stream_graph_with_tokens(self._path, {}, config):
                say(json.dumps(event))

        lines = in_a_fork(work, kill_at)
        self.kills += not any('"type": "graph_complete"' in line or '"type": "interrupt"' in line for line in lines)
        return lines

    def _saved(self, thread: str) -> dict[str, Any] | None:
        async def look(say: Callable[[str], None]) -> None:
            saved = await open_checkpointer(self._store).load(f"agents/{thread}")
            say(json.dumps(dict(saved.data) if saved else None))

        (line,) = in_a_fork(look, None)
        found: dict[str, Any] | None = json.loads(line)
        return found


def _results(saved: Mapping[str, Any] | None) -> set[str]:
    """Return the results that a checkpoint has."""
    kept = (saved or {}).get("agents", {}).get("helper")
    messages: list[Mapping[str, Any]] = kept["state"]["messages"] if kept is not None else []
    return {message["content"] for message in messages if message["role"] == "tool"}


def main() -> None:
    """Run the trials and print the results; a failed assertion ends them."""
    kind, runs, seed = (*sys.argv[1:], *("sqlite", "50", "1")[len(sys.argv) - 1 :])[:3]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["CALLS"] = str(folder / "calls")
        store = open_store(kind, folder, stack)
        trials = Trials(write_graph(folder, GRAPH, say="Hello"), store, int(seed))
        trials.run(int(runs))
    print(
        f"{runs} runs on {kind}: {trials.kills} workers killed, {trials.interrupted} calls interrupted, "
        f"{trials.asked} approvals"
    )


if __name__ == "__main__":
    main()
