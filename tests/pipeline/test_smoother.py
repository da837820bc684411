"""Test the smoother with a virtual clock: nothing lost, nothing early, nothing late."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from streamcore import Chunk, ConfigError, StreamOptions, ToolCall
from streamcore.pipeline.smoother import Smoother

Emission = tuple[float, Chunk]

OPTIONS = st.builds(
    StreamOptions,
    buffer_size=st.integers(0, 20),
    emit_interval=st.sampled_from([0, 10, 80, 250]),
    boundary=st.sampled_from(["none", "word", "line"]),
    first=st.sampled_from(["immediate", "buffered"]),
)
TEXT = st.text(st.sampled_from("abc \n你好ねこカタ👩\u200d🔬🇨🇭e\u0301"), min_size=1, max_size=8)
KINDS = st.sampled_from(["text", "text", "text", "reasoning", "refusal"])
CHUNK = st.builds(Chunk, KINDS, TEXT, index=st.integers(0, 1), choice=st.integers(0, 1)) | st.just(Chunk("ping"))
READS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.001, 0.03, 0.1, 0.2, 1.0]), st.lists(CHUNK, max_size=4)), max_size=12
)


def play(options: StreamOptions, reads: Sequence[tuple[float, list[Chunk]]], *, end: bool = True) -> list[Emission]:
    """Run reads, each after a pause, ticking at every deadline as the stage does; return what went out when."""
    smoother = Smoother(options)
    now = 0.0
    out: list[Emission] = []

    def until(time: float) -> None:
        nonlocal now
        while smoother.deadline < time:
            now = max(now, smoother.deadline)
            out.extend((now, chunk) for chunk in smoother.tick(now))
        now = time

    for pause, chunks in reads:
        until(now + pause)
        out.extend((now, chunk) for chunk in smoother.feed(chunks, now))
    if end:
        out.extend((now, chunk) for chunk in smoother.flush(now))
    else:
        until(now + 10)
    return out


def like(chunk: Chunk) -> tuple[str, int, int]:
    return chunk.kind, chunk.index, chunk.choice


def joined(chunks: Sequence[Chunk]) -> list[tuple[tuple[str, int, int], str]]:
    """Concatenate neighbours of one kind, index and choice: what smoothing may not change."""
    runs: list[tuple[tuple[str, int, int], str]] = []
    for chunk in chunks:
        if runs and chunk.text and runs[-1][0] == like(chunk):
            runs[-1] = (like(chunk), runs[-1][1] + chunk.text)
        else:
            runs.append((like(chunk), chunk.text))
    return runs


@given(OPTIONS, READS)
def test_nothing_is_lost_merged_or_reordered(options: StreamOptions, reads: list[tuple[float, list[Chunk]]]) -> None:
    given = [chunk for _, chunks in reads for chunk in chunks]
    for end in (True, False):
        assert joined([chunk for _, chunk in play(options, reads, end=end)]) == joined(given)


@given(OPTIONS, READS)
def test_nothing_waits_once_the_source_is_quiet(options: StreamOptions, reads: list[tuple[float, list[Chunk]]]) -> None:
    cap = max(options.emit_interval / 1000, 0.1)
    emitted = play(options, reads, end=False)
    now, given = 0.0, 0
    arrivals: list[tuple[float, int]] = []
    for pause, chunks in reads:
        now += pause
        given += sum(len(chunk.text) for chunk in chunks)
        if any(chunk.text for chunk in chunks):
            arrivals.append((now, given))
    for (arrived, characters), (following, _) in pairwise([*arrivals, (math.inf, 0)]):
        if following > arrived + cap + 1e-9:  # the source was quiet for as long as text may be kept back
            assert sum(len(chunk.text) for time, chunk in emitted if time <= arrived + cap + 1e-9) >= characters


@given(OPTIONS, st.lists(st.tuples(st.sampled_from([0.0, 0.02, 0.15]), TEXT), min_size=1, max_size=12))
def test_nothing_is_emitted_too_early(options: StreamOptions, reads: list[tuple[float, str]]) -> None:
    emitted = play(options, [(pause, [Chunk("text", text)]) for pause, text in reads], end=False)
    for (before, _), (after, _) in pairwise(emitted):
        assert after - before >= options.emit_interval / 1000 - 1e-9
    cap = max(options.emit_interval / 1000, 0.1)
    arrivals = list(accumulate(pause for pause, _ in reads))
    at_once = options.first == "immediate"
    out = 0
    for number, (time, chunk) in enumerate(emitted):
        came = sum(len(text) for arrived, (_, text) in zip(arrivals, reads, strict=True) if arrived <= time + 1e-9)
        quiet = not any(time - cap + 1e-9 < arrived <= time + 1e-9 for arrived in arrivals)
        # What goes is the first text, or was enough, or waited until the source was quiet.
        assert (number == 0 and at_once) or came - out >= options.buffer_size or quiet
        out += len(chunk.text)


@given(OPTIONS, TEXT)
def test_the_first_text_is_emitted_at_once_unless_buffered(options: StreamOptions, text: str) -> None:
    out = Smoother(options).feed([Chunk("text", text)], 5.0)
    if options.first == "immediate":
        assert [chunk.text for chunk in out] == [text]
    elif len(text) < options.buffer_size:
        assert out == []


def test_text_waits_for_size_and_interval() -> None:
    options = StreamOptions(buffer_size=4, emit_interval=50, first="buffered")
    reads = [(0.0, [Chunk("text", "ab")]), (0.01, [Chunk("text", "cd")]), (0.01, [Chunk("text", "efgh")])]
    assert [(round(time, 3), chunk.text) for time, chunk in play(options, reads, end=False)] == [
        (0.01, "abcd"),
        (0.06, "efgh"),
    ]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello wide world", ["Hello wide ", "world"]),
        ("one\ntwo", ["one\n", "two"]),
        ("don't stop", ["don't ", "stop"]),
        ("你好世界", ["你好世", "界"]),  # text without blanks streams, too
        ("カタカナです", ["カタカナで", "す"]),
        ("word", ["word"]),
    ],
)
def test_words_end_at_unicode_word_boundaries(text: str, pieces: list[str]) -> None:
    options = StreamOptions(boundary="word", first="buffered")
    assert [chunk.text for _, chunk in play(options, [(0.0, [Chunk("text", text)])], end=False)] == pieces


def test_lines_are_emitted_whole() -> None:
    options = StreamOptions(boundary="line", first="buffered")
    reads = [(0.0, [Chunk("text", "a\nb")]), (0.01, [Chunk("text", "c\nd\ne")])]
    assert [chunk.text for _, chunk in play(options, reads)] == ["a\n", "bc\nd\n", "e"]


def test_a_line_without_end_is_not_held_for_ever() -> None:
    out = Smoother(StreamOptions(boundary="line", first="buffered")).feed([Chunk("text", "x" * 5000)], 0.0)
    assert [len(chunk.text) for chunk in out] == [5000]


@given(st.lists(TEXT, min_size=1, max_size=8), st.sampled_from(["none", "word"]))
def test_no_complete_grapheme_cluster_is_split(texts: list[str], boundary: Any) -> None:
    options = StreamOptions(boundary=boundary, first="buffered", buffer_size=3)
    whole = "".join(texts)
    emitted = play(options, [(0.0, [Chunk("text", text)]) for text in texts], end=False)
    cuts, seen = set[int](), 0
    for _, chunk in emitted:
        seen += len(chunk.text)
        cuts.add(seen)
    arrivals = {sum(map(len, texts[: n + 1])) for n in range(len(texts))}
    inside = {n for match in regex.finditer(r"\X", whole) for n in range(match.start() + 1, match.end())}
    assert not (cuts & inside) - arrivals


def test_a_joined_emoji_waits_for_its_other_half() -> None:
    options = StreamOptions(first="buffered")
    reads = [(0.0, [Chunk("text", "a👩\u200d")]), (0.01, [Chunk("text", "🔬b")])]
    assert [chunk.text for _, chunk in play(options, reads, end=False)] == ["a", "👩\u200d🔬b"]
    assert [chunk.text for _, chunk in play(options, reads[:1], end=False)] == ["a", "👩\u200d"]


def test_other_chunks_are_emitted_at_once_after_the_delayed_text() -> None:
    options = StreamOptions(buffer_size=100, first="buffered")
    call = Chunk("tool_call", tool_call=ToolCall("1", "f"))
    usage = Chunk("usage")
    out = Smoother(options).feed([Chunk("text", "a"), Chunk("text", "b"), call, Chunk("reasoning", "c"), usage], 0.0)
    assert [(chunk.kind, chunk.text) for chunk in out] == [
        ("text", "ab"),
        ("tool_call", ""),
        ("reasoning", "c"),
        ("usage", ""),
    ]


def test_metadata_has_pieces_and_time() -> None:
    options = StreamOptions(buffer_size=100, first="buffered", include_metadata=True)
    reads = [(0.0, [Chunk("text", "a")]), (0.05, [Chunk("text", "b")])]
    ((time, chunk),) = play(options, reads, end=False)
    assert (round(time, 3), chunk.text, chunk.data) == (0.15, "ab", {"pieces": 2, "held_ms": 150.0})


def test_an_idle_smoother_needs_no_timer() -> None:
    smoother = Smoother(StreamOptions(buffer_size=3))
    assert smoother.deadline == math.inf
    smoother.feed([Chunk("text", "abc")], 0.0)
    assert smoother.deadline == math.inf


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        ({"buffer_size": -1}, "buffer_size"),
        ({"buffer_size": True}, "buffer_size"),
        ({"emit_interval": math.inf}, "emit_interval"),
        ({"boundary": "page"}, "'none', 'word' or 'line'"),
        ({"first": "never"}, "'immediate' or 'buffered'"),
        ({"include_metadata": 1}, "true or false"),
        ({"size": 1}, "known are buffer_size"),
    ],
)
def test_invalid_options_raise(options: dict[str, Any], reported: str) -> None:
    with pytest.raises(ConfigError, match=reported):
        StreamOptions.of(options)
