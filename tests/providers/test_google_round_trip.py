"""Answer each recorded answer of Gemini: every part goes back as it came, each signature in its own part."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamcore import Completion, StreamcoreError, stream_request
from tests.providers.test_round_trip import next_request
from tests.round_trip import faults
from tests.support import Vendor, ask, require

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "wire" / "vendors" / "gemini"
OWN = Path(__file__).resolve().parents[1] / "recordings"
Json = dict[str, Any]


def streamed_parts(body: bytes) -> list[Json]:
    """Return the parts of candidate 0; neighbouring texts without a signature are one part."""
    parts: list[Json] = []
    for event in events(body):
        for candidate in event.get("candidates", []):
            if candidate.get("index", 0) == 0:
                for part in candidate.get("content", {}).get("parts", []):
                    _add(parts, part)
    return parts


def events(body: bytes) -> Iterator[Json]:
    for block in body.decode("utf-8").replace("\r\n", "\n").split("\n\n"):
        data = "\n".join(line[5:].lstrip() for line in block.split("\n") if line.startswith("data:"))
        if data:
            yield json.loads(data)


def _add(parts: list[Json], part: Json) -> None:
    plain = "text" in part and "thoughtSignature" not in part
    if plain and not part["text"]:
        return
    last = parts[-1] if parts else {}
    if plain and "text" in last and "thoughtSignature" not in last and last.get("thought") == part.get("thought"):
        parts[-1] = {**last, "text": last["text"] + part["text"]}
    else:
        parts.append(part)


def answer_of(body: bytes) -> Completion | None:
    stream = stream_request(ask(), provider=Vendor(body).provider("google"), max_retries=0)
    try:
        return asyncio.run(stream.collect())
    except StreamcoreError:
        return None


def wrong(body: bytes) -> list[str]:
    """Return the errors of the request that follows an answer; none if the body is not a whole answer."""
    answer = answer_of(body)
    if answer is None:
        return []
    sent = next_request(answer, "google")
    found = faults("google", sent)
    want = streamed_parts(body)
    if b'"partialArgs"' in body:  # the pieces of a call are put together
        return found
    turns = [turn for turn in sent["contents"] if turn["role"] == "model"]
    got = [part for turn in turns for part in turn["parts"]]
    for part in [*got, *want]:
        if part.get("functionCall"):
            part["functionCall"].setdefault("args", {})
    return found if got == want else [*found, f"{got} was sent, {want} was streamed"]


@pytest.mark.parametrize("recording", sorted(path.stem for path in OWN.glob("google-*.sse")))
def test_every_part_of_an_answer_goes_back(recording: str) -> None:
    assert wrong((OWN / f"{recording}.sse").read_bytes()) == []


@pytest.mark.real
def test_every_part_of_a_recorded_answer_goes_back() -> None:
    if not CORPUS.parents[1].exists():
        pytest.skip("the corpus of recordings is not next to the checkout")
    require(CORPUS.exists(), f"{CORPUS} is missing")
    bodies = {path.stem: path.read_bytes() for path in CORPUS.glob("*.sse")}
    assert {name: bad for name, body in bodies.items() if (bad := wrong(body))} == {}
    assert len(bodies) > 500
