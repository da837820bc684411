"""Check a provider against streamcore's contract: a pytest suite to subclass, with every fault and kind of reader.

    class TestMyProvider(ProviderSuite):
        wire = "openai-chat"

        def provider(self, url: str) -> MyProvider:
            return MyProvider(base_url=url + "/v1", api_key="key")

It needs pytest, and runs each test through anyio's plugin. See the guide "Testing".
"""

from __future__ import annotations

import gc
import json
import logging
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import httpx2
import pytest

from streamcore.errors import RateLimitError, ServerError, StreamInterrupted, StreamTimeout
from streamcore.execute import stream_request
from streamcore.net.clients import aclose_providers
from streamcore.net.credentials import credentials
from streamcore.provider import Provider
from streamcore.request import Message, Request
from streamcore.stream import Stream
from streamcore.testing.faults import spoiled
from streamcore.testing.faults.fault_server import ANSWER, FaultServer, Play
from streamcore.testing.faults.steps import Hold, Repeat, Send, Step
from streamcore.testing.faults.table import FAULTS, Fault, slowed
from streamcore.testing.simulator.answers import Answer, PlannedCall
from streamcore.testing.simulator.frames import PROMPT_TOKENS, wire_names
from streamcore.testing.suites.judging import Reading, equal, judge, looks_unfinished, need
from streamcore.testing.suites.watch import nothing_left_behind, quiet
from streamcore.wire.encoding.wire import find_wire

TEXT = "".join(ANSWER.tokens)
PATIENCE = 30.0
"""Seconds after which a stream that does not end fails the test."""

_ASK = Request(messages=[Message("user", "Hello")])
_SLOWER = (1, 5, 25)  # a timeout that expired before the server had done its part is tried again, so much longer
_FLOOD = 1024  # pieces of 64 KiB, far more than all buffers between server and reader store


def _may_pass(fault: Fault) -> bool:
    """Return whether the request is retried after this fault: nothing arrived, and the next attempt may succeed."""
    early = fault.keeps == 0 and fault.place == "server"
    return early and (fault.retryable is True or fault.error is StreamInterrupted or fault.name == "late")


_WHOLE_CALLS = frozenset({"gemini"})
"""The wires that send the arguments of a call at once."""

_LOOPS: Mapping[str, object] = {"asyncio": "asyncio", "trio": "trio", "uvloop": ("asyncio", {"use_uvloop": True})}
"""What anyio's plugin calls each event loop."""


