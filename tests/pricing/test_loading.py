"""Load the price list without blocking an event loop, whatever asks for a cost first."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextvars import ContextVar

import pytest

from streamcore.pricing import load_prices, loading
from streamcore.pricing.loading import current_list, is_loaded, load_in_background, load_list, run_when_loaded
from tests.support import eventually, first_short

pytestmark = pytest.mark.anyio
where: ContextVar[str] = ContextVar("where", default="")

PROGRAM = """
import asyncio, logging, sys, threading
from streamcore import Chunk, Message, Request, Usage, stream_agent, stream_request
from streamcore.observe import observe
from streamcore.pricing import load_prices
from streamcore.testing import FINISH, ScriptedProvider

importers = []


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("genai_prices."):
            importers.append(threading.current_thread() is threading.main_thread())


sys.meta_path.insert(0, Finder())
costs = []
script = [Chunk("start", model="gpt-5.4-mini"), "Hello", Chunk("usage", usage=Usage(1_000_000, 0)), FINISH]
request = Request([Message("user", "Hello")])
provider = ScriptedProvider(script, name="openai")


async def load():
    await load_prices()
    costs.append((await stream_request(request, provider=provider).collect()).cost.amount)


async def telemetry():
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from streamcore.telemetry import OpenTelemetryObserver, names

    reader = InMemoryMetricReader()
    with observe(OpenTelemetryObserver(meter_provider=MeterProvider([reader]))):
        await stream_request(request, provider=provider).collect()

    def read():
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon and thread is not threading.main_thread():
                thread.join()
        for resource in reader.get_metrics_data().resource_metrics:
            for metric in resource.scope_metrics[0].metrics:
                if metric.name == names.ANSWER_COST:
                    costs.append(metric.data.data_points[0].value)

    await asyncio.to_thread(read)


async def log():
    from streamcore.answer_log import AnswerLog

    written = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record):
            costs.append(record.cost)
            written.set()

    logging.getLogger("streamcore").addHandler(Handler())
    logging.getLogger("streamcore").setLevel("INFO")
    await stream_request(request, provider=provider, observer=AnswerLog()).collect()
    await asyncio.to_thread(written.wait)


async def sums():
    from streamcore.pricing import CostSums

    found = CostSums()
    await stream_request(request, provider=provider, observer=found).collect()
    await load_prices()
    while not found.total.answers:
        await asyncio.sleep(0.001)
    costs.append(found.total.amount)


async def limit():
    answer = await stream_request(request, provider=provider, max_cost=10).collect()
    costs.append(answer.cost.amount)


async def agent():
    answer = await stream_agent(request, tools=[], provider=provider, max_cost=10).collect()
    costs.append(answer.cost.amount)


asyncio.run(globals()[sys.argv[1]]())
assert importers and not any(importers), importers
assert [float(cost) for cost in costs] == [0.75], costs
"""


@pytest.mark.parametrize("what", first_short(["telemetry", "load", "log", "sums", "limit", "agent"]))
def test_the_event_loop_never_imports_the_list(what: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the list count as not loaded, so that it is loaded again."""
    load_list()
    monkeypatch.setattr(loading.state, "done", False)


async def test_what_needs_the_list_runs_once_more_in_a_thread(not_loaded: None) -> None:
    runs: list[tuple[bool, str]] = []
    results: list[object] = []

    def look_up() -> None:
        runs.append((threading.current_thread() is threading.main_thread(), where.get()))
        results.append(current_list())

    where.set("caller")
    run_when_loaded(look_up)
    await eventually(lambda: results, "the list is loaded")
    assert runs == [(True, "caller"), (False, "caller")]
    assert is_loaded()
    run_when_loaded(look_up)
    assert runs[2:] == [(True, "caller")]


async def test_what_needs_no_list_runs_at_once(not_loaded: None) -> None:
    threads: list[threading.Thread] = []
    run_when_loaded(lambda: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]


def test_without_an_event_loop_the_caller_loads(not_loaded: None) -> None:
    threads: list[threading.Thread] = []

    def look_up() -> None:
        current_list()
        threads.append(threading.current_thread())

    run_when_loaded(look_up)
    assert threads == [threading.current_thread()]


async def test_an_error_in_the_thread_is_logged(not_loaded: None, caplog: pytest.LogCaptureFixture) -> None:
    def look_up() -> None:
        current_list()
        raise ValueError("no such price")

    run_when_loaded(look_up)
    await eventually(lambda: caplog.records, "the error is logged")
    (record,) = caplog.records
    assert record.getMessage() == "the cost of an answer was not recorded"
    assert record.exc_info is not None


async def test_the_list_is_loaded_once(not_loaded: None) -> None:
    load_in_background()
    await load_prices()
    assert is_loaded()
    load_in_background()
    await eventually(lambda: loading.state.thread is None, "the thread has ended")
