"""Start the runs that AG-UI clients ask for: of a model, a prompt, or a graph, each in its thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from streamcore.execute import stream_agent
from streamcore.graph.stream import stream_graph_with_tokens
from streamcore.graph.thread import Thread
from streamcore.request import Message
from streamcore.request import Request as ModelRequest
from streamcore.sse.agui.encoder import visible
from streamcore.stream import Stream
from streamcore.tools.decisions import unanswered
from streamcore.web.endpoints.agui.reading import AguiRequest
from streamcore.web.endpoints.agui.rules import RULES
from streamcore.web.endpoints.agui.sources import Abandoned, GraphEvents, ModelRun, interrupt_id
from streamcore.web.endpoints.agui.threads import answers_to, decision_in, thread_key
from streamcore.web.endpoints.catalog import Conversation, GraphModel, Model, PromptModel
from streamcore.web.endpoints.recent_threads import RecentThreads
from streamcore.web.endpoints.waiting_calls import WaitingCalls
from streamcore.web.input_check import size_of
from streamcore.web.spending import run_cost
from streamcore.web.target import RunRequest
from streamcore.wire.encoding.wire import RequestRefused, WireRequest
from streamcore.wire.lenient import mapping

Open = Callable[[], Awaitable[Any]]
"""Starts a run and returns its source; what a request uses up is used up only then."""


class Runs:
    """The threads of a service, and the runs in them.

    Args:
        service: the name of the service.
        max_input: the maximum number of characters of an answer, and of the changes of a state.
    """

    def __init__(self, service: str, max_input: int) -> None:
        self._service = service
        self._max_input = max_input
        self._threads = RecentThreads()

    async def open(self, asked: AguiRequest, model: Model, who: str) -> tuple[Mapping[str, Any], Open]:
        """Return the state at the start of a run, and the function that starts it.

        Raises:
            RequestRefused: the model cannot honour the request.
        """
        key = thread_key(self._service, model.name, who, asked.run.thread_id)
        if isinstance(model, GraphModel):
            await self._threads.use(key, model.target)
            return await self._open_graph(asked, model, key)
        if asked.state:
            raise RequestRefused(f"state is not supported by {model.name!r}, which is no graph", param="state")
        if isinstance(model, PromptModel):
            await self._threads.use(key, model.target)
            return {}, await self._open_prompt(asked, model, key)
        answers_to((), asked.resume, self._max_input)
        _refuse_open_calls(asked.asked.request.messages)

        async def start() -> ModelRun:
            return ModelRun(await _stream_of(model, _with_context(asked)), model.tokens())

        return {}, start

    async def _open_prompt(self, asked: AguiRequest, model: PromptModel, key: str) -> Open:
        waiting = WaitingCalls(model.target, key)
        saved = await waiting.load()
        answers = answers_to(() if saved is None else saved.asked, asked.resume, self._max_input)
        tokens = model.tokens()
        own = {tool.name for tool in model.target.prompt.tools.ready()}
        taken = [tool.name for tool in asked.asked.request.tools if tool.name in own]
        if taken:
            raise RequestRefused(f"tools: {model.name!r} has a tool {taken[0]!r} of its own", param="tools")
        if saved is None:
            talk = Conversation.of(asked.asked, model.name)

            async def start() -> ModelRun:
                return ModelRun(await _stream_of(model, _with_context(asked)), tokens, waiting, talk.text)

            return start
        decisions = {call: decision_in(answer) for call, answer in answers.items()}
        results = [one for one in asked.asked.request.messages if one.role == "tool"]
        open_calls = {call.id for call in unanswered(saved.messages)} - set(saved.asked)
        messages = [*saved.messages, *(one for one in results if one.tool_call_id in open_calls)]

        def change(request: ModelRequest) -> ModelRequest:
            return model.with_settings(request, asked.asked.request)

        async def start_again() -> ModelRun:
            await waiting.use()
            target, options = model.target, dict[str, Any](change=change, max_cost=run_cost(model.target.limits))
            stream = stream_agent(
                target.prompt.name,
                {**target.given, target.input: saved.user},
                messages=messages,
                resume=decisions,
                provider=target.overrides.provider,
                model=target.overrides.model,
                temperature=target.overrides.temperature,
                transport=target.overrides.transport,
                prompts_dir=target.prompts_dir,
                timeouts=model.timeouts(),
                **options,
            )
            return ModelRun(stream, tokens, waiting, saved.user)

        return start_again

    async def _open_graph(self, asked: AguiRequest, model: GraphModel, key: str) -> tuple[Mapping[str, Any], Open]:
        target = model.target
        model.check(asked.asked, RULES)
        config = replace(target.config(key), include_metadata=True)
        thread = await Thread.open(target.graph, config)
        question = interrupt_id(thread)
        answers = answers_to(() if question is None else (question,), asked.resume, self._max_input)
        changed = self._changed(asked, thread, target.client_variables)
        values: dict[str, Any]
        if question is None:
            run = RunRequest(_text(asked, model) or None, changed)
            why = await target.refuse(key, run)
            if why is not None:
                raise RequestRefused(why, param="messages")
            values = {**_history(asked, model, thread), **target.initial_state(run)}
        else:
            answer = answers[question]
            if changed:
                raise RequestRefused("state may not be changed with the answer to an interrupt", param="state")
            if answer.cancelled and not _is_approval(thread):
                return visible(thread.public_state()), _returning(Abandoned(thread))
            config = replace(config, resume=_graph_answer(answer.payload, cancelled=answer.cancelled, thread=thread))
            values = {}
        events = GraphEvents(target, config, lambda: stream_graph_with_tokens(target.graph, values, config), values)
        return {**thread.public_state(), **values}, _returning(events)

    def _changed(self, asked: AguiRequest, thread: Thread, allowed: Any) -> dict[str, Any]:
        """Return the values of the client's state that differ from those of the thread.

        Raises:
            RequestRefused: clients may not set one of them, or they are too large.
        """
        known = visible(thread.public_state())
        changed = {key: value for key, value in asked.state.items() if key not in known or known[key] != value}
        for key in changed:
            if key not in allowed:
                listed = ", ".join(sorted(allowed)) or "none"
                raise RequestRefused(
                    f"state.{key[:80]} may not be set by clients; allowed are: {listed}", param=f"state.{key[:80]}"
                )
        if changed and size_of(changed) > self._max_input:
            raise RequestRefused(
                f"state may change by at most {self._max_input} characters", param="state", kind="too_large"
            )
        return changed


def _returning(source: Any) -> Open:
    async def start() -> Any:
        return source

    return start


async def _stream_of(model: Model, asked: WireRequest) -> Stream:
    stream = await model.open(asked, RULES)
    assert isinstance(stream, Stream)  # noqa: S101  of a model that is no graph
    return stream


def _with_context(asked: AguiRequest) -> WireRequest:
    """Return the request with the application's context as the first message."""
    request = asked.asked.request
    if not asked.context:
        return asked.asked
    messages = [*request.messages]
    first = next((number for number, one in enumerate(messages) if one.role != "system"), len(messages))
    messages.insert(first, Message("user", asked.context_text))
    return replace(asked.asked, request=replace(request, messages=messages))


