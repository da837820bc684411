"""Test answers that must fit a schema: asked for, streamed, checked once at the end, asked for again, on every wire."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import httpx2
import pytest
from pydantic import BaseModel, Field, field_validator

from streamcore import (
    Attempt,
    Chunk,
    ConfigError,
    ContentRefused,
    Message,
    OutputValidationError,
    Request,
    ServerError,
    Text,
    ToolCall,
    Usage,
    execute_prompt_async,
    execute_prompt_streaming,
    execute_prompts_concurrent,
    get_provider,
    stream_prompt,
    stream_request,
    sync,
)
from streamcore.structured.output import INSTRUCTION
from streamcore.testing import FINISH, Answer, PlannedCall, ScriptedProvider, Simulator
from streamcore.testing.scripted import Step
from streamcore.testing.simulator.example import example
from tests.support import EVERY_RUN, GATEWAYS, KEY, ask, body_of, provider_at

anyio_mark = pytest.mark.anyio


class City(BaseModel):
    name: str = Field(min_length=2, pattern="^[A-Z]")
    people: int = Field(ge=0)
    kind: Literal["town", "village"] = "town"


class Country(BaseModel):
    capital: City = Field(description="Where it is ruled from.")
    cities: list[City] = Field(min_length=1, max_length=5)
    part_of: Country | None = None


BERN = '{"name": "Bern", "people": 134000}'
WRONG = '{"name": "bern", "people": -1}'
COUNTRY = Answer.of(json.dumps(example(Country.model_json_schema()), indent=2))
CITIES = Answer.of(f'{{"Bern": {BERN}}}')
TOLD = INSTRUCTION.strip()
USAGE = Usage(input_tokens=5, output_tokens=7)


def scripted(*answers: str | list[Chunk], native: bool = False, name: str = "scripted") -> ScriptedProvider:
    """Return a provider of these answers in turn: a text in pieces of three characters, chunks in one read."""
    scripts = [_reads(answer) if isinstance(answer, str) else [answer] for answer in answers]
    return ScriptedProvider(*scripts, takes_schema=native, name=name)


def _reads(text: str) -> list[Step]:
    pieces = [text[start : start + 3] for start in range(0, len(text), 3)]
    return [Chunk("start", model="m"), *pieces, [FINISH, Chunk("usage", usage=USAGE)]]


def ended(reason: Any, text: str = "", *more: Chunk) -> list[Chunk]:
    return [Chunk("text", text), *more, Chunk("finish", finish_reason=reason, raw_finish_reason=f"raw {reason}")]


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "plain.yaml").write_text("user: Which city?\n", "utf-8")
    (folder / "short.yaml").write_text(
        "user: Which city?\nschema:\n  name: Place\n  fields:\n    name: {type: str, constraints: {min_length: 2}}\n"
        "    people: {type: int, default: 7, constraints: {ge: 0}}\n    mayor: {type: str, optional: true}\n"
        "    tags: {type: 'list[str]', default: []}\n    copy: {type: bool, default: true}\n",
        "utf-8",
    )
    (folder / "long.yaml").write_text(
        "user: Which city?\noutput_schema:\n  type: object\n  required: [name]\n  properties:\n"
        "    name: {type: string, pattern: '^[A-Z]'}\n    people: {type: integer, minimum: 0}\n",
        "utf-8",
    )
    return folder


# The instruction to the model


def nested_schema(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"inner": schema}}
    return schema


MUTUAL = {
    "$ref": "#/$defs/a",
    "$defs": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}},
}
CIRCULAR: dict[str, Any] = {"type": "object"}
CIRCULAR["properties"] = {"inner": CIRCULAR}


@anyio_mark
async def test_a_provider_without_takes_schema_gets_the_schema_as_an_instruction() -> None:
    provider = scripted(BERN, BERN, BERN)
    await stream_request(ask("Hi"), provider=provider, output_model=City).collect()
    await stream_request(
        Request([Message("system", "Be brief."), Message("user", "Hi")]), provider=provider, output_model=City
    ).collect()
    parts = Request([Message("system", [Text("Be brief.")]), Message("user", "Hi")])
    await stream_request(parts, provider=provider, output_model=City).collect()
    instructed = INSTRUCTION + json.dumps(City.model_json_schema())
    assert [request.messages[0].text for request in provider.requests] == [
        instructed,
        f"Be brief.\n\n{instructed}",
        f"Be brief.\n\n{instructed}",
    ]
    assert all(request.output_schema is None and len(request.messages) == 2 for request in provider.requests)


@anyio_mark
async def test_a_provider_that_holds_answers_to_a_schema_is_given_it() -> None:
    provider = scripted(BERN, native=True)
    await stream_request(ask("Hi"), provider=provider, output_model=City).collect()
    assert provider.requests == [ask("Hi", temperature=0.7, output_schema=City.model_json_schema())]


NATIVE = {
    "anthropic": ("output_config", "format"),
    "openai": ("response_format",),
    "openai-responses": ("text", "format"),
    "mistral": ("response_format",),
    "bedrock": ("outputConfig", "textFormat"),
    "google": ("generationConfig", "responseJsonSchema"),
}


@pytest.mark.parametrize(("backend", "name"), EVERY_RUN)
def test_every_vendor_is_asked_natively_and_its_answer_becomes_an_object(backend: str, name: str) -> None:
    seen: list[Any] = []

    async def main() -> None:
        # A client of the caller's reads each event by itself; ours may read the whole answer at once.
        async with httpx2.AsyncClient(timeout=None) as client:
            provider = provider_at(simulator, name, http_client=client)
            stream = stream_request(ask("Hi"), provider=provider, output_model=Country)
            seen.extend([found async for found in stream.partial_objects()])
        parsed = stream.partial.parsed
        assert isinstance(parsed, Country)
        assert seen[-1] == parsed.model_dump(exclude_unset=True)
        assert stream.partial.complete

    with Simulator(COUNTRY) as simulator:
        anyio.run(main, backend=backend)
        found: Any = simulator.requests[0].body
        for key in NATIVE[name]:
            found = found[key]
        if name == "google":
            assert found == Country.model_json_schema()
        else:
            assert found["type"] == "json_schema"
        assert TOLD not in str(simulator.requests[0].body)
    assert len(seen) > 20


@pytest.mark.parametrize(("backend", "name"), [*EVERY_RUN, ("asyncio", "deepseek"), ("asyncio", "openrouter")])
def test_what_no_vendor_enforces_is_described_in_the_prompt(backend: str, name: str) -> None:
    """A mapping with any keys has no closed form."""

    async def main() -> None:
        stream = stream_request(ask("Hi"), provider=provider_at(simulator, name), output_model=dict[str, City])
        parsed = (await stream.collect()).parsed
        assert [type(city) for city in parsed.values()] == [City]

    with Simulator(CITIES) as simulator:
        anyio.run(main, backend=backend)
        body = simulator.requests[0].body
        assert TOLD in str(body)
        assert not {"output_config", "response_format", "text"} & body.keys()


SAID_IN_WORDS = ("deepseek", "openrouter", "together", "moonshot", "minimax", "zai")


@pytest.mark.parametrize("name", GATEWAYS)
def test_every_gateway_gives_an_object(name: str) -> None:
    with Simulator(COUNTRY) as simulator:
        stream = sync.stream_request(ask("Hi"), provider=provider_at(simulator, name), output_model=Country)
        assert isinstance(stream.collect().parsed, Country)
        instructed = TOLD in str(simulator.requests[0].body)
    assert instructed == (name in SAID_IN_WORDS)


def test_a_schema_that_is_refused_is_described_in_the_prompt_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamcore.pipeline.adapt._refusing", set[Any]())
    asked: list[tuple[bool, bool, bool]] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        asked.append(("temperature" in body, "response_format" in body, TOLD in str(body)))
        for key in ("response_format", "temperature"):
            if key in body:
                message = f"Invalid parameter: '{key}' is not supported with this model."
                return httpx2.Response(400, json={"error": {"message": message}})
        return httpx2.Response(200, content=body_of("openai-chat", Answer.of(BERN)))

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(handle))
    provider = get_provider("openai", api_key=KEY, http_client=http, model="picky")

    async def main() -> None:
        for _ in range(2):
            request = ask("Hi", default_temperature=0.7)
            answer = await stream_request(request, provider=provider, output_model=City).collect()
            assert answer.parsed == City(name="Bern", people=134000)
            assert len(answer.attempts) == 1

    asyncio.run(main())
    assert asked == [(True, True, False), (True, False, True), (False, False, True), (False, False, True)]


# The value


@anyio_mark
@pytest.mark.parametrize(
    ("wanted", "text", "value"),
    [
        (City, f"Sure:\n```json\n{BERN}\n```\nHope it helps!", City(name="Bern", people=134000)),
        (City, f'An example is {{"name": 1}}. {BERN}', City(name="Bern", people=134000)),
        (list[int], "[1, 2]", [1, 2]),
        (int, "```\n42\n```", 42),
        (City | None, "null", None),
        (Annotated[list[int], Field(max_length=2)], "Here: [1, 2].", [1, 2]),
        ({"type": "object", "required": ["a"]}, 'x {"b": 1} {"a": [2]} y', {"a": [2]}),
        ({"type": "array", "items": {"type": "integer"}}, "[1]", [1]),
    ],
)
async def test_the_first_json_that_fits_is_the_value(wanted: Any, text: str, value: Any) -> None:
    stream = stream_request(ask("Hi"), provider=scripted(text), output_model=wanted)
    kept = [chunk.text async for chunk in stream if chunk.kind == "text"]
    assert "".join(kept) == text
    assert stream.partial.parsed == value
    assert type(stream.partial.parsed) is type(value)


@anyio_mark
async def test_the_value_is_made_once_and_only_at_the_end() -> None:
    checked: list[str] = []

    class Counted(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def _count(cls, name: str) -> str:
            checked.append(name)
            return name

    stream = stream_request(ask("Hi"), provider=scripted('{"name": "Bern"}'), output_model=Counted)
    async for _ in stream.partial_objects():
        assert stream.partial.parsed is None
    first = stream.partial.parsed
    assert stream.partial.parsed is first
    assert checked == ["Bern"]


@anyio_mark
async def test_without_a_schema_nothing_is_checked_and_objects_grow_all_the_same() -> None:
    stream = stream_request(ask("Hi"), provider=scripted('So: {"a": [1, 2]}'))
    assert [found async for found in stream.partial_objects()][-1] == {"a": [1, 2]}
    assert (stream.partial.parsed, stream.partial.complete) == (None, True)


@anyio_mark
async def test_a_request_that_sets_a_schema_itself_is_sent_as_it_is_and_not_checked() -> None:
    request = ask("Hi", temperature=0.7, output_schema={"type": "object"})
    provider = scripted("no")
    assert (await stream_request(request, provider=provider).collect()).text == "no"
    assert provider.requests == [request]


# Answers that do not fit


@anyio_mark
async def test_an_answer_that_does_not_fit_is_reported_field_by_field() -> None:
    stream = stream_request(ask("Hi"), provider=scripted(WRONG), output_model=City)
    text = ""
    with pytest.raises(OutputValidationError) as caught:
        async for chunk in stream:
            text += chunk.text
    error = caught.value
    assert text == WRONG
    assert str(error) == (
        "the answer does not fit 'City': name: String should match pattern '^[A-Z]', got 'bern'; "
        f"people: Input should be greater than or equal to 0, got -1; it is {WRONG!r}"
    )
    assert [(one["loc"], one["type"], one["input"]) for one in error.errors] == [
        (("name",), "string_pattern_mismatch", "bern"),
        (("people",), "greater_than_equal", -1),
    ]
    assert error.partial is not None
    assert (error.partial.text, error.partial.complete, error.partial.usage) == (WRONG, True, USAGE)
    assert (stream.partial.text, stream.partial.complete, stream.partial.parsed) == (WRONG, True, None)
    with pytest.raises(OutputValidationError) as again:
        await stream.collect()
    assert again.value is error


@anyio_mark
@pytest.mark.parametrize(
    ("answer", "words", "mendable"),
    [
        ("I think it is Bern.", ["The answer has no JSON", "'I think it is Bern.'"], True),
        ("", ["The answer has no JSON", "it is empty"], True),
        ('{"name": "Bern", }', ["Invalid JSON: ", "column 18"], True),
        ('{"people": 1}', ["name: Field required"], True),
        ("x" * 500, ["it begins with 'xxx"], True),
        (ended("refusal", "", Chunk("refusal", "I will not.")), ["refused", "I will not."], False),
        (ended("stop", "", Chunk("refusal", "I will not.")), ["refused"], False),
        (ended("content_filter", '{"name": "Be'), ["content filter", '{"name": "Be'], False),
        (ended("length", '{"name": "Be'), ["cut", "max_tokens", '{"name": "Be'], False),
    ],
)
async def test_why_there_is_no_value(answer: Any, words: list[str], mendable: bool) -> None:
    with pytest.raises(OutputValidationError) as caught:
        await stream_request(ask("Hi"), provider=scripted(answer), output_model=City).collect()
    for word in words:
        assert word in str(caught.value)
    assert "'City'" in str(caught.value)
    assert len(str(caught.value)) < 400
    assert bool(caught.value.errors) is mendable


@anyio_mark
async def test_a_cut_answer_is_never_taken_for_the_object_that_it_begins_with() -> None:
    class Loose(BaseModel):
        name: str = "?"
        inner: dict[str, Any] = {}

    for text in ('{"inner": {"name": "Bern"}', '{\'inner\': {"name": "Bern"}}'):
        with pytest.raises(OutputValidationError):
            await stream_request(ask("Hi"), provider=scripted(text), output_model=Loose).collect()


@anyio_mark
async def test_an_answer_that_a_limit_ends_but_that_is_whole_counts() -> None:
    stream = stream_request(ask("Hi"), provider=scripted(ended("length", BERN)), output_model=City)
    assert (await stream.collect()).parsed == City(name="Bern", people=134000)


@anyio_mark
async def test_a_schema_names_the_path_of_each_fault() -> None:
    schema = {"type": "object", "properties": {"l": {"type": "array", "items": {"type": "integer"}}}}
    with pytest.raises(OutputValidationError, match=r"l\.1: 'x' is not of type 'integer'") as caught:
        await stream_request(ask("Hi"), provider=scripted('{"l": [1, "x"]}'), output_model=schema).collect()
    assert caught.value.errors[0]["loc"] == ("l", 1)


@anyio_mark
async def test_a_tool_call_is_no_answer_yet() -> None:
    call = Chunk("tool_call", tool_call=ToolCall("1", "weather", "{}"))
    answer = await stream_request(
        ask("Hi"), provider=scripted(ended("tool_calls", "", call)), output_model=City
    ).collect()
    assert (answer.parsed, answer.tool_calls[0].name) == (None, "weather")


@anyio_mark
@pytest.mark.parametrize("reason", ["stop", "other", None])
@pytest.mark.parametrize("text", ["", "I look it up.", BERN])
async def test_calls_that_end_with_another_finish_reason_are_a_tool_turn(reason: Any, text: str) -> None:
    """Ollama and several gateways end an answer that calls tools with `stop`."""
    call = Chunk("tool_call", tool_call=ToolCall("1", "weather", "{}"))
    provider = scripted(ended(reason, text, call))
    answer = await stream_request(ask("Hi"), provider=provider, output_model=City, retries=1).collect()
    assert (answer.parsed, answer.tool_calls[0].name, len(provider.requests)) == (None, "weather", 1)


@anyio_mark
async def test_a_call_that_the_token_limit_cut_is_no_tool_turn() -> None:
    call = Chunk("tool_call", tool_call=ToolCall("1", "weather", "{"))
    with pytest.raises(OutputValidationError, match="max_tokens"):
        await stream_request(ask("Hi"), provider=scripted(ended("length", "", call)), output_model=City).collect()


@anyio_mark
@pytest.mark.parametrize("wanted", [City, City.model_json_schema()])
async def test_line_ends_in_strings_are_read(wanted: Any) -> None:
    provider = scripted('{"name": "Bern\r\nand\tmore", "people": 1}')
    answer = await stream_request(ask("Hi"), provider=provider, output_model=wanted).collect()
    parsed: Any = answer.parsed
    name: str = parsed["name"] if wanted is not City else parsed.name
    assert name == "Bern\r\nand\tmore"


class Nested(BaseModel):
    """An answer that may be as deep as the model likes."""

    inner: Nested | None = None


NESTED = {"type": "object", "properties": {"inner": {"$ref": "#"}}, "additionalProperties": False}


@pytest.mark.long
@anyio_mark
@pytest.mark.parametrize(
    "wanted", [Nested, NESTED, dict[str, Any], {"type": "object"}], ids=["model", "#", "dict", "{}"]
)
@pytest.mark.parametrize("depth", [50, 201, 900, 20_000])
async def test_deep_answers_fit_or_raise_our_error(wanted: Any, depth: int) -> None:
    text = '{"inner":' * (depth - 1) + "{}" + "}" * (depth - 1)
    if depth == 50:
        assert await stream_request(ask("Hi"), provider=scripted(text), output_model=wanted).collect()
        return
    with pytest.raises(OutputValidationError, match="at most 200 levels") as caught:
        await stream_request(ask("Hi"), provider=scripted(text), output_model=wanted).collect()
    assert caught.value.errors[0]["type"] == "json_invalid"


@anyio_mark
async def test_messages_stay_short_and_say_nothing_twice() -> None:
    schema = {"type": "object", "required": ["b"], "properties": {"a": {"maxLength": 3}, "c": {"enum": ["x", 1]}}}
    text = json.dumps({"a": "y" * 500, "c": "z"})
    with pytest.raises(OutputValidationError) as caught:
        await stream_request(ask("Hi"), provider=scripted(text), output_model=schema).collect()
    said = str(caught.value)
    assert "'b' is a required property" in said
    assert "c: 'z' is not one of ['x', 1]; " in said
    assert len(said) < 600


# Asking again


@anyio_mark
async def test_another_provider_is_asked_in_its_own_way() -> None:
    first = ScriptedProvider(ServerError("down", status=500), name="down", takes_schema=True)
    second = scripted(WRONG, BERN)
    answer = await stream_request(
        ask("Hi"), provider=first, output_model=City, fallback=[second], max_retries=0, retries=1
    ).collect()
    assert answer.parsed == City(name="Bern", people=134000)
    assert [attempt.provider for attempt in answer.attempts] == ["down", "scripted", "scripted"]
    assert first.requests[0].output_schema is not None
    assert all(TOLD in request.messages[0].text and request.output_schema is None for request in second.requests)
    assert [len(request.messages) for request in second.requests] == [2, 4]


@anyio_mark
async def test_a_retry_sends_the_errors_to_the_model() -> None:
    provider = scripted(WRONG, BERN, native=True)
    stream = stream_request(ask("Hi"), provider=provider, output_model=City, retries=2)
    chunks = [chunk async for chunk in stream]
    kinds = [chunk.kind for chunk in chunks]
    restart = kinds.index("restart")
    assert "".join(chunk.text for chunk in chunks[:restart]) == WRONG
    assert "".join(chunk.text for chunk in chunks[restart:]) == BERN
    answer = stream.partial
    assert (answer.text, answer.parsed, answer.usage) == (BERN, City(name="Bern", people=134000), USAGE)
    first, second = answer.attempts
    assert (first.usage, second) == (USAGE, Attempt("scripted", "m", None, USAGE))
    assert first.error is not None
    assert first.error.startswith("OutputValidationError: the answer does not fit 'City'")
    said, correction = provider.requests[1].messages[1:]
    assert (said.role, said.text, correction.role) == ("assistant", WRONG, "user")
    assert "name: String should match pattern" in correction.text
    assert provider.requests[1].output_schema == provider.requests[0].output_schema


@anyio_mark
async def test_the_last_answer_that_does_not_fit_is_the_error() -> None:
    provider = scripted(WRONG, "no", WRONG)
    stream = stream_request(ask("Hi"), provider=provider, output_model=City, retries=2)
    with pytest.raises(OutputValidationError) as caught:
        await stream.collect()
    assert caught.value.partial is not None
    assert len(caught.value.partial.attempts) == len(provider.requests) == 3
    assert [len(request.messages) for request in provider.requests] == [2, 4, 6]
    assert len(provider.closed_requests) == 3


@anyio_mark
@pytest.mark.parametrize("answer", [ended("refusal", "No."), ended("length", "{"), ended("content_filter")])
async def test_what_asking_again_would_not_mend_is_not_asked_again(answer: list[Chunk]) -> None:
    provider = scripted(answer, BERN)
    with pytest.raises(OutputValidationError):
        await stream_request(ask("Hi"), provider=provider, output_model=City, retries=3).collect()
    assert len(provider.requests) == 1


@anyio_mark
async def test_an_empty_answer_is_not_sent_back() -> None:
    provider = scripted(ended("stop"), BERN, native=True)
    await stream_request(ask("Hi"), provider=provider, output_model=City, retries=1).collect()
    assert [message.role for message in provider.requests[1].messages] == ["user", "user"]


@anyio_mark
async def test_objects_begin_again_after_a_restart_also_when_smoothed() -> None:
    for options in (None, {"buffer_size": 8, "emit_interval": 1}):
        provider = scripted('{"name": "b"}', BERN)
        stream = stream_request(ask("Hi"), provider=provider, output_model=City, retries=1, stream_options=options)
        seen = [found async for found in stream.partial_objects()]
        assert seen[-1] == {"name": "Bern", "people": 134000}
        assert options or {"name": "b"} in seen
        assert stream.partial.parsed == City(name="Bern", people=134000)


@pytest.mark.parametrize(("backend", "name"), EVERY_RUN)
def test_every_vendor_takes_the_correction(backend: str, name: str) -> None:
    answers = [Answer.of(WRONG), Answer.of(BERN)]

    async def main() -> None:
        answer = await stream_request(
            ask("Hi"), provider=provider_at(simulator, name), output_model=City, retries=1
        ).collect()
        assert answer.parsed == City(name="Bern", people=134000)
        assert [attempt.usage is not None for attempt in answer.attempts] == [True, True]

    with Simulator(lambda asked: answers.pop(0)) as simulator:
        anyio.run(main, backend=backend)
        assert json.dumps(WRONG)[1:-1] in json.dumps(simulator.requests[1].body)
        assert simulator.abandoned == 0


def test_a_log_does_not_show_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "streamcore")
    provider = scripted('{"name": "secret-7", "people": 1}', BERN)
    sync.stream_request(ask("Hi"), provider=provider, output_model=City, retries=1).collect()
    assert "OutputValidationError" in caplog.text
    assert "secret-7" not in caplog.text


@anyio_mark
async def test_leaving_in_the_middle_of_an_object_closes_the_response() -> None:
    provider = scripted(BERN)
    async with stream_request(ask("Hi"), provider=provider, output_model=City) as stream:
        async for found in stream.partial_objects():
            if found:
                break
    assert len(provider.closed_requests) == 1
    assert not stream.partial.complete
    assert stream.partial.parsed is None


@anyio_mark
async def test_cancelling_at_every_read_leaves_no_value() -> None:
    reads = len(BERN) // 3 + 1
    for number in range(reads):
        provider = scripted(BERN)
        stream = stream_request(ask("Hi"), provider=provider, output_model=City)
        with anyio.CancelScope() as scope:
            async for chunk in stream:
                if stream.partial.text == BERN[: 3 * number] and chunk.kind in ("start", "text"):
                    scope.cancel()
        if scope.cancelled_caught:
            assert (len(provider.closed_requests), stream.partial.parsed, stream.partial.complete) == (1, None, False)


@anyio_mark
async def test_a_stream_that_is_stopped_is_not_checked() -> None:
    stream = stream_request(ask("Hi"), provider=scripted(BERN), output_model=City)
    async for chunk in stream:
        if chunk.kind == "text":
            stream.stop()
    assert (stream.partial.parsed, stream.partial.complete) == (None, False)


# The functions


@anyio_mark
async def test_the_prompts_own_schemas_make_values(prompts: Path) -> None:
    answer = await stream_prompt("short", provider=scripted('{"name": "Bern"}')).collect()
    place = answer.parsed
    assert isinstance(place, BaseModel)
    assert type(place).__name__ == "Place"
    assert place.model_dump() == {"name": "Bern", "people": 7, "mayor": None, "tags": [], "copy": True}
    again = await stream_prompt("short", provider=scripted('{"name": "Bern"}')).collect()
    assert type(again.parsed) is type(place)
    assert again.parsed.tags is not place.tags  # type: ignore[attr-defined]
    with pytest.raises(OutputValidationError, match="name: String should have at least 2"):
        await stream_prompt("short", provider=scripted('{"name": "B"}')).collect()
    assert (await stream_prompt("long", provider=scripted(BERN)).collect()).parsed == json.loads(BERN)
    with pytest.raises(OutputValidationError, match=r"name: 'bern' does not match '\^\[A-Z\]'"):
        await stream_prompt("long", provider=scripted('{"name": "bern"}')).collect()


@anyio_mark
async def test_output_model_of_the_call_overrides_the_prompts_schema(prompts: Path) -> None:
    provider = scripted(BERN)
    assert await execute_prompt_async("short", None, City, provider=provider) == City(name="Bern", people=134000)
    assert "Place" not in provider.requests[0].messages[0].text


@anyio_mark
async def test_execute_prompt_async_returns_a_value_or_text(prompts: Path) -> None:
    city = await execute_prompt_async("plain", {}, City, 0.1, scripted(BERN))
    assert city == City(name="Bern", people=134000)
    assert await execute_prompt_async("plain", provider=scripted(BERN)) == BERN
    assert await execute_prompt_async("long", provider=scripted(BERN)) == json.loads(BERN)
    assert await execute_prompt_async("long", provider=scripted("no", BERN), retries=1) == json.loads(BERN)
    many = await execute_prompts_concurrent(
        [
            {"prompt_name": "plain", "provider": scripted(BERN), "output_model": City},
            {"prompt_name": "plain", "provider": scripted("hi")},
        ]
    )
    assert many == [city, "hi"]
    call = Chunk("tool_call", tool_call=ToolCall("1", "weather", "{}"))
    with pytest.raises(OutputValidationError, match="collect") as caught:
        await execute_prompt_async("long", provider=scripted(ended("tool_calls", "", call)))
    assert caught.value.partial is not None
    assert caught.value.partial.tool_calls
    with pytest.raises(OutputValidationError, match="refused"):
        await execute_prompt_async("long", provider=scripted(ended("refusal")))
    with pytest.raises(ContentRefused):
        await execute_prompt_async("plain", provider=scripted(ended("refusal")))


@anyio_mark
async def test_functions_that_stream_text_send_the_schema_but_do_not_validate(prompts: Path) -> None:
    provider = scripted("It is Bern.", native=True)
    assert [token async for token in execute_prompt_streaming("long", provider=provider)] == ["It ", "is ", "Ber", "n."]
    assert provider.requests[0].output_schema is not None
    stream = stream_prompt("long", provider=scripted("It is Bern."))
    with pytest.raises(OutputValidationError):
        [token async for token in stream.text()]
    with pytest.raises(ConfigError, match="restart"):
        stream_prompt("long", provider=scripted(""), retries=1).text()


@anyio_mark
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retries": 1}, "output_model"),
        ({"retries": -1, "output_model": City}, "0 or more"),
        ({"output_model": object()}, "output_model"),
        ({"output_model": {"type": "nonsense"}}, "type: 'nonsense'"),
        ({"output_model": {"$ref": "#"}}, "refers to itself without an end"),
        ({"output_model": {"allOf": [{"$ref": "#"}]}}, "refers to itself without an end"),
        ({"output_model": MUTUAL}, "the reference '#/\\$defs/a'"),
        ({"output_model": {"type": "object", "properties": {"x": {"$ref": "#/properties/x"}}}}, "without an end"),
        ({"output_model": nested_schema(5_000)}, "nested too deeply"),
        ({"output_model": nested_schema(150)}, "nested too deeply"),
        ({"output_model": CIRCULAR}, "not JSON"),
    ],
)
async def test_what_cannot_be_asked_for(options: dict[str, Any], words: str) -> None:
    provider = scripted(BERN)
    with pytest.raises(ConfigError, match=words):
        await stream_request(ask("Hi"), provider=provider, **options).collect()
    assert provider.requests == []


@anyio_mark
async def test_a_schema_does_not_lead_outside_of_itself() -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/x.json"}}}
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9"):
        await stream_request(ask("Hi"), provider=scripted('{"a": 1}'), output_model=schema).collect()


def test_code_without_a_loop(prompts: Path) -> None:
    assert sync.execute_prompt_async("plain", {}, City, provider=scripted(BERN)) == City(name="Bern", people=134000)
    with sync.stream_prompt("long", provider=scripted(BERN)) as stream:
        seen = list(stream.partial_objects())
    assert seen[-1] == json.loads(BERN)
    assert stream.partial.parsed == json.loads(BERN)
    with sync.stream_prompt("long", provider=scripted(BERN)) as stream:
        for found in stream.partial_objects():
            if found:
                break
    assert not stream.partial.complete


def test_the_demo_makes_objects(prompts: Path) -> None:
    provider = get_provider("demo", rate=0)
    assert isinstance(sync.execute_prompt_async("plain", output_model=Country, provider=provider), Country)
    place: Any = sync.execute_prompt_async("short", provider=provider)
    assert place.model_dump()["people"] == 7
    long: Any = sync.execute_prompt_async("long", provider=provider)
    assert long["name"]


@pytest.mark.parametrize("schema", [{"type": "array", "items": {"$ref": "#"}}, NESTED, Nested])
def test_recursive_schemas_get_answers_from_the_demo_and_the_simulator(schema: Any) -> None:
    demo = sync.stream_request(ask("Hi"), provider=get_provider("demo", rate=0), output_model=schema).collect()
    assert demo.parsed is not None
    with Simulator() as simulator:
        answer = sync.stream_request(
            ask("Hi"), provider=provider_at(simulator, "openai"), output_model=schema
        ).collect()
    assert answer.parsed is not None


def test_a_model_may_call_a_tool_although_a_schema_is_set() -> None:
    """A model that may call tools gets both, and its call comes through."""
    with Simulator(Answer(calls=[PlannedCall("weather", {"city": "Bern"})])) as simulator:
        for name in ("anthropic", "openai", "openai-responses", "mistral"):
            answer = sync.stream_request(ask("Hi"), provider=provider_at(simulator, name), output_model=City).collect()
            assert (answer.parsed, answer.tool_calls[0].name) == (None, "weather")
