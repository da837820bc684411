"""Observe what requests to the service begin: its observer, its metrics for Prometheus, and the client's trace."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamcore.observe import AnswerEnded, RunEnded
from streamcore.telemetry import names
from streamcore.testing import Simulator
from tests.observe.test_answers import Seen
from tests.serving import listen, serving, text_of
from tests.support import wait_until
from tests.telemetry.support import Collected
from tests.web.test_web import app_at

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator("Yes.") as running:
        yield running


def exported(url: str) -> dict[str, float]:
    """Return the samples of /metrics, with their labels."""
    response = httpx2.get(f"{url}/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_an_observer_of_the_app_receives_runs_and_answers(simulator: Simulator) -> None:
    seen = Seen()
    with serving(app_at(simulator, observer=seen)) as url:
        assert text_of(listen(url, "/stream?prompt=Hello&format=json")) == "Yes."
        wait_until(lambda: "RunEnded" in seen.names, "the run has ended")
        body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
        assert httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=60).status_code == 200
    assert len([event for event in seen.events if isinstance(event, AnswerEnded)]) == 2
    assert len([event for event in seen.events if isinstance(event, RunEnded)]) == 1


def test_metrics_are_served_for_prometheus(simulator: Simulator) -> None:
    with serving(app_at(simulator, metrics=True)) as url:
        listen(url, "/stream?prompt=Hello")
        wait_until(
            lambda: any(name.startswith("streamcore_operation_duration") for name in exported(url)), "the run has ended"
        )
        found = exported(url)
    duration = next(name for name in found if name.startswith("gen_ai_client_operation_duration_seconds_count"))
    assert found[duration] == 1
    assert "('gen_ai_provider_name', 'openai')" in duration
    assert found["streamcore_relay_runs_open[]"] == 0
    assert next(value for name, value in found.items() if name.startswith("streamcore_streams_open")) == 0
    assert next(value for name, value in found.items() if name.startswith("streamcore_answer_attempts")) == 1


def test_metrics_are_not_there_unless_asked_for(simulator: Simulator) -> None:
    with serving(app_at(simulator)) as url:
        assert httpx2.get(f"{url}/metrics").status_code == 404


def test_a_run_continues_the_trace_of_its_client(simulator: Simulator) -> None:
    collected = Collected()
    with serving(app_at(simulator, observer=collected.observer)) as url:
        listen(url, "/stream?prompt=Hello", headers={"traceparent": PARENT})
        wait_until(lambda: len(collected.spans) == 3, "all spans have ended")
    assert {span.name for span in collected.spans} == {"relay run", "relay read", f"chat {simulator_model(collected)}"}
    for span in collected.spans:
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == TRACE
    assert collected.path(collected.span("relay read")) == ["relay run", "relay read"]


def simulator_model(collected: Collected) -> str:
    """Return the model that the request named."""
    return next(
        str((span.attributes or {})[names.REQUEST_MODEL]) for span in collected.spans if span.name[:4] == "chat"
    )
