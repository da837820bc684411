"""Send recorded bodies through the real providers: each gives its content, however the network cuts it."""

from __future__ import annotations

import asyncio
import importlib.util
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import Completion, stream_request
from tests.support import Vendor, ask, require
from tests.wire_adapter import PROVIDERS, read

SHARED = Path(__file__).resolve().parents[3] / "shared"
RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"
HANDFUL = {
    "anthropic-thinking-and-tool": "anthropic",
    "openai-text": "openai",
    "openai-responses-reasoning-and-call": "openai-responses",
    "mistral-thinking": "mistral",
    "google-thought-and-calls": "google",
    "openrouter-reasoning": "openrouter",
    "bedrock-thinking-and-tool": "bedrock",
}
FEWEST = {
    "anthropic-messages": 100,
    "openai-chat": 180,
    "openai-responses": 80,
    "mistral-chat": 20,
    "gemini": 500,
    "bedrock-converse": 60,
    "bedrock-invoke": 140,
}
SPLITS = {"gemini": "vendors", "bedrock-converse": "vendors", "bedrock-invoke": "vendors"}


@pytest.fixture(scope="module")
def check() -> ModuleType:
    """The checker of the corpus, which is next to the checkout where the project is developed."""
    if not SHARED.exists():
        pytest.skip("the corpus of recordings is not next to the checkout")
    path = SHARED / "wire" / "check.py"
    require(path.exists(), f"{path} is missing")
    spec = importlib.util.spec_from_file_location("wire_check", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def failing(check: ModuleType, split: str, wire: str) -> tuple[int, list[str]]:
    """Return how many bodies there are, and those that are read wrongly."""
    wrong: list[str] = []
    count = 0
    for meta in check.load(split):
        if meta["wire"] == wire:
            count += 1
            got: dict[str, Any] = await read(wire, meta["_body"].read_bytes())
            if meta["expected"]["finish_reason_raw"] == "MALFORMED_FUNCTION_CALL":  # a reason that means failure
                bad = [] if "MALFORMED_FUNCTION_CALL" in str(got["error"]) else ["error"]
            elif "bad_json" in meta["features"]:  # the checker reads over it; we say so and stop
                bad = [] if str(got["error"]).startswith("MalformedStream") else ["error"]
            else:
                bad = check.compare(meta["expected"], got, meta)
            if bad:
                wrong.append(f"{meta['id']} ({meta['provider']}): {', '.join(bad)}; {got['error']}")
    return count, wrong


@pytest.mark.real
@pytest.mark.parametrize(
    "wire", [pytest.param(wire, marks=pytest.mark.long) if wire in SPLITS else wire for wire in FEWEST]
)
def test_every_recording_is_read_as_it_should_be(check: ModuleType, wire: str) -> None:
    count, wrong = asyncio.run(failing(check, SPLITS.get(wire, "recordings"), wire))
    assert wrong == []
    assert count >= FEWEST[wire]


@pytest.mark.real
@pytest.mark.parametrize("wire", FEWEST)
def test_every_body_made_by_hand_is_read_as_it_should_be(check: ModuleType, wire: str) -> None:
    split = "vendors_handmade" if wire in SPLITS else "handmade"
    _, wrong = asyncio.run(failing(check, split, wire))
    assert wrong == []


def body_of(recording: str) -> bytes:
    (path,) = RECORDINGS.glob(f"{recording}.*")
    return path.read_bytes()


def answer_to(recording: str, pieces: list[bytes]) -> Completion:
    """Return the answer that a recording gives in these pieces."""
    provider = Vendor(*pieces).provider(HANDFUL[recording])
    return asyncio.run(stream_request(ask(), provider=provider).collect())


@cache
def whole_answer(recording: str) -> Completion:
    """Return the answer that a recording gives in one piece."""
    return answer_to(recording, [body_of(recording)])


@pytest.mark.parametrize("recording", HANDFUL)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_body_cut_anywhere_gives_the_same_answer(recording: str, data: st.DataObject) -> None:
    body = body_of(recording)
    cuts = sorted(set(data.draw(st.lists(st.integers(1, len(body) - 1), max_size=40))))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert b"".join(pieces) == body
    assert answer_to(recording, pieces) == whole_answer(recording)


@pytest.mark.parametrize("recording", HANDFUL)
def test_a_body_that_comes_byte_by_byte_gives_the_same_answer(recording: str) -> None:
    body = body_of(recording)
    assert answer_to(recording, [bytes([byte]) for byte in body]) == whole_answer(recording)


@pytest.mark.parametrize("recording", [name for name in HANDFUL if not name.startswith("bedrock")])
@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_other_line_ends_give_the_same_answer(recording: str, end: bytes) -> None:
    body = body_of(recording)
    other = body.replace(b"\n", end)
    half = len(other) // 2
    assert answer_to(recording, [other[:half], other[half:]]) == answer_to(recording, [body])


def test_each_wire_is_in_the_handful() -> None:
    known = Counter(HANDFUL.values())
    assert set(PROVIDERS.values()) <= set(known)
    assert sum(known.values()) == len({*HANDFUL})
