"""Compare the Grafana dashboard of the documentation with the metrics that are really exported."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamcore import StreamcoreError, stream_agent, stream_request
from streamcore.errors import BadRequestError
from streamcore.observe import observe
from streamcore.relay import Relay
from streamcore.telemetry.prometheus import PrometheusMetrics
from streamcore.testing import ScriptedProvider
from streamcore.tools import tool
from tests.observe.test_answers import ASK, CUT, WHOLE
from tests.observe.test_trees import asks_for

pytestmark = pytest.mark.anyio
NAME = re.compile(r"\b(?:gen_ai_client|streamcore)_[a-z_]+(?=[\[{)])")
ROOT = Path(__file__).resolve().parents[2]
LABEL = re.compile(r"by \(([^)]*)\)")


def dashboard() -> dict[str, Any]:
    """Return what the script makes."""
    made: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "make_dashboard.py"))["dashboard"]()
    return made


def test_the_file_is_what_the_script_writes() -> None:
    text = (ROOT / "docs" / "assets" / "grafana.json").read_text("utf-8")
    assert json.loads(text) == dashboard()


async def test_every_query_names_what_is_exported() -> None:
    @tool
    def look() -> str:
        """Look."""
        return "seen"

    metrics = PrometheusMetrics()
    with observe(metrics.observer):
        second = ScriptedProvider(WHOLE)
        await stream_request(ASK, provider=ScriptedProvider(BadRequestError("no")), fallback=[second]).collect()
        with pytest.raises(StreamcoreError):
            await stream_request(ASK, provider=ScriptedProvider(CUT[:2])).collect()
        await stream_agent(ASK, tools=[look], provider=ScriptedProvider(asks_for("look"), WHOLE)).collect()
        async with Relay() as relay:
            await relay.start("r1", stream_request(ASK, provider=ScriptedProvider(WHOLE)))
            async for _ in relay.read("r1"):
                pass
    samples = [
        sample for family in text_string_to_metric_families(metrics.text().decode()) for sample in family.samples
    ]
    labels = {name for sample in samples for name in sample.labels} | {"instance"}
    queries = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    for query in queries:
        found = NAME.findall(LABEL.sub("", query))
        assert found, query
        assert set(found) <= {sample.name for sample in samples}, query
        for listed in LABEL.findall(query):
            assert set(listed.split(", ")) <= labels, query
