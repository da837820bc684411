"""Open what answers a chat: a model of a provider, a prompt with calls that wait for approval, or a graph's thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from streamcore.completion import Completion
from streamcore.execute import stream_agent
from streamcore.graph.limits import AnswerTokens
from streamcore.graph.stream import stream_graph_with_tokens
from streamcore.request import Message
from streamcore.web.approvals import Waiting
from streamcore.web.endpoints.ai_sdk.request import RULES, ChatRequest
from streamcore.web.endpoints.ai_sdk.runs import GraphRun
from streamcore.web.endpoints.catalog import Conversation, GraphModel, Model, PromptModel
from streamcore.web.endpoints.recent_threads import RecentThreads
from streamcore.web.endpoints.waiting_calls import WaitingCalls
from streamcore.web.spending import run_cost
from streamcore.web.target import AnswerSource, RunRequest
from streamcore.wire.encoding.wire import RequestRefused

NOTHING_WAITS = "no call waits for approval here: it was decided before, or has expired; send the message again"


@dataclass(frozen=True, slots=True)
class Opened:
    """What answers a request; nothing has been sent to a vendor."""

    open: Callable[[], Awaitable[AnswerSource]]
    ended: Callable[[Completion | None, Sequence[Message]], Awaitable[None]]
    tokens: AnswerTokens | None
    graph: GraphRun | None = None


async def open_chat(chat: ChatRequest, model: Model, key: str, threads: RecentThreads) -> Opened:
    """Return what answers a request.

    Args:
        chat: the request.
        model: the model that it names.
        key: the chat's name in the stores.
        threads: forgets the oldest chats that only memory keeps.

    Raises:
        RequestRefused: the request has something that this model cannot honour.
    """
    if isinstance(model, GraphModel):
        return await _open_graph(chat, model, key, threads)
    if isinstance(model, PromptModel):
        return await _open_prompt(chat, model, key, threads)
    source: Any = await model.open(chat.asked, RULES)
    return Opened(_given(source), _nothing, model.tokens())


async def _open_prompt(chat: ChatRequest, model: PromptModel, key: str, threads: RecentThreads) -> Opened:
    text = _last_text(chat)
    calls = WaitingCalls(model.target, key)
    waiting = await calls.load()
    if chat.decisions:
        if waiting is None:
            raise RequestRefused(NOTHING_WAITS, kind="conflict")
        why = waiting.refuse(chat.decisions)
        if why is not None:
            raise RequestRefused(f"messages: {why}", param="messages")
        source: Any = _resumed(chat, model, waiting)
        text = waiting.user
    else:
        source = await model.open(chat.asked, RULES)
    if waiting is not None:
        await calls.use()

    async def ended(answer: Completion | None, messages: Sequence[Message]) -> None:
        if answer is not None and answer.pending:
            asked = [call.id or "" for call in answer.pending]
            await calls.save(text, messages, asked)
            await threads.use(key, model.target)

    return Opened(_given(source), ended, model.tokens())


def _resumed(chat: ChatRequest, model: PromptModel, waiting: Waiting) -> AnswerSource:
    """Return the run that goes on with the user's decisions, with the calls as the service has kept them."""
    target, overrides = model.target, model.target.overrides
    return stream_agent(
        target.prompt.name,
        {**target.given, target.input: waiting.user},
        messages=waiting.messages,
        resume=chat.decisions,
        tools=chat.asked.request.tools,
        provider=overrides.provider,
        model=overrides.model,
        temperature=overrides.temperature,
        transport=overrides.transport,
        prompts_dir=target.prompts_dir,
        max_cost=run_cost(target.limits),
    )


def _last_text(chat: ChatRequest) -> str:
    return next((one.text for one in reversed(chat.asked.request.messages) if one.role == "user"), "")


async def _open_graph(chat: ChatRequest, model: GraphModel, key: str, threads: RecentThreads) -> Opened:
    """Return the run of a graph, whose thread is the chat.

    If it waits for an answer, the message is the answer, or the decisions about the calls of an agent are.
    """
    model.check(chat.asked, RULES)
    target = model.target
    talk = Conversation.of(chat.asked, model.name)
    if chat.decisions:
        _check_decisions(chat, await target.waiting_calls(key))
    elif talk.after:
        raise RequestRefused(
            f"messages: {model.name!r} is a graph; the last message must be the user's", param="messages"
        )
    state = await target.state(key)
    asked = state is not None and state.status == "waiting"
    if asked and chat.regenerate:
        raise RequestRefused("the graph waits for the answer to its question; send one", kind="conflict")
    turns = [{"role": one.role, "content": one.text} for one in chat.asked.request.messages]
    answer: Any = dict(chat.decisions) or talk.text
    run = RunRequest(resume=answer) if asked else RunRequest(talk.text)
    why = await target.refuse(key, run)
    if why is not None:
        raise RequestRefused(f"messages: {why}", param="messages")
    start = {} if asked else {**dict.fromkeys(model.history_keys[:1], turns), **target.initial_state(run)}
    await threads.use(key, target)

    async def opened() -> AnswerSource:
        config = replace(target.config(key), include_metadata=True, resume=run.resume)
        return _ClientEvents(stream_graph_with_tokens(target.graph, start, config))

    return Opened(opened, _nothing, None, GraphRun(target, key, start, run.resume))


def _check_decisions(chat: ChatRequest, waiting: Sequence[str]) -> None:
    """Refuse decisions about other calls than those that wait in the graph's thread.

    Raises:
        RequestRefused: there are some, or one that waits has none.
    """
    if not waiting:
        raise RequestRefused(NOTHING_WAITS, kind="conflict")
    if set(chat.decisions) != set(waiting):
        raise RequestRefused(
            f"messages: the answer must decide about exactly these calls: {', '.join(waiting)}.", param="messages"
        )


class _ClientEvents:
    """The events of a graph as clients get them: without metadata of tokens, and without states."""

    def __init__(self, events: AnswerSource) -> None:
        self._events = events

    def __aiter__(self) -> _ClientEvents:
        return self

    async def __anext__(self) -> Any:
        return _without_state(await anext(self._events))

    async def aclose(self) -> None:
        """Close the run."""
        await self._events.aclose()


def _without_state(event: Mapping[str, Any]) -> Mapping[str, Any]:
    if event["type"] == "token":
        return {"type": "token", "node": event["node"], "content": event["content"]}
    return {**event, "state": {}} if event["type"] == "graph_complete" else event


def _given(source: Any) -> Callable[[], Awaitable[AnswerSource]]:
    async def opened() -> AnswerSource:
        found: AnswerSource = source
        return found

    return opened


async def _nothing(answer: Completion | None, messages: Sequence[Message]) -> None:
    """Save nothing: the page has the conversation, the store a graph's thread."""
