"""Measure how the work grows with the size of the input: for hostile input, too, it must be linear.

    python benchmarks/growth.py

Prints the processor time of each case at 1, 2, 4 and 8 times its size; 8 times the size should take about 8 times as
long. `tests/test_growth.py` limits the ratio.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

from streamcore.graph.expressions import resolve
from streamcore.structured.json_text import GrowingJson, documents, unfenced, without_thinking
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.decoder import StreamDecoder

Case = Callable[[int], object]
READ = 65536


def _decode(*choices: Mapping[str, object]) -> int:
    """Decode one event for each choice; return the number of chunks."""
    body = b"".join(b"data: " + json.dumps({"id": "a", "choices": [choice]}).encode() + b"\n\n" for choice in choices)
    decoder = StreamDecoder(ChatVocabulary())
    return sum(len(decoder.feed(body[at : at + READ])) for at in range(0, len(body), READ)) + len(decoder.flush())


def _deltas(size: int, delta: Callable[[int], Mapping[str, object]]) -> int:
    return _decode(*({"index": 0, "delta": delta(number)} for number in range(size)))


def _call(size: int, **fixed: object) -> int:
    def delta(number: int) -> Mapping[str, object]:
        call = {"function": {"name": "f", "arguments": '{"a": "' if not number else "x" * 20}, "index": 0, **fixed}
        return {"tool_calls": [call]}

    return _deltas(size, delta)


def _grow(text: str, step: int = 5) -> None:
    growing = GrowingJson()
    for at in range(0, len(text), step):
        growing.add(text[at : at + step])


CASES: Mapping[str, tuple[int, Case]] = {
    "text": (1000, lambda size: _deltas(size, lambda _: {"content": "token "})),
    "many calls": (
        500,
        lambda size: _deltas(
            size,
            lambda n: {"tool_calls": [{"index": n, "id": f"c{n}", "function": {"name": "f", "arguments": "{}"}}]},
        ),
    ),
    "the name with every fragment": (500, _call),
    "reasoning details": (
        500,
        lambda size: _deltas(
            size, lambda _: {"reasoning_details": [{"type": "reasoning.text", "text": "token " * 20, "index": 0}]}
        ),
    ),
    "reasoning details of many indexes": (
        500,
        lambda size: _deltas(
            size, lambda n: {"reasoning_details": [{"type": "reasoning.text", "text": "token ", "index": n}]}
        ),
    ),
    "many finishes": (
        500,
        lambda size: _decode(*({"index": n, "delta": {"content": "a"}, "finish_reason": "stop"} for n in range(size))),
    ),
    "fences": (20_000, lambda size: unfenced("~" * size + "\n" + "~" * size + "x")),
    "broken documents": (20_000, lambda size: list(documents('{"a": x} ' * (size // 9)))),
    "think tags in a document": (2000, lambda size: without_thinking('[{"a": "<think>"}]' * size)),
    "growing JSON": (40_000, lambda size: _grow('{"a": "' + "x" * size + '"}')),
    "growing broken JSON": (40_000, lambda size: _grow('{"a": x} ' * (size // 9))),
    "blanks in an expression": (100_000, lambda size: resolve("say {{" + " " * size + "x", {})),
    "braces in an expression": (20_000, lambda size: resolve("{{ " * size, {})),
}
"""The size at 1x, and the function to call with a size."""


def seconds(case: Case, size: int) -> float:
    """Return the processor time of a call, the least of three."""
    found: list[float] = []
    for _ in range(3):
        before = time.process_time()
        case(size)
        found.append(time.process_time() - before)
    return min(found)


def main() -> None:
    """Print a line for each case."""
    for name, (size, case) in CASES.items():
        times = [seconds(case, size * factor) for factor in (1, 2, 4, 8)]
        columns = " ".join(f"{one * 1000:9.1f} ms" for one in times)
        print(f"{name:36}{columns}   8x the size: {times[-1] / max(times[0], 1e-6):5.1f}x")


if __name__ == "__main__":
    main()