def _refuse_open_calls(messages: Sequence[Message]) -> None:
    """Raise if the conversation ends with calls without results, which no model accepts.

    Raises:
        RequestRefused: it does.
    """
    open_calls = unanswered(messages)
    if open_calls:
        raise RequestRefused(f"messages: the call {open_calls[0].id!r} has no result", param="messages")


def _text(asked: AguiRequest, model: GraphModel) -> str:
    """Return the message of the user to a graph; "" without messages."""
    if asked.context:
        raise RequestRefused(f"context is not supported by {model.name!r}, which is a graph", param="context")
    if not asked.asked.request.messages:
        return ""
    return Conversation.of(asked.asked, model.name).text


def _history(asked: AguiRequest, model: GraphModel, thread: Thread) -> dict[str, Any]:
    """Return the conversation for a graph whose state declares it.

    Raises:
        RequestRefused: neither the graph nor the thread has a place for it.
    """
    messages = asked.asked.request.messages
    keys = model.history_keys
    if keys:
        return {keys[0]: [{"role": one.role, "content": one.text} for one in messages]}
    if len(messages) > 1 and not thread.version:
        raise RequestRefused(
            f"messages: {model.name!r} does not know this thread, and its state declares no 'messages' or 'history'; "
            "begin a new thread",
            param="messages",
        )
    return {}


def _is_approval(thread: Thread) -> bool:
    """True if an agent of the graph asks whether a call may run."""
    question = thread.question() or {}
    return set(mapping(question.get("message"))) == {"tool", "args"}


def _graph_answer(payload: Any, *, cancelled: bool, thread: Thread) -> Any:
    """Return the answer to the question of a graph; a decision about a call may have the form of the protocol."""
    if cancelled:
        return False
    given = mapping(payload)
    if _is_approval(thread) and "approved" in given:
        edited = given.get("editedArgs")
        more = {} if edited is None else {"arguments": edited}
        if given["approved"] is True:
            return {"approve": True, **more}
        return {"approve": False, "reason": str(given.get("reason") or "")}
    return payload
