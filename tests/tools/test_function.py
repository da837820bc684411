"""Test tools made from functions: schema, check of the arguments, the call, and what becomes of results."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from streamcore import Chunk, ConfigError, Image, Text, Tool, ToolCall
from streamcore.base.error import ToolArgumentsError
from streamcore.tools import ToolContext, tool
from streamcore.tools.results import message_of, result_of

pytestmark = pytest.mark.anyio


class Reported:
    """Record the progress that a tool reports."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []

    def put(self, chunks: Sequence[Chunk]) -> None:
        self.chunks += chunks

    async def below_limit(self) -> None:
        """Never wait."""


async def run(made: Tool, **arguments: Any) -> Any:
    assert made.run is not None
    return await made.run(arguments, context()[0])


def context(state: Any = None) -> tuple[ToolContext, Reported]:
    reported = Reported()
    return ToolContext(ToolCall("call_1", "it", "{}"), state, reported), reported


class Place(BaseModel):
    """Where it is."""

    city: str
    country: str = "DE"


GOOGLE = """Tell the weather.

    It is the weather of today.

    Args:
        place: Where to look.
        days (int): How many days,
            from today.
    """
NUMPY = """Tell the weather.

    It is the weather of today.

    Parameters
    ----------
    place : Place
        Where to look.
    days : int
        How many days,
        from today.
    """
SPHINX = """Tell the weather.

    It is the weather of today.

    :param place: Where to look.
    :param days: How many days,
        from today.
    """


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, SPHINX])
async def test_the_schema_comes_from_signature_and_docstring(docstring: str) -> None:
    async def weather(place: Place, days: int = 3) -> str:
        return f"{place.city} {place.country} {days}"

    weather.__doc__ = docstring
    made = tool(weather)
    assert made.name == "weather"
    assert made.description == "Tell the weather.\n\nIt is the weather of today."
    assert made.parameters["required"] == ["place"]
    assert made.parameters["additionalProperties"] is False
    assert made.parameters["properties"]["place"]["description"] == "Where to look."
    assert made.parameters["properties"]["days"] == {
        "type": "integer",
        "default": 3,
        "description": "How many days,\nfrom today.",
    }
    jsonschema.Draft202012Validator.check_schema(made.parameters)
    jsonschema.validate({"place": {"city": "Bonn"}}, made.parameters)
    assert await run(made, place={"city": "Bonn"}) == "Bonn DE 3"


async def test_names_that_pydantic_uses_itself_are_only_names() -> None:
    @tool
    def copy(schema: str, model_config: int, _x: bool, json: Literal["a", "b"] = "a", copy: float = 0.5) -> list[Any]:
        return [schema, model_config, _x, json, copy]

    assert list(copy.parameters["properties"]) == ["schema", "model_config", "_x", "json", "copy"]
    assert await run(copy, schema="s", model_config=1, _x=True, json="b") == ["s", 1, True, "b", 0.5]