class ProviderSuite:
    """Subclass this in a test module, and pytest runs the suite on your provider.

    Every test also checks that no task, socket or file stays open and that nothing is written to stderr, to the event
    loop's exception handler, or to the unraisable hook.
    """

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.anyio]

    wire: ClassVar[str] = "openai-chat"
    """The wire of the provider: `anthropic-messages`, `openai-chat`, `openai-responses`, `mistral-chat`, `gemini` or
    `bedrock-converse`."""
    backends: ClassVar[Sequence[str]] = ("asyncio", "trio") if find_spec("trio") else ("asyncio",)
    """The event loops that the provider runs on: `asyncio`, `trio` or `uvloop`."""
    deviations: ClassVar[Mapping[str, str]] = {}
    """Rows that are known to fail, each with the reason: a fault's name, `retried-` and a fault's name, or a test's
    name with dashes, without `test_`. They are expected failures; one that passes fails the run."""

    def provider(self, url: str) -> Provider:
        """Return the provider for a server at this address, which has no path."""
        raise NotImplementedError("a ProviderSuite needs a method provider(self, url) that returns your provider")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make each test once for each backend and row."""
        self._check()
        test = metafunc.function.__name__.removeprefix("test_").replace("_", "-")
        if "anyio_backend" in metafunc.fixturenames:
            metafunc.parametrize("anyio_backend", [self._row(_LOOPS[name], test, name) for name in self.backends])
        if "fault" in metafunc.fixturenames:
            fitting = [fault for fault in FAULTS.values() if fault.framing in ("any", self._framing)]
            prefix, faults = ("", fitting) if test == "fault" else ("retried-", filter(_may_pass, fitting))
            metafunc.parametrize("fault", [self._row(fault, prefix + fault.name, fault.name) for fault in faults])

    def _row(self, value: object, name: str, label: str) -> Any:
        reason = self.deviations.get(name)
        marks = () if reason is None else (pytest.mark.xfail(reason=reason, strict=True),)
        return pytest.param(value, id=label, marks=marks)

    def _check(self) -> None:
        tests = {name[5:].replace("_", "-") for name in dir(self) if name.startswith("test_")}
        known = tests | {*FAULTS} | {f"retried-{fault.name}" for fault in FAULTS.values() if _may_pass(fault)}
        unknown = sorted(set(self.deviations) - known)
        if unknown:
            raise pytest.UsageError(f"{type(self).__name__}.deviations: no row is called {', '.join(unknown)}")
        if self.wire not in wire_names():
            raise pytest.UsageError(
                f"{type(self).__name__}.wire is one of {', '.join(wire_names())}, not {self.wire!r}"
            )

    @pytest.fixture(autouse=True)
    def _silent(self, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
        yield
        written = capfd.readouterr().err
        need(not written, f"something was written to stderr: {written}")

    @asynccontextmanager
    async def _serving(self, *plays: Play, answer: Answer = ANSWER) -> AsyncGenerator[tuple[FaultServer, Provider]]:
        """Yield a fault server and a provider for it; at the end everything must be closed."""
        async with nothing_left_behind():
            with FaultServer(*plays, wire=self.wire, answer=answer) as server:
                provider = self.provider(server.url)
                try:
                    yield server, provider
                finally:
                    await provider.aclose()
                    await aclose_providers()

    @property
    def _framing(self) -> str:
        return "binary" if find_wire(self.wire).binary else "sse"

    def _plain(self, *events: bytes) -> list[Step]:
        return [Send(spoiled.streamed(self.wire, *events) + spoiled.END)]

    def _endless(self, every: float = 0.002) -> list[Step]:
        word = spoiled.framed(spoiled.token(self.wire, "word "))
        return [Send(spoiled.streamed(self.wire, *spoiled.begun(self.wire, ANSWER))), Repeat(word, every)]

    # Faults

    async def test_fault(self, fault: Fault) -> None:
        """A fault raises its error, with the text that arrived before it, or changes nothing."""
        for slower in _SLOWER:
            if await self._fault_has_its_outcome(slowed(fault, slower), last=slower == _SLOWER[-1]):
                break

    async def _fault_has_its_outcome(self, fault: Fault, *, last: bool) -> bool:
        """Return False if a timeout expired before the server had done its part, unless this is the last try."""
        plays = ("none", fault) if fault.timeouts else (fault,)
        async with self._serving(*plays) as (server, provider):
            if fault.timeouts:  # imports of the first request must not count for a clock
                await _open(provider).collect()
            reading = await Reading(_open(provider, timeouts=fault.timeouts)).to_the_end()
            may_be_early = not last and isinstance(reading.error, StreamTimeout)
            if may_be_early and reading.text != "".join(ANSWER.tokens[: fault.keeps]):
                return False
            await judge(reading, fault, ANSWER, provider)
            _closed(server)
            wanted = len(plays) if fault.place == "server" else 0
            if may_be_early and len(server.requests) < wanted:
                return False
            equal(len(server.requests), wanted, "the number of requests")
        return True

    async def test_cut_after_every_token(self) -> None:
        """A body that ends without its mark, after any token, interrupts the stream, which keeps the text so far."""
        for kept in range(len(ANSWER.tokens) + 1):
            cut = Answer(ANSWER.tokens, cut=kept)
            fault = Fault("cut", "", lambda wire, answer: self._plain(*spoiled.whole(wire, answer)), StreamInterrupted)
            async with self._serving(fault, answer=cut) as (_, provider):
                reading = await Reading(_open(provider)).to_the_end()
                await judge(reading, fault, Answer(ANSWER.tokens[:kept]), provider)

    async def test_retried(self, fault: Fault) -> None:
        """A temporary fault is retried before the first token, after the time that the vendor asks for."""
        for slower in _SLOWER:
            if await self._fault_is_retried(slowed(fault, 3 * slower), last=slower == _SLOWER[-1]):
                break

    async def _fault_is_retried(self, fault: Fault, *, last: bool) -> bool:
        """Return False if a timeout expired before the server had done its part, unless this is the last try."""
        async with self._serving("none", fault, "none") as (server, provider):
            await _open(provider).collect()
            start = time.monotonic()
            reading = await Reading(_open(provider, timeouts=fault.timeouts, max_retries=1)).to_the_end()
            passed = time.monotonic() - start
            if not last and isinstance(reading.error, StreamTimeout):
                return False
            need(reading.error is None, f"the request was not retried: {reading.error!r}")
            if not last and fault.timeouts and len(server.requests) < 3:
                return False
            equal(reading.text, TEXT, "the text that the reader saw")
            need(passed > 0.99 * (fault.retry_after or 0), "the request was retried before Retry-After")
            first, second = reading.stream.partial.attempts
            need(str(first.error).startswith(fault.error.__name__ if fault.error else ""), f"attempt 1: {first}")
            equal(second.error, None, "the error of the second attempt")
            equal(len(server.requests), 3, "the number of requests")
        return True

    async def test_gives_up(self) -> None:
        """After the last retry the last error is raised, and lists all attempts."""
        async with self._serving("server-error") as (server, provider):
            reading = await Reading(_open(provider, max_retries=2)).to_the_end()
            error = reading.error
            if not isinstance(error, ServerError):
                pytest.fail(f"ServerError must be raised, not {error!r}", pytrace=False)
            equal((len(error.attempts), len(server.requests)), (3, 3), "the number of attempts, and of requests")

    async def test_never_waits_past_total(self) -> None:
        """A Retry-After beyond the caller's `total` is not waited for."""
        steps = spoiled.refusal("429 Too Many Requests", "rate_limit_error", "Slow down", retry_after="50")
        async with self._serving("none", replace(FAULTS["rate-limited"], steps=steps)) as (server, provider):
            await _open(provider).collect()
            reading = await Reading(_open(provider, timeouts={"total": 40}, max_retries=2)).to_the_end()
            need(type(reading.error) is RateLimitError, f"RateLimitError must be raised, not {reading.error!r}")
            equal(len(server.requests), 2, "the number of requests")

    async def test_nothing_is_repeated_after_content(self) -> None:
        """A stream that breaks after its first token is not retried."""
        async with self._serving("reset-mid-stream", "none") as (server, provider):
            reading = await Reading(_open(provider, max_retries=2)).to_the_end()
            need(type(reading.error) is StreamInterrupted, f"StreamInterrupted, not {reading.error!r}")
            equal(len(server.requests), 1, "the number of requests")

    async def test_secrets(self, caplog: pytest.LogCaptureFixture) -> None:
        """A key that the vendor echoes is in no message, traceback or log."""
        async with self._serving("none") as (server, provider):
            await _open(provider).collect()
            sent = credentials(httpx2.Request("POST", server.url, headers=dict(server.requests[0].headers)))
        if not sent:
            pytest.skip("the provider sent no key of 8 characters or more, so none can leak")
        for steps in spoiled.echoes(sent, self.wire):
            async with self._serving(steps) as (server, provider):
                with caplog.at_level(logging.DEBUG):
                    reading = await Reading(_open(provider)).to_the_end()
                error = reading.error
                if error is None:
                    pytest.fail("an answer that is not valid ended without an error", pytrace=False)
                seen = [*traceback.format_exception(error), repr(error), repr(vars(error)), caplog.text]
                need(not any(secret in text for secret in sent for text in seen), f"the key is shown by {type(error)}")

    # What is streamed

    async def test_text_comes_token_by_token(self) -> None:
        """Each token is one chunk, between one `start` and one `finish`; only usage follows."""
        async with self._serving("none") as (_, provider):
            reading = await Reading(_open(provider)).to_the_end()
        texts = [chunk.text for chunk in reading.chunks if chunk.kind == "text"]
        equal(texts, list(ANSWER.tokens), "the texts")
        kinds = [kind for kind in reading.kinds if kind not in ("usage", "ping", "other")]
        equal(kinds, ["start", *["text"] * len(texts), "finish"], "the kinds of the chunks")

    async def test_the_answer_has_model_id_and_reason(self) -> None:
        """`model`, `id` and `finish_reason` are those that the vendor sent."""
        async with self._serving("none") as (_, provider):
            answer = await _open(provider).collect()
        equal((answer.model, answer.finish_reason), ("simulated", "stop"), "model and finish_reason")
        need(answer.id, "the answer has no id")

    async def test_usage(self) -> None:
        """Token counts are those that the vendor reports."""
        async with self._serving("none") as (_, provider):
            usage = (await _open(provider).collect()).usage
        need(usage is not None, "there is no usage")
        counts = usage and (usage.input_tokens, usage.output_tokens)
        equal(counts, (PROMPT_TOKENS, len(ANSWER.tokens)), "the tokens of prompt and answer")

    async def test_reasoning(self) -> None:
        """Reasoning is kept, separate from text."""
        async with self._serving("none", answer=Answer(ANSWER.tokens, reasoning=["Let me", " think."])) as (
            _,
            provider,
        ):
            answer = await _open(provider).collect()
        equal((answer.reasoning, answer.text), ("Let me think.", TEXT), "reasoning and text")

    async def test_tool_calls(self) -> None:
        """Calls come in the fragments of the wire, and fold to their arguments exactly as sent."""
        calls = [PlannedCall("weather", {"city": "Zürich", "days": 3}, "call_1"), PlannedCall("clock", {}, "call_2")]
        async with self._serving("none", answer=Answer(["One moment."], calls=calls)) as (_, provider):
            reading = await Reading(_open(provider)).to_the_end()
        answer = reading.stream.partial
        found = [(call.id, call.name, call.arguments) for call in answer.tool_calls]
        equal(found, [(call.id, call.name, json.dumps(call.arguments)) for call in calls], "the calls")
        pieces = [chunk.tool_call.arguments for chunk in reading.chunks if chunk.tool_call]
        wanted = [part for call in calls for part in call.fragments]
        if self.wire in _WHOLE_CALLS:
            wanted = [json.dumps(call.arguments) for call in calls]
        equal([piece for piece in pieces if piece], wanted, "the fragments of the arguments")
        equal((answer.text, answer.finish_reason), ("One moment.", "tool_calls"), "text and finish_reason")

    # How it is read

    async def test_leaving_async_with_closes(self) -> None:
        """Leaving `async with` closes the vendor's response before the next statement."""
        async with self._serving(self._endless()) as (server, provider):
            stream = _open(provider)
            async with stream:
                async for chunk in stream:
                    if chunk.text:
                        break
            _closed(server)  # this blocks the event loop, so a later close is not seen
            await looks_unfinished(stream)

    async def test_an_error_of_the_reader_closes(self) -> None:
        """An error in the loop's body closes the response too, and is raised unchanged."""

        async def fail_in_the_loop(provider: Provider) -> None:
            async with _open(provider) as stream:
                async for _ in stream:
                    raise ZeroDivisionError

        async with self._serving(self._endless()) as (server, provider):
            with pytest.raises(ZeroDivisionError):
                await fail_in_the_loop(provider)
            _closed(server)

    async def test_breaking_a_bare_loop_closes(self) -> None:
        """Breaking out of a bare `async for` closes within the next turns of the event loop."""
        async with self._serving(self._endless()) as (server, provider):
            async for chunk in _open(provider):
                if chunk.text:
                    break
            await _some_turns()
            _closed(server)

    async def test_dropping_a_stream_closes(self) -> None:
        """Dropping the last reference to a stream that was read with `anext` closes too."""
        async with self._serving(self._endless()) as (server, provider):
            stream = _open(provider)
            await anext(stream)
            del stream
            gc.collect()
            await _some_turns()
            _closed(server)

    async def test_cancelling_before_the_first_byte_closes(self) -> None:
        """A reader that is cancelled before the first byte closes the request."""
        async with self._serving((Hold(),)) as (server, provider):
            stream = _open(provider)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stream.collect)
                await _until(lambda: server.requests)
                tasks.cancel_scope.cancel()
            _closed(server)
            await looks_unfinished(stream)

    async def test_cancelling_in_the_middle_closes(self) -> None:
        """A reader that is cancelled in a read closes the response, and keeps what it has read."""
        async with self._serving(self._endless()) as (server, provider):
            reading = Reading(_open(provider))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(reading.to_the_end)
                await _until(lambda: len(reading.chunks) > 5)
                tasks.cancel_scope.cancel()
            _closed(server)
            await looks_unfinished(reading.stream)
            need(reading.stream.partial.text.startswith(reading.text), "text that was read is not in .partial")

    async def test_stop_ends_without_an_error(self) -> None:
        """`stop()` from another task ends the stream without an error, closed and not complete."""
        async with self._serving(self._endless()) as (server, provider):
            reading = Reading(_open(provider))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(reading.to_the_end)
                await _until(lambda: len(reading.chunks) > 5)
                reading.stream.stop()
            _closed(server)
            equal(reading.error, None, "the error of a stream that was stopped")
            equal(reading.stream.partial.text, reading.text, "the text in stream.partial")
            need(not reading.stream.partial.complete, "a stream that was stopped must not look complete")

    async def test_a_slow_reader_slows_the_vendor_down(self) -> None:
        """A stream reads no further than its reader: the vendor's writes come to a halt."""
        piece = spoiled.framed(spoiled.token(self.wire, "x" * 65536))
        begin = Send(spoiled.streamed(self.wire, *spoiled.begun(self.wire, ANSWER)))
        flood: list[Step] = [begin, Repeat(piece, times=_FLOOD)]
        async with self._serving(flood) as (server, provider):
            async with _open(provider) as stream:
                await anext(stream)
                await _until(lambda: server.blocked or server.sent >= _FLOOD * len(piece))
                need(server.sent < _FLOOD * len(piece) // 2, f"{server.sent} bytes were read for one chunk")
            _closed(server)

    def test_a_second_event_loop(self, anyio_backend: str | tuple[str, dict[str, Any]]) -> None:
        """The same provider works in a second event loop, after the first one has ended."""

        async def ask() -> str:
            return (await _open(provider).collect()).text

        with quiet(), FaultServer("none", wire=self.wire) as server:
            provider = self.provider(server.url)
            backend, options = (anyio_backend, {}) if isinstance(anyio_backend, str) else anyio_backend
            for _ in range(2):
                equal(anyio.run(ask, backend=backend, backend_options=options), TEXT, "the answer")


def _open(provider: Provider, *, timeouts: Mapping[str, float] | None = None, max_retries: int = 0) -> Stream:
    return stream_request(
        _ASK, provider=provider, timeouts={"total": PATIENCE, **(timeouts or {})}, max_retries=max_retries
    )


def _closed(server: FaultServer) -> None:
    server.wait_until(lambda server: server.open == 0, "the connection was closed")


async def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        need(time.monotonic() < deadline, f"the condition was not met within {PATIENCE:g} s")
        await anyio.sleep(0.001)


async def _some_turns() -> None:
    for _ in range(10):  # turns of the loop, not time
        await anyio.lowlevel.checkpoint()
