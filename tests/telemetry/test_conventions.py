"""Compare every name, type and unit with a copy of OpenTelemetry's conventions, and with what is really written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from streamcore import Chunk, Usage, provider_names, stream_agent, stream_request
from streamcore.pricing import use_prices
from streamcore.provider import vendor
from streamcore.telemetry import names
from streamcore.testing import ScriptedProvider
from streamcore.testing.scripted import FINISH
from streamcore.tools import tool
from tests.observe.test_answers import ASK, WHOLE
from tests.observe.test_trees import asks_for
from tests.telemetry.support import Collected, attributes

pytestmark = pytest.mark.anyio

CONVENTIONS: Mapping[str, Any] = json.loads(Path(__file__).with_name("conventions.json").read_text("utf-8"))
OURS = "streamcore."
TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "int": int,
    "double": float,
    "boolean": bool,
    "string[]": tuple,
    "any": str,  # as JSON
}
SPANS = {
    "chat": "span.gen_ai.inference.client",
    "invoke_agent": "span.gen_ai.invoke_agent.internal",
    "execute_tool": "span.gen_ai.execute_tool.internal",
    "invoke_workflow": "span.gen_ai.invoke_workflow.internal",
}


def test_the_copy_is_of_the_version_that_the_spans_name() -> None:
    assert CONVENTIONS["version"] == names.CONVENTIONS


def test_every_name_is_in_the_conventions_or_ours() -> None:
    constants = {name: value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    for name in ("CONVENTIONS", "CAPTURE_CONTENT"):
        del constants[name]
    known = {*CONVENTIONS["attributes"], *CONVENTIONS["metrics"]}
    for value in constants.values():
        assert value in known or value.startswith(OURS), value


@pytest.mark.parametrize("name", [name for name in names.METRICS if not name.startswith(OURS)])
def test_metrics_are_those_of_the_conventions(name: str) -> None:
    known, ours = CONVENTIONS["metrics"][name], names.METRICS[name]
    assert (ours.instrument, ours.unit) == (known["instrument"], known["unit"])
    assert set(ours.attributes) <= {*known["attributes"]}
    required = {one for one, level in known["attributes"].items() if level == "required"}
    assert required <= set(ours.attributes)


def test_all_metrics_of_clients_are_recorded() -> None:
    assert set(CONVENTIONS["metrics"]) == {name for name in names.METRICS if not name.startswith(OURS)}


def test_providers_have_the_names_of_the_conventions() -> None:
    known = set(CONVENTIONS["attributes"][names.PROVIDER])
    found = {name: vendor(name) for name in provider_names()}
    written = {name: one.telemetry_name or one.name for name, one in found.items() if one is not None}
    for name, value in written.items():
        assert value in known or value == name, name
    assert {"openai", "anthropic", "mistral_ai", "aws.bedrock", "groq", "x_ai", "deepseek"} <= set(written.values())


async def test_spans_have_the_attributes_and_types_of_the_conventions() -> None:
    @tool
    def look() -> str:
        """Look."""
        return "seen"

    collected = Collected(capture_content=True)
    with collected.observing():
        await stream_agent(ASK, tools=[look], provider=ScriptedProvider(asks_for("look"), WHOLE)).collect()
        with pytest.raises(Exception, match="terminal mark"):
            await stream_request(ASK, provider=ScriptedProvider(["cut"])).collect()
    assert {span.name for span in collected.spans} == {"invoke_agent", "chat large", "execute_tool look"}
    for span in collected.spans:
        found = attributes(span)
        known = CONVENTIONS["spans"][SPANS[found[names.OPERATION]]]
        assert span.kind.name.lower() == known["kind"]
        for name, value in found.items():
            if name.startswith(OURS):
                continue
            assert name in known["attributes"], (span.name, name)
            kind = CONVENTIONS["attributes"][name]
            assert type(value) is (str if isinstance(kind, list) else TYPES[kind]), (name, value)
        required = {name for name, level in known["attributes"].items() if level == "required"}
        assert required <= set(found), span.name
        assert found[names.OPERATION] in CONVENTIONS["attributes"][names.OPERATION]


async def test_points_have_the_attributes_that_are_documented() -> None:
    collected = Collected()
    with collected.observing():
        await stream_request(ASK, provider=ScriptedProvider(WHOLE)).collect()
    for name, points in collected.points().items():
        for found, _ in points:
            assert set(found) <= set(names.METRICS[name].attributes), name
    for name, metric in collected.metrics().items():
        assert metric.unit == names.METRICS[name].unit
        if names.METRICS[name].boundaries is not None:
            assert metric.data.data_points[0].explicit_bounds == pytest.approx(names.METRICS[name].boundaries)


async def test_costs_are_computed_from_prices() -> None:
    collected = Collected()
    use_prices({"priced": {"input": 1_000_000, "output": 1_000_000}})
    try:
        with collected.observing():
            for model in ("priced", "without-a-price"):
                items: list[str | Chunk] = [
                    Chunk("start", model=model),
                    "Yes.",
                    Chunk("usage", usage=Usage(1, 2)),
                    FINISH,
                ]
                await stream_request(ASK, provider=ScriptedProvider(items)).collect()
    finally:
        use_prices(None)
    on_spans = [attributes(span).get(names.COST) for span in collected.spans]
    assert on_spans == [3.0, None]
    assert attributes(collected.spans[0])[names.CURRENCY] == "USD"
    ((found, amount),) = collected.points()[names.ANSWER_COST]
    assert (found[names.RESPONSE_MODEL], found[names.CURRENCY], amount) == ("priced", "USD", 3.0)


def test_the_guide_lists_every_metric() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "telemetry.md").read_text("utf-8")
    assert f"version {names.CONVENTIONS}" in text
    for name, metric in names.METRICS.items():
        assert f"| `{name}` | {metric.unit} |" in text, name
