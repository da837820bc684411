"""Split what models write between think tags from their text, however the tags were cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from streamcore import Chunk, Completion, StreamInterrupted, stream_prompt, stream_request
from streamcore.completion import Fold
from streamcore.pipeline.think_tags import ThinkTagSplitter
from streamcore.request import ThinkTags
from streamcore.structured.json_text import NOTHING, GrowingJson, documents, without_thinking
from tests.support import Vendor, ask

ANSWERS = [
    ("<think>hm</think>Hello", "Hello", "hm"),
    ("hm</think>Hello", "Hello", "hm"),
    ("Hello", "Hello", ""),
    ("a < b <thin", "a < b <thin", ""),
    ("\n<think>a</think>b<think>c</think>d", "\nbd", "ac"),
    ("</think>Hello", "Hello", ""),
    ("<think>open", "", "open"),
    ("<think>a</think>b</think>c", "b</think>c", "a"),
    ("<think>a <think> b</thi</think>c", "c", "a <think> b</thi"),
]


def body(*texts: str, ended: bool = True) -> bytes:
    events: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    events += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}] if ended else []
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def split(texts: list[str], *, ended: bool = True) -> tuple[Completion, list[Chunk]]:
    tags, fold = ThinkTagSplitter(), Fold()
    out = [chunk for text in texts for chunk in tags.feed([Chunk("text", text=text)])]
    fold.add(out)
    middle = fold.completion(complete=False)
    assert "".join(texts).endswith(middle.text[-1:])  # withheld text is in the partial answer
    rest = tags.feed([Chunk("finish", finish_reason="stop")]) if ended else tags.end()
    fold.add(rest)
    return fold.completion(complete=ended), out + rest


@pytest.mark.parametrize(("text", "answer", "reasoning"), ANSWERS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_tags_cut_anywhere_are_split_off(text: str, answer: str, reasoning: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1))))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    found, chunks = split(pieces, ended=data.draw(st.booleans()))
    assert (found.text, found.reasoning) == (answer, reasoning)
    assert "".join(chunk.text for chunk in chunks if chunk.kind == "text") == answer
    assert "".join(chunk.text for chunk in chunks if chunk.kind == "reasoning") == reasoning


@pytest.mark.parametrize(
    ("mode", "text", "answer", "reasoning"),
    [
        ("paired", "Hello", "Hello", ""),
        ("paired", " <think>hm</think>Hello", " Hello", "hm"),
        ("paired", "a</think>b", "a</think>b", ""),
        ("open", "hm</think>Hello", "Hello", "hm"),
        ("open", "hm", "", "hm"),
        ("open", "a</think>b<think>c</think>d", "bd", "ac"),
    ],
)
def test_a_mode_that_defines_the_beginning_streams_at_once(
    mode: ThinkTags, text: str, answer: str, reasoning: str
) -> None:
    tags, fold = ThinkTagSplitter(mode), Fold()
    for letter in text:
        out = tags.feed([Chunk("text", text=letter)])
        if letter not in "<think>/":
            assert out[-1].text.endswith(letter)
        fold.add(out)
    fold.add(tags.end())
    found = fold.completion(complete=False)
    assert (found.text, found.reasoning) == (answer, reasoning)


def test_text_after_the_tags_comes_at_once() -> None:
    tags = ThinkTagSplitter()
    tags.feed([Chunk("text", text="<think>hm</think>")])
    assert [chunk.text for chunk in tags.feed([Chunk("text", text="Hello")])] == ["Hello"]


def test_withheld_text_counts_as_content_and_is_in_the_partial_answer() -> None:
    (chunk,) = ThinkTagSplitter().feed([Chunk("text", text="Hello")])
    assert (chunk.kind, chunk.text) == ("reasoning", "")
    fold = Fold()
    fold.add([chunk])
    assert fold.completion(complete=False).text == "Hello"


def test_each_choice_is_split_for_itself() -> None:
    tags, fold = ThinkTagSplitter(), Fold()
    for choice, text in ((0, "<thi"), (1, "a</thi"), (0, "nk>b</think>c"), (1, "nk>d")):
        fold.add(tags.feed([Chunk("text", text=text, choice=choice)]))
    found = fold.completion(complete=False)
    assert (found.text, found.reasoning) == ("c", "b")
    assert (found.alternatives[0].text, found.alternatives[0].reasoning) == ("d", "a")


@pytest.mark.anyio
async def test_the_provider_and_the_request_can_ask_for_it() -> None:
    vendor = Vendor(body("<th", "ink>hm</th", "ink>Hello"))
    plain = await stream_request(ask(), provider=vendor.provider("vllm")).collect()
    assert plain.text == "<think>hm</think>Hello"
    for provider, request in (
        (vendor.provider("vllm", think_tags=True), ask()),
        (vendor.provider("openai", think_tags=True), ask()),
        (vendor.provider("vllm"), ask(think_tags=True)),
        (vendor.provider("vllm", think_tags="paired"), ask()),
    ):
        answer = await stream_request(request, provider=provider).collect()
        assert (answer.text, answer.reasoning) == ("Hello", "hm")
    off = await stream_request(ask(think_tags=False), provider=vendor.provider("vllm", think_tags=True)).collect()
    assert off.text == plain.text


@pytest.mark.anyio
async def test_a_prompt_can_ask_for_it(tmp_path: Path) -> None:
    (tmp_path / "talk.yaml").write_text("user: Hello\nthink_tags: true\n")
    provider = Vendor(body("hm</think>Hello")).provider("vllm")
    answer = await stream_prompt("talk", provider=provider, prompts_dir=tmp_path).collect()
    assert (answer.text, answer.reasoning) == ("Hello", "hm")


@pytest.mark.anyio
async def test_a_cut_stream_yields_the_delayed_text() -> None:
    provider = Vendor(body("Hello <", ended=False)).provider("vllm", think_tags=True)
    stream = stream_request(ask(), provider=provider, max_retries=0)
    texts: list[str] = []
    with pytest.raises(StreamInterrupted) as caught:
        async for text in stream.text():
            texts.append(text)
    assert "".join(texts) == "Hello <"
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hello <"


# Structured output, with and without the option that splits tags


class Trip(BaseModel):
    city: str


@pytest.mark.parametrize(
    "text",
    [
        '<think>{"city": "Draft"}?</think>{"city": "Bern"}',
        'Perhaps {"city": "Draft"}?</think>\n{"city": "Bern"}',
        '<think>{"city": "Draft"</think>```json\n{"city": "Bern"}\n```',
        '{"city": "Bern"}<think>or {"city": "Draft"}</think>',
    ],
)
@pytest.mark.anyio
async def test_a_draft_in_the_thinking_is_not_the_answer(text: str) -> None:
    provider = Vendor(body(*text)).provider("vllm")
    answer = await stream_request(ask(), provider=provider, output_model=Trip).collect()
    assert answer.parsed == Trip(city="Bern")


def test_a_tag_inside_a_document_belongs_to_it() -> None:
    text = 'Here: {"html": "a</think>b"}'
    assert list(documents(text)) == ['{"html": "a</think>b"}']
    assert without_thinking(text) == text
    growing, last = GrowingJson(), NOTHING
    for letter in text:
        found = growing.add(letter)
        last = last if found is NOTHING else found
    assert last == {"html": "a</think>b"}


def test_partial_objects_do_not_grow_from_a_draft() -> None:
    growing = GrowingJson()
    found = [growing.add(letter) for letter in '<think>{"city": "Draft"}</think>{"city": "Bern"}']
    seen = [one for one in found if one is not NOTHING]
    assert seen[-1] == {"city": "Bern"}
    assert not any("D" in str(one) for one in seen)
