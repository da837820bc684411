"""Measure how the work grows with the size of the input: for hostile input, too, it must be linear.

    python benchmarks/growth.py

Prints the processor time of each case at 1, 2, 4 and 8 times its size; 8 times the size should take about 8 times as
long. `tests/test_growth.py` limits the ratio.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import httpx2

from streamcore.base.redact import redact
from streamcore.completion import Fold
from streamcore.files.yaml_file import parse_yaml
from streamcore.graph.expressions import resolve
from streamcore.net.http_errors import response_error
from streamcore.structured.json_text import GrowingJson, documents, unfenced, without_thinking
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.decoder import StreamDecoder, Vocabulary
from streamcore_anthropic.wire import AnthropicVocabulary

Case = Callable[[int], object]
READ = 65536
KEY = "PLANTED-key-0123456789"


def _decode(*choices: Mapping[str, object]) -> int:
    """Decode one event for each choice; return the number of chunks."""
    return _events(ChatVocabulary(), ({"id": "a", "choices": [choice]} for choice in choices))


def _events(vocabulary: Vocabulary, events: Iterable[Mapping[str, object]]) -> int:
    """Decode events, and fold their chunks; return the number of chunks."""
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    decoder, fold, count = StreamDecoder(vocabulary), Fold(), 0
    for at in range(0, len(body), READ):
        chunks = decoder.feed(body[at : at + READ])
        fold.add(chunks)
        count += len(chunks)
    fold.add(decoder.flush())
    fold.completion(complete=False)
    return count


def _deltas(size: int, delta: Callable[[int], Mapping[str, object]]) -> int:
    return _decode(*({"index": 0, "delta": delta(number)} for number in range(size)))


def _call(size: int, **fixed: object) -> int:
    def delta(number: int) -> Mapping[str, object]:
        call = {"function": {"name": "f", "arguments": '{"a": "' if not number else "x" * 20}, "index": 0, **fixed}
        return {"tool_calls": [call]}

    return _deltas(size, delta)


def _messages(size: int, block: Mapping[str, object], delta: Mapping[str, object], *, many: bool = False) -> int:
    """Decode Anthropic's events: one content block with many deltas, or many blocks with one."""
    message: dict[str, object] = {
        "id": "a",
        "model": "m",
        "role": "assistant",
        "content": [],
        "usage": {"input_tokens": 1},
    }
    events: list[Mapping[str, object]] = [{"type": "message_start", "message": message}]
    for number in range(size):
        index = number if many else 0
        if many or not number:
            events.append({"type": "content_block_start", "index": index, "content_block": block})
        events.append({"type": "content_block_delta", "index": index, "delta": delta})
        if many:
            events.append({"type": "content_block_stop", "index": index})
    return _events(AnthropicVocabulary(request_id=None), events)


def _refused(body: str) -> str:
    request = httpx2.Request("POST", "https://vendor.test/v1", headers={"Authorization": f"Bearer {KEY}"})
    response = httpx2.Response(400, request=request, text=body)
    return str(response_error(response, body, provider="p", model="m"))


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
    "citations": (
        500,
        lambda size: _deltas(
            size, lambda n: {"content": "a", "annotations": [{"type": "url_citation", "url": f"https://a.test/{n}"}]}
        ),
    ),
    "surrogates in two events": (
        500,
        lambda size: _deltas(size, lambda n: {"content": ("\ud83d", "\ude00")[n % 2]}),
    ),
    "surrogates alone": (500, lambda size: _deltas(size, lambda _: {"content": "\ud83d"})),
    "surrogates in arguments": (
        500,
        lambda size: _deltas(
            size, lambda _: {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "\ud83d"}}]}
        ),
    ),
    "anthropic: text": (
        500,
        lambda size: _messages(size, {"type": "text", "text": ""}, {"type": "text_delta", "text": "token "}),
    ),
    "anthropic: blocks": (
        300,
        lambda size: _messages(size, {"type": "text", "text": ""}, {"type": "text_delta", "text": "token "}, many=True),
    ),
    "anthropic: arguments": (
        500,
        lambda size: _messages(
            size,
            {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            {"type": "input_json_delta", "partial_json": "1234567"},
        ),
    ),
    "anthropic: thinking": (
        500,
        lambda size: _messages(
            size, {"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "token "}
        ),
    ),
    "anthropic: citations": (
        500,
        lambda size: _messages(
            size,
            {"type": "text", "text": ""},
            {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "text"}},
        ),
    ),
    "YAML keys": (150, lambda size: _yaml("".join(f"key{n}: value\n" for n in range(size)))),
    "YAML items": (300, lambda size: _yaml("[" + "a, " * size + "]")),
    "YAML lines": (500, lambda size: _yaml("a: >\n" + "  folded\n" * size)),
    "YAML escapes": (500, lambda size: _yaml('a: "' + "\\u0041\\\n  " * size + '"')),
    "sandbox: in": (2000, lambda size: resolve("{1 in items}", {"items": [0] * size})),
    "sandbox: filters": (
        1000,
        lambda size: resolve("{items | map('upper') | join(',') | length}", {"items": ["a"] * size}),
    ),
    "redact: beginnings of a key": (2000, lambda size: redact(KEY[:12] * size, [KEY])),
    "redact: keys": (2000, lambda size: redact(f"{KEY} " * size, [KEY])),
    "redact: shapes": (2000, lambda size: redact("sk-" * size + "Bearer " * size + "eyJaaaaaa." * size)),
    "redact: labels": (2000, lambda size: redact("?key" * size + "password=" * size + "://a" * size)),
    "error bodies": (5000, lambda size: _refused(f"bad key {KEY} " * (size // 30))),
    "error bodies, nested": (100, lambda size: _refused("[" * size + "]" * size)),
}
"""The size at 1x, and the function to call with a size."""


def _yaml(text: str) -> object:
    return parse_yaml(Path("growth.yaml"), text.encode(), ValueError).data


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
