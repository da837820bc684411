"""Define `ScriptedProvider`, a provider for tests: it streams the chunks that a test lists, and records its calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel

from streamcore.chunk import Chunk, FinishReason, ToolCall, Usage
from streamcore.request import Request
from streamcore.testing.simulator.answers import Answer, with_call_ids

Step = Chunk | str | Sequence[Chunk | str] | float | Exception | Callable[[], Awaitable[object]]
"""What a script does next; see `ScriptedProvider`."""

Script = str | Answer | Exception | Iterable[Step]
"""What one call of `stream` does: a whole answer, an error, or steps."""

FINISH = Chunk("finish", finish_reason="stop", raw_finish_reason="stop")
"""The chunk that marks the end of a complete answer."""


class ScriptedProvider:
    """Stream scripted answers without a network, and record what was requested and what was closed.

    Each call of `stream` plays the next answer; the last one is repeated. An answer is one of:

    - a `str` or an `Answer`: the complete answer, a chunk a token, from `start` to `finish` and `usage`;
    - an exception, which is raised at once;
    - an iterable of steps, played exactly as they are: without a `finish` chunk the stream is interrupted;
    - a function that takes the `Request` and returns one of these. A generator function makes steps one by one.

    Calls of an `Answer` without an id of their own get one that no other call of the provider has.

    A step is one of:

    - a `Chunk`, or a `str` for a text chunk: one network read with this chunk;
    - a sequence of them: one network read with all of them; an empty one is a read that completed no chunk;
    - a number: a pause in seconds;
    - an exception, which is raised;
    - a function without arguments, which is called and awaited, as `event.wait` or `anyio.sleep_forever`.

    Closing a stream early takes one turn of the event loop, as closing a socket does. A stream whose closing is
    cancelled stays in `open_requests`.

    Args:
        answers: what the calls of `stream` play, in turn.
        name: the provider's name in attempts and errors.
        takes_schema: True for a provider that is sent JSON Schemas (`Request.output_schema`), not descriptions.

    Raises:
        ValueError: there is no answer.
        TypeError: an answer is none of these; when it is played, a step.
    """

    def __init__(
        self, *answers: Script | Callable[[Request], Script], name: str = "scripted", takes_schema: bool = False
    ) -> None:
        if not answers:
            raise ValueError("ScriptedProvider has no answer to play; give it at least one")
        for number, answer in enumerate(answers):
            _check(answer, number)
        self.name = name
        self.requests: list[Request] = []
        """The requests, in the order in which their streams began."""
        self.open_requests: list[Request] = []
        """The requests whose streams are open now."""
        self.closed_requests: list[Request] = []
        """The requests whose streams have ended or been closed, in that order."""
        self.most_open = 0
        """The largest number of streams that were open at the same time."""
        self.closed = False
        """True after `aclose`."""
        self._answers = answers
        self._calls = 0
        self._takes_schema = takes_schema

    @property
    def open(self) -> int:
        """The number of streams that are open now."""
        return len(self.open_requests)

    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Play the next answer; see `Provider.stream`."""
        answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
        self.requests.append(request)
        self.open_requests.append(request)
        self.most_open = max(self.most_open, self.open)
        closed_early = False
        try:
            for step in self._steps(answer(request) if callable(answer) else answer):
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, (int, float)):
                    await anyio.sleep(step)
                elif callable(step):
                    await step()
                else:
                    await anyio.lowlevel.checkpoint()
                    yield _read(step)
        except GeneratorExit:
            closed_early = True
            raise
        finally:
            if closed_early:
                await anyio.lowlevel.checkpoint()
            self.open_requests.remove(request)
            self.closed_requests.append(request)

    def _steps(self, script: Script) -> Iterable[Step]:
        if isinstance(script, Exception):
            return [script]
        if isinstance(script, str):
            script = Answer.of(script)
        if not isinstance(script, Answer):
            return script
        first = self._calls + 1
        self._calls += len(script.calls)
        return _chunks(replace(script, calls=with_call_ids(script.calls, "call_simulated_{}", first)))

    def takes_schema(self, schema: Mapping[str, Any]) -> bool:
        """Return whether JSON Schemas are sent to this provider, as `takes_schema=` states."""
        return self._takes_schema

    async def aclose(self) -> None:
        """Record that the provider was closed."""
        self.closed = True


def _check(answer: Script | Callable[[Request], Script], number: int) -> None:
    """Raise TypeError for what is no answer."""
    given: object = answer
    if isinstance(given, type) and issubclass(given, BaseException):
        raise TypeError(f"answer {number} of ScriptedProvider is a class; give an instance, as {given.__name__}('...')")
    if isinstance(given, (bytes, Mapping)) or not (
        isinstance(given, (Answer, Exception, Iterable)) or callable(answer)
    ):
        raise TypeError(
            f"answer {number} of ScriptedProvider is a text, an Answer, an exception, a list of steps or a function of "
            f"the Request, not {answer!r}"
        )


def _read(step: Any) -> list[Chunk]:
    parts: Sequence[Any] = [step] if isinstance(step, (Chunk, str)) else step
    if isinstance(step, Sequence | Chunk) and all(isinstance(part, (Chunk, str)) for part in parts):
        return [Chunk("text", part) if isinstance(part, str) else part for part in parts]
    raise TypeError(
        "a step of ScriptedProvider is a text, a Chunk, a list of these, a number of seconds, an exception or an async "
        f"function, not {step!r}"
    )


def _chunks(answer: Answer) -> Iterator[Chunk]:
    """Yield the chunks of an answer; `answer.cut` ends them after so many chunks of content."""
    yield Chunk("start", id="scripted-1", model=answer.model)
    content = [
        *(Chunk("reasoning", piece) for piece in answer.reasoning),
        *(Chunk("text", token) for token in answer.tokens),
        *_call_chunks(answer),
    ]
    yield from content[: answer.cut]
    if answer.cut is None:
        reason: FinishReason = "tool_calls" if answer.calls else "stop"
        yield Chunk("finish", finish_reason=reason, raw_finish_reason=reason)
        yield Chunk("usage", usage=Usage(output_tokens=len(answer.reasoning) + len(answer.tokens)))


def _call_chunks(answer: Answer) -> Iterator[Chunk]:
    for position, call in enumerate(answer.calls):
        yield Chunk("tool_call", tool_call=ToolCall(call.id, call.name, "", position))
        for fragment in call.fragments:
            yield Chunk("tool_call", tool_call=ToolCall(None, None, fragment, position))