async def test_annotated_fields_and_missing_annotations() -> None:
    def find(name: str, limit: Annotated[int, Field(ge=1, le=9, description="own")] = 3) -> str:
        """Find.

        Args:
            limit: from the docstring.
        """
        return name * limit

    del find.__annotations__["name"]
    made = tool(find)
    assert made.parameters["properties"]["name"] == {"type": "string"}
    assert made.parameters["properties"]["limit"]["description"] == "own"
    assert made.parameters["properties"]["limit"]["maximum"] == 9
    assert await run(made, name="ab", limit=2) == "abab"
    with pytest.raises(ToolArgumentsError, match="limit: Input should be less than or equal to 9"):
        await run(made, name="ab", limit=10)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "place: Field required"),
        ({"place": {"city": 5}}, "place.city: Input should be a valid string"),
        ({"place": {"city": "x"}, "place2": 1}, "place2: Extra inputs are not permitted"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_before_the_call(arguments: dict[str, Any], reason: str) -> None:
    called: list[Place] = []

    @tool
    def weather(place: Place) -> None:
        called.append(place)

    with pytest.raises(ToolArgumentsError, match=reason.replace(".", r"\.")):
        await run(weather, **arguments)
    assert called == []


async def test_the_context_is_not_in_the_schema() -> None:
    @tool
    async def with_context(a: int, context: ToolContext) -> Any:
        return [a, context.state["x"], context.call_id, context.name]

    @tool
    def optional(context: ToolContext | None = None) -> bool:
        return context is not None

    assert list(with_context.parameters["properties"]) == ["a"]
    assert optional.parameters["properties"] == {}
    assert with_context.run is not None
    assert await with_context.run({"a": 1}, context({"x": 2})[0]) == [1, 2, "call_1", "it"]
    assert await run(optional) is True


async def test_a_plain_function_runs_in_a_thread_and_an_async_one_does_not() -> None:
    @tool
    def plain() -> int:
        return threading.get_ident()

    @tool
    async def on_the_loop() -> int:
        return threading.get_ident()

    assert await run(plain) != threading.get_ident()
    assert await run(on_the_loop) == threading.get_ident()


async def test_generators_yield_progress_and_last_the_result() -> None:
    @tool
    async def slowly(n: int) -> AsyncIterator[Any]:
        for number in range(n):
            yield {"done": number}
        yield "end"

    @tool
    def in_a_thread(n: int) -> Iterator[Any]:
        yield from (f"{number}" for number in range(n))
        yield "end"

    for made, first in ((slowly, {"progress": {"done": 0}}), (in_a_thread, None)):
        found, reported = context()
        assert made.run is not None
        assert await made.run({"n": 2}, found) == "end"
        assert [chunk.kind for chunk in reported.chunks] == ["tool_progress"] * 2
        assert reported.chunks[0].data == first
        assert reported.chunks[0].tool_call == ToolCall("call_1", "it")
    assert reported.chunks[1].text == "1"


async def test_methods_partials_objects_and_keyword_arguments() -> None:
    class Shop:
        def price(self, item: str) -> str:
            return f"{item}: 5"

        async def __call__(self, item: str) -> str:
            return f"called {item}"

    @tool
    def options(first: int, /, **more: str) -> Any:
        return [first, more]

    assert await run(tool(Shop().price), item="tea") == "tea: 5"
    assert await run(tool(Shop()), item="tea") == "called tea"
    assert await run(tool(name="tea")(partial(Shop().price, item="tea"))) == "tea: 5"
    assert await run(options, first=1, b="c") == [1, {"b": "c"}]


def test_what_a_request_cannot_express_is_refused() -> None:
    def several(*names: str) -> None: ...

    def strange(thing: threading.Lock) -> None: ...

    with pytest.raises(ConfigError, match=r"parameter \*names.*use a parameter of the type list"):
        tool(several)
    with pytest.raises(ConfigError, match="parameters of tool 'strange' cannot be described"):
        tool(strange)
    with pytest.raises(ConfigError, match="timeout of tool 'Place'"):
        tool(timeout=0)(Place)
    with pytest.raises(ConfigError, match="retries of tool 'Place'"):
        tool(retries=-1)(Place)
    words: Any = "soon"
    with pytest.raises(ConfigError, match="timeout of tool 'Place' is a number of seconds above 0, not 'soon'"):
        tool(timeout=words)(Place)
    with pytest.raises(
        ConfigError, match="retries of tool 'Place' is a number of further calls, 0 or more, not 'soon'"
    ):
        tool(retries=words)(Place)
    with pytest.raises(
        ConfigError, match=r"made from a function, not from 'soon'; give its name as @tool\(name='search"
    ):
        tool(words)


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("text", "text"),
        ("", "Success"),
        (None, "Success"),
        ({"a": [1, 2.5, None]}, '{"a":[1,2.5,null]}'),
        (Point(1), '{"x":1}'),
        (Place(city="Bonn"), '{"city":"Bonn","country":"DE"}'),
        ([Text("a"), Text("b")], "ab"),
        (True, "true"),
    ],
)
def test_results_as_the_model_gets_them(value: Any, content: str) -> None:
    result = result_of(ToolCall("c", "it"), value, 0.5)
    assert (result.call_id, result.name, result.content, result.error, result.seconds) == (
        "c",
        "it",
        content,
        None,
        0.5,
    )
    assert message_of(result).content == content


def test_images_in_results_are_kept_as_parts() -> None:
    image = Image(data=b"x", media_type="image/png")
    result = result_of(ToolCall("c", "it"), ["see", image])
    assert result.content == "see"
    assert result.parts == (Text("see"), image)
    assert message_of(result).content == (Text("see"), image)


def test_a_result_that_is_no_data_is_an_error() -> None:
    with pytest.raises(TypeError, match="a lock cannot be the result of a tool"):
        result_of(ToolCall("c", "it"), threading.Lock())
