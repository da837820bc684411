"""Log one record for each answer, whatever its outcome, with figures and without texts or keys."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import TracerProvider

from streamcore import Chunk, Message, Request, StreamcoreError, Usage, stream_agent, stream_request
from streamcore.answer_log import AnswerLog, JSONFormatter
from streamcore.chunk import ToolCall
from streamcore.errors import OverloadedError, ToolError
from streamcore.observe import observe
from streamcore.pricing import use_prices
from streamcore.pricing.loading import load_list
from streamcore.relay import Relay
from streamcore.testing import ScriptedProvider
from streamcore.testing.scripted import FINISH
from streamcore.tools import tool

pytestmark = pytest.mark.anyio
SECRET = "the tide turns at noon"
REQUEST = Request([Message("user", SECRET)])
START = Chunk("start", model="m", id="resp_1", request_id="req_1")
NAMES = ("breaks", "refuses")
USED = Chunk("usage", usage=Usage(1000, 500))


@pytest.fixture(autouse=True)
def prices() -> Iterator[None]:
    load_list()
    use_prices({"m": {"input": 1, "output": 2}})
    yield
    use_prices(None)


def records(caplog: pytest.LogCaptureFixture, event: str = "answer") -> list[Any]:
    return [record for record in caplog.records if getattr(record, "event", None) == event]


async def test_a_record_has_the_figures_and_no_text(caplog: pytest.LogCaptureFixture) -> None:
    provider = ScriptedProvider([START, f"Yes, {SECRET}.", FINISH, USED], name="vendor")
    with caplog.at_level(logging.INFO, "streamcore"):
        await stream_request(REQUEST, provider=provider, observer=AnswerLog()).collect()
    (record,) = records(caplog)
    assert record.name == "streamcore"
    assert record.levelno == logging.INFO
    assert (record.outcome, record.provider, record.model) == ("finished", "vendor", "m")
    assert (record.input_tokens, record.output_tokens, record.attempts) == (1000, 500, 1)
    assert (record.cost, record.currency, record.cost_source) == ("0.002", "USD", "prices")
    assert (record.response_id, record.request_id) == ("resp_1", "req_1")
    assert record.seconds >= record.first_content_seconds >= 0
    line = JSONFormatter().format(record)
    assert SECRET not in line
    written = json.loads(line)
    assert written["message"].startswith("answer finished: vendor m, ")
    assert written["message"].endswith(" s, 1000 tokens in, 500 out, 0.002 USD")
    assert {"time", "level", "logger", "event", "cost"} <= written.keys()
    assert "owner" not in written


async def test_a_cut_answer_is_a_warning_with_its_usage(caplog: pytest.LogCaptureFixture) -> None:
    provider = ScriptedProvider([START, USED, "half"])
    with caplog.at_level(logging.INFO, "streamcore"), pytest.raises(StreamcoreError):
        await stream_request(REQUEST, provider=provider, observer=AnswerLog()).collect()
    (record,) = records(caplog)
    assert (record.outcome, record.error, record.levelno) == ("interrupted", "StreamInterrupted", logging.WARNING)
    assert (record.input_tokens, record.cost) == (1000, "0.002")


async def test_a_stopped_answer_has_its_usage(caplog: pytest.LogCaptureFixture) -> None:
    provider = ScriptedProvider([START, USED, "half", anyio.sleep_forever])
    with caplog.at_level(logging.INFO, "streamcore"):
        stream = stream_request(REQUEST, provider=provider, observer=AnswerLog())
        async with stream:
            async for chunk in stream:
                if chunk.text:
                    stream.stop()
    (record,) = records(caplog)
    assert (record.outcome, record.output_tokens, record.cost) == ("stopped", 500, "0.002")


async def test_a_cancelled_answer_has_its_usage(caplog: pytest.LogCaptureFixture) -> None:
    provider = ScriptedProvider([START, USED, "half", anyio.sleep_forever])
    with caplog.at_level(logging.INFO, "streamcore"):
        with anyio.CancelScope() as scope:
            async for chunk in stream_request(REQUEST, provider=provider, observer=AnswerLog()):
                if chunk.text:
                    scope.cancel()
    (record,) = records(caplog)
    assert record.outcome == "cancelled"
    assert (record.output_tokens, record.cost) == (500, "0.002")


async def test_a_fallback_names_the_next_provider(caplog: pytest.LogCaptureFixture) -> None:
    error = OverloadedError("busy", provider="first", retryable=True)
    provider = ScriptedProvider(error, name="first")
    with caplog.at_level(logging.INFO, "streamcore"):
        await stream_request(
            REQUEST,
            provider=provider,
            max_retries=0,
            fallback=[{"provider": "demo", "model": "other"}],
            observer=AnswerLog(),
        ).collect()
    (fallback,) = records(caplog, "fallback")
    assert (fallback.provider, fallback.model, fallback.error) == ("demo", "other", "OverloadedError")
    assert "'demo'" in fallback.getMessage()
    (record,) = records(caplog)
    assert (record.provider, record.attempts, record.outcome) == ("demo", 2, "finished")


async def test_each_answer_of_an_agent_has_a_record(caplog: pytest.LogCaptureFixture) -> None:
    @tool
    def look() -> str:
        """Look."""
        return SECRET

    call = Chunk("tool_call", tool_call=ToolCall("1", "look", "{}"))
    end = Chunk("finish", finish_reason="tool_calls", raw_finish_reason="tool_calls")
    provider = ScriptedProvider([START, call, end, USED], [START, "Done.", FINISH, USED])
    with caplog.at_level(logging.INFO, "streamcore"), observe(AnswerLog(cost=False)):
        await stream_agent(REQUEST, provider=provider, tools=[look]).collect()
    found = records(caplog)
    assert [record.finish_reason for record in found] == ["tool_calls", "stop"]
    assert [record.cost for record in found] == [None, None]
    assert SECRET not in "".join(map(JSONFormatter().format, found))


async def test_a_tool_that_fails_is_logged_with_the_class_of_its_error(caplog: pytest.LogCaptureFixture) -> None:
    @tool
    def breaks() -> str:
        """Break."""
        raise ConnectionError(SECRET)

    @tool
    def refuses() -> str:
        """Refuse."""
        raise ToolError(SECRET)

    end = Chunk("finish", finish_reason="tool_calls", raw_finish_reason="tool_calls")
    steps = [[START, Chunk("tool_call", tool_call=ToolCall(name, name, "{}")), end, USED] for name in NAMES]
    provider = ScriptedProvider(*steps, [START, "Done.", FINISH, USED])
    with caplog.at_level(logging.INFO, "streamcore"), observe(AnswerLog()):
        async with Relay() as relay:
            running = stream_agent(REQUEST, provider=provider, tools=[breaks, refuses])
            await relay.start("run-3", running, owner="ada")
            async for _ in relay.read("run-3", who="ada"):
                pass
    found = {record.tool: record for record in records(caplog, "tool")}
    assert [(found[name].error, found[name].levelname) for name in NAMES] == [
        ("ConnectionError", "WARNING"),
        ("ToolError", "INFO"),
    ]
    assert {(record.owner, record.run_id, record.outcome) for record in found.values()} == {("ada", "run-3", "failed")}
    assert SECRET not in "".join(map(JSONFormatter().format, found.values()))


async def test_an_answer_of_a_run_has_its_owner(caplog: pytest.LogCaptureFixture) -> None:
    provider = ScriptedProvider([START, "Yes.", FINISH, USED])
    with caplog.at_level(logging.INFO, "streamcore"), observe(AnswerLog()):
        async with Relay() as relay:
            await relay.start("run-1", stream_request(REQUEST, provider=provider), owner="ada", thread="t")
            async for _ in relay.read("run-1", who="ada"):
                pass
    (record,) = records(caplog)
    assert (record.owner, record.run_id, record.thread_id) == ("ada", "run-1", "t")


async def test_a_failed_answer_has_what_the_vendor_sent_beside_its_text(caplog: pytest.LogCaptureFixture) -> None:
    error = OverloadedError(SECRET, provider="vendor", status=529, code="overloaded", request_id="req_9")
    provider = ScriptedProvider(error, error, name="vendor")
    with caplog.at_level(logging.INFO, "streamcore"), observe(AnswerLog()):
        async with Relay() as relay:
            failing = stream_request(REQUEST, provider=provider, max_retries=1)
            await relay.start("run-2", failing, owner="ada")
            with pytest.raises(OverloadedError):
                async for _ in relay.read("run-2", who="ada"):
                    pass
    (record,) = records(caplog)
    assert (record.status, record.code, record.request_id) == (529, "overloaded", "req_9")
    assert SECRET not in JSONFormatter().format(record)
    (retry,) = records(caplog, "retry")
    assert retry.run_id == "run-2"


def test_a_line_has_the_trace_in_which_it_was_written(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("streamcore").warning("outside")
    assert "trace_id" not in json.loads(JSONFormatter().format(caplog.records[-1]))
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("work") as span:
        line = json.loads(JSONFormatter().format(caplog.records[-1]))
    assert line["trace_id"] == format(span.get_span_context().trace_id, "032x")


def test_an_exception_is_in_the_json(caplog: pytest.LogCaptureFixture) -> None:
    try:
        int("broken")
    except ValueError:
        logging.getLogger("streamcore").exception("failed %s", "here")
    written = json.loads(JSONFormatter().format(caplog.records[-1]))
    assert written["message"] == "failed here"
    assert "ValueError: invalid literal" in written["exception"]
