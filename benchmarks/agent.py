"""Measure what an agent's loop adds to a run and to a token, next to the runners of vendors, pydantic-ai and LangChain.

    python benchmarks/agent.py            all; the peers get environments of their own under .bench
    python benchmarks/agent.py --quick    streamcore only

Each run has two answers and one call of a tool between them, against the simulator in another process. The second
answer repeats the tool's result, so its length is that of the result: the CPU time of long answers less that of short
ones is the cost of a token, and the rest is the cost of a run with two requests. The median of several runs counts; all
contestants are measured in turn. Exit code 1 if the agent's loop costs more than the limits below next to two requests
by hand.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.peers.contestants import Contestant  # noqa: E402
from benchmarks.peers.environments import prepare  # noqa: E402

SHORT, LONG = 20, 1020
MOST_PER_TOKEN = 1.5
"""How many times the cost of a token by hand a token of an agent may cost."""
MOST_PER_RUN = 2.0
"""The same for a run."""


@dataclass(frozen=True, slots=True)
class Runner:
    """One way to run an agent."""

    module: str
    title: str
    wires: tuple[str, ...]
    requires: tuple[str, ...] = ()

    @property
    def contestant(self) -> Contestant:
        """What its environment is made from."""
        return Contestant(f"agent-{self.module}", self.title, "peer", self.module, requires=self.requires)


RUNNERS = (
    Runner("loop", "two requests by hand, streamcore", ("openai", "anthropic")),
    Runner("streamcore_agent", "streamcore, stream_agent", ("openai", "anthropic")),
    Runner("anthropic_runner", "Anthropic's tool runner", ("anthropic",)),
    Runner("openai_agents", "OpenAI Agents SDK", ("openai",), ("openai-agents==0.24.0", "openai==3.57.0")),
    Runner(
        "pydantic_ai_agent",
        "pydantic-ai",
        ("openai", "anthropic"),
        ("pydantic-ai-slim[openai,anthropic]==2.68.0", "openai==3.57.0", "anthropic==2.13.0"),
    ),
    Runner(
        "langchain_agent",
        "LangChain, create_agent",
        ("openai", "anthropic"),
        ("langchain==1.5.2", "langchain-openai==1.7.4", "langchain-anthropic==1.7.10", "langchain-core==1.8.3"),
    ),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run costs, in microseconds of CPU time."""

    token: float
    run: float


def measure(runner: Runner, wire: str, root: str, runs: int) -> Cost:
    """Run an agent in its own environment."""
    worker = ROOT / "benchmarks" / "agents" / "worker.py"
    python = runner.contestant.python(ROOT / ".bench")
    command = [str(python), str(worker), runner.module, wire, root, str(SHORT), str(LONG), str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{runner.title} on {wire} failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    short, long = found[str(SHORT)], found[str(LONG)]
    tokens = long["pieces"] - short["pieces"]
    assert tokens >= (LONG - SHORT) * 0.9, f"{runner.title} on {wire} yielded {tokens} more tokens, not {LONG - SHORT}"
    low, high = statistics.median(short["seconds"]), statistics.median(long["seconds"])
    token = (high - low) / tokens * 1e6
    return Cost(token, low * 1e6 - token * short["pieces"])


def main() -> None:
    """Measure, print a table for each wire, and hold the limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="streamcore only, fewer runs")
    quick = parser.parse_args().quick
    runners = [one for one in RUNNERS if not (quick and one.requires)]
    for runner in runners:
        reason = prepare(runner.contestant, ROOT / ".bench")
        if reason is not None:
            raise SystemExit(f"{runner.title}: {reason}")
    simulator = subprocess.Popen(
        [sys.executable, "-m", "streamcore.testing"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    missed = False
    try:
        assert simulator.stdout is not None
        root = simulator.stdout.readline().strip()
        for wire in ("openai", "anthropic"):
            costs = {one.module: measure(one, wire, root, 5 if quick else 15) for one in runners if wire in one.wires}
            print(f"\n{wire}: two answers and one call; microseconds of CPU time, and next to streamcore's agent")
            ours, by_hand = costs["streamcore_agent"], costs["loop"]
            for runner in runners:
                if runner.module in costs:
                    cost = costs[runner.module]
                    print(
                        f"  {runner.title:34} a token {cost.token:8.1f} ({cost.token / ours.token:5.2f}x)"
                        f"   a run {cost.run:9.0f} ({cost.run / ours.run:5.2f}x)"
                    )
            missed |= ours.token > by_hand.token * MOST_PER_TOKEN or ours.run > by_hand.run * MOST_PER_RUN
    finally:
        simulator.kill()
        simulator.wait()
    if missed:
        raise SystemExit(f"missed a limit: {MOST_PER_TOKEN}x a token, {MOST_PER_RUN}x a run by hand")


if __name__ == "__main__":
    main()
