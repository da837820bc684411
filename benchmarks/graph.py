"""Measure what a graph adds to a token, and that a wide map keeps its order.

The source is a list in memory, so that nothing but the layers above a stream is measured. CPU of this process,
microseconds per token, medians of rounds that take turns.

    python benchmarks/graph.py [--tokens 20000] [--rounds 7] [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

from streamcore import Chunk, Graph, Request, load_graph, stream_graph_with_tokens, stream_node_output, stream_prompt

TARGET = 3.0
ITEMS = 100
GRAPH = """
prompts_relative: true
nodes:
  one: {prompt: count}
  each: {type: map, over: "{state.items}", as: item, node: {prompt: echo, state_key: said}}
edges:
  - {from: START, to: one}
"""


class Source:
    """Yield one token for each read, or, for a numbered prompt, wait according to its number and answer with it."""

    name = "source"

    def __init__(self, tokens: int) -> None:
        self._reads = [[Chunk("text", "token ")] for _ in range(tokens)]

    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Yield the reads."""
        asked = request.messages[-1].text
        if asked.startswith("item "):
            for _ in range(ITEMS - int(asked[5:])):  # later items are ready sooner
                await asyncio.sleep(0)
            yield [Chunk("text", asked)]
        else:
            for read in self._reads:
                yield read
        yield [Chunk("finish", finish_reason="stop")]

    async def aclose(self) -> None:
        """Do nothing."""


async def bare(source: Source, graph: Graph) -> None:
    """Iterate over the text of the prompt's stream itself."""
    stream = stream_prompt("count", provider=source, graph_path=graph.path)
    async with stream:
        async for _ in stream.text():
            pass


async def events(source: Source, graph: Graph) -> None:
    """Iterate over the events of a graph that has the prompt as its one node."""
    async for _ in stream_graph_with_tokens(graph, None, {"provider": source}):
        pass


async def node(source: Source, graph: Graph) -> None:
    """Iterate over the text of that node."""
    async for _ in stream_node_output(graph, "one", None, {"provider": source}):
        pass


async def order(source: Source, folder: Path) -> bool:
    """Return True if a map over many simultaneous items returns its results in the order of the items."""
    path = folder / "map.yaml"
    path.write_text(
        GRAPH.replace("START, to: one", "START, to: each").replace("as: item", f"as: item, max_concurrency: {ITEMS}")
    )
    state = {"items": list(range(ITEMS))}
    done = [event async for event in stream_graph_with_tokens(path, state, {"provider": source})][-1]
    assert done["type"] == "graph_complete"
    results: list[object] = done["state"]["each"]
    texts = [f"item {number}" for number in range(ITEMS)]
    return results == [{"said": text, "value": text, "_map_index": number} for number, text in enumerate(texts)]


def measure(tokens: int, rounds: int) -> bool:
    """Print the table; return whether every target is met."""
    source = Source(tokens)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "graph.yaml").write_text(GRAPH)
        (folder / "count.yaml").write_text("user: Count.")
        (folder / "echo.yaml").write_text("user: item {item}")
        graph = load_graph(folder / "graph.yaml")
        runs: dict[str, Callable[[], Awaitable[None]]] = {
            "text of the stream": lambda: bare(source, graph),
            "events of the graph": lambda: events(source, graph),
            "text of the node": lambda: node(source, graph),
        }
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(rounds + 1):
            for name, run in runs.items():
                gc.collect()
                start = time.process_time()
                asyncio.run(_await(run))
                if number:
                    taken[name].append((time.process_time() - start) / tokens * 1e6)
        kept = asyncio.run(order(source, folder))
    medians = {name: statistics.median(figures) for name, figures in taken.items()}
    for name, figures in taken.items():
        print(f"{name:20} {medians[name]:6.2f} us a token ({min(figures):.2f}-{max(figures):.2f})")
    first, *others = runs
    good = kept
    for name in others:
        added = medians[name] - medians[first]
        good = good and added <= TARGET
        print(f"{name} adds {added:.2f} us, at most {TARGET:g}{'' if added <= TARGET else '  MISSED'}")
    print(f"{ITEMS} items of a map at once: {'in order' if kept else 'OUT OF ORDER'}")
    return good


async def _await(run: Callable[[], Awaitable[None]]) -> None:
    await run()


def main() -> None:
    """Measure; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="fewer tokens and rounds")
    options = parser.parse_args()
    if options.quick:
        options.tokens, options.rounds = 5000, 3
    sys.exit(0 if measure(options.tokens, options.rounds) else 1)


if __name__ == "__main__":
    main()
