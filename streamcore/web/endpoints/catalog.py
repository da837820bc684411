"""Find what answers a model's name: a target that is served, or a provider's model that the operator allows."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Protocol

from streamcore.execute import stream_prompt, stream_request
from streamcore.graph.limits import AnswerTokens, Budget, RunLimits
from streamcore.graph.stream import stream_graph_with_tokens
from streamcore.provider import Provider, get_provider, provider_names, vendor
from streamcore.request import Message, Request, Text
from streamcore.timeouts import Timeouts
from streamcore.tools.decisions import unanswered
from streamcore.web.endpoints.sources import GraphSource, Source
from streamcore.web.graph_target import GraphTarget
from streamcore.web.prompt_target import PromptTarget
from streamcore.web.spending import run_cost
from streamcore.web.target import RunRequest, ServedTarget
from streamcore.wire.encoding.wire import RequestRefused, WireRequest, wires

_CHECKED = (
    "temperature",
    "max_tokens",
    "stop",
    "tools",
    "tool_choice",
    "output_schema",
    "reasoning",
    "seed",
    "cache",
)
HISTORY_KEYS = ("messages", "history")
"""The keys of a graph's state that take the whole conversation."""


class WireRules(Protocol):
    """What a model has to know of a wire; see `Wire`, which is one."""

    @property
    def name(self) -> str: ...
    @property
    def shared(self) -> frozenset[str]: ...
    @property
    def informative(self) -> frozenset[str]: ...
    @property
    def required(self) -> frozenset[str]: ...


class Model(Protocol):
    """Something that answers under a model's name."""

    @property
    def name(self) -> str: ...

    @property
    def passes_on(self) -> bool:
        """Whether the request goes to a vendor as the client wrote it."""
        ...

    @property
    def returned(self) -> frozenset[str] | None:
        """The tools of the model whose calls the client gets; None: no tools run in the service."""
        ...

    def tokens(self) -> AnswerTokens | None:
        """Return what counts the tokens of one answer; None: the source counts them itself."""
        ...

    async def open(self, asked: WireRequest, wire: WireRules) -> Source:
        """Return the source of the answer.

        Raises:
            RequestRefused: the request has something that this model cannot honour.
        """
        ...


@dataclass(frozen=True, slots=True)
class PassedOn:
    """A model of a provider, as the environment of the service configures it."""

    name: str
    provider: str
    model: str
    timeouts: Timeouts
    limits: RunLimits
    find_provider: Callable[[str], Provider]
    passes_on: bool = True
    returned: frozenset[str] | None = None

    def tokens(self) -> AnswerTokens | None:
        """Return what counts the tokens of one answer."""
        return Budget(self.limits).answer(self.name)

    async def open(self, asked: WireRequest, wire: WireRules) -> Source:
        """Return the stream of the answer; see `Model.open`."""
        provider = self.find_provider(self.provider)
        request = replace(asked.request, model=self.model, extra=_extra(asked, wire, getattr(provider, "wire", None)))
        return stream_request(request, provider=provider, timeouts=self.timeouts, max_cost=run_cost(self.limits))


def _extra(asked: WireRequest, wire: WireRules, provider_wire: str | None) -> dict[str, Any]:
    """Return the parameters without a field in `Request` that the provider has, too.

    Raises:
        RequestRefused: it does not have one of them.
    """
    given = asked.request.extra
    if provider_wire == wire.name:
        return dict(given)
    other = wires().get(provider_wire or "")
    shared = wire.shared & other.shared if other is not None else frozenset[str]()
    for key in given:
        if key not in shared and key not in wire.informative:
            raise RequestRefused(f"{key} is not supported by this model", param=key)
    return {key: value for key, value in given.items() if key in shared}


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of a request to a target: the user's last message, those before it, and those after it."""

    text: str
    before: Sequence[Message]
    after: Sequence[Message]

    @classmethod
    def of(cls, asked: WireRequest, name: str) -> Conversation:
        """Return the parts of the conversation.

        Raises:
            RequestRefused: it has a system message, no message of the user, or no text in it.
        """
        messages = asked.request.messages
        if any(message.role == "system" for message in messages):
            param = asked.param("system") if "system" in asked.params else asked.param("messages")
            raise RequestRefused(
                f"{param}: {name!r} has its own instructions; leave out system messages and instructions", param=param
            )
        at = next((number for number in reversed(range(len(messages))) if messages[number].role == "user"), None)
        param = asked.param("messages")
        if at is None or not messages[at].text.strip():
            raise RequestRefused(f"{param} must have a text of the user", param=param)
        if not all(isinstance(part, Text) for part in messages[at].parts):
            raise RequestRefused(f"{param}: {name!r} takes texts only", param=param)
        return cls(messages[at].text, messages[:at], messages[at + 1 :])

    def refuse_open_calls(self, param: str) -> None:
        """Raise if the conversation ends with calls without results: else the client would decide what runs here.

        Raises:
            RequestRefused: it does.
        """
        open_calls = unanswered(self.after)
        if open_calls:
            raise RequestRefused(f"{param}: the call {open_calls[0].id!r} has no result", param=param)


@dataclass(frozen=True, slots=True)
class PromptModel:
    """A prompt that is served."""

    name: str
    target: PromptTarget
    max_seconds: float | None
    passes_on: bool = False

    @property
    def returned(self) -> frozenset[str] | None:
        """The prompt's tools that are only a schema, if others run in the service."""
        prompt = self.target.prompt
        if not prompt.tools.run:
            return None
        return frozenset(block.name for block in prompt.file.tools if block.name is not None and not block.runs)

    def tokens(self) -> AnswerTokens | None:
        """Return what counts the tokens of one answer."""
        return self.target.tokens()

    async def open(self, asked: WireRequest, wire: WireRules) -> Source:
        """Return the stream of the answer; see `Model.open`."""
        _refuse_extra(asked, wire)
        target, given = self.target, asked.request
        talk = Conversation.of(asked, self.name)
        talk.refuse_open_calls(asked.param("messages"))
        why = await target.refuse(f"endpoint/{secrets.token_urlsafe(8)}", RunRequest(talk.text))
        if why is not None:
            raise RequestRefused(why, param=asked.param("messages"))
        if given.output_schema is not None and target.prompt.file.json_schema() is not None:
            param = asked.param("output_schema")
            raise RequestRefused(f"{param}: {self.name!r} has a schema of its own", param=param)

        def change(request: Request) -> Request:
            return _merged(request, given, talk.after)

        overrides = target.overrides
        return stream_prompt(
            target.prompt.name,
            {**target.given, target.input: talk.text},
            provider=overrides.provider,
            model=overrides.model,
            temperature=given.temperature if overrides.temperature is None else overrides.temperature,
            transport=overrides.transport,
            prompts_dir=target.prompts_dir,
            history=talk.before,
            timeouts=self.timeouts(),
            change=change,
            max_cost=run_cost(target.limits),
        )

    def timeouts(self) -> Timeouts:
        """Return the prompt's timeouts, with the service's limit of an answer."""
        timeouts = self.target.prompt.file.timeouts or Timeouts()
        seconds = [limit for limit in (timeouts.total, self.max_seconds) if limit is not None]
        return replace(timeouts, total=min(seconds, default=None))

    def with_settings(self, request: Request, given: Request) -> Request:
        """Return the prompt's request with the settings and tools of a client's request, without its messages."""
        return _merged(request, given, ())


def _merged(request: Request, given: Request, after: Sequence[Message]) -> Request:
    """Return the prompt's request with what the client asks for; of two limits the lower one counts."""
    limits = [limit for limit in (request.max_tokens, given.max_tokens) if limit is not None]
    return replace(
        request,
        messages=[*request.messages, *after],
        max_tokens=min(limits, default=None),
        stop=(*request.stop, *given.stop),
        tools=(*request.tools, *given.tools),
        tool_choice=given.tool_choice or request.tool_choice,
        output_schema=given.output_schema or request.output_schema,
        reasoning=request.reasoning if given.reasoning is None else given.reasoning,
        seed=request.seed if given.seed is None else given.seed,
        cache=request.cache if given.cache is None else given.cache,
    )


def _refuse_extra(asked: WireRequest, wire: WireRules) -> None:
    for key in asked.request.extra:
        if key not in wire.informative:
            raise RequestRefused(f"{key} is not supported by this model", param=key)


@dataclass(frozen=True, slots=True)
class GraphModel:
    """A graph that is served; each request is a run of its own."""

    name: str
    target: GraphTarget
    passes_on: bool = False
    returned: frozenset[str] | None = None

    def tokens(self) -> AnswerTokens | None:
        """Return None: the run of the graph counts its tokens."""
        return None

    @property
    def history_keys(self) -> list[str]:
        """The keys of the graph's state that take the whole conversation."""
        return [key for key in HISTORY_KEYS if key in self.target.graph.file.state]

    def check(self, asked: WireRequest, wire: WireRules) -> None:
        """Raise RequestRefused if the request has something that no graph can honour."""
        _refuse_extra(asked, wire)
        for field in _CHECKED:
            value = getattr(asked.request, field)
            if value not in (None, (), []) and field not in wire.required:
                param = asked.param(field)
                raise RequestRefused(f"{param} is not supported by {self.name!r}, which is a graph", param=param)

    async def open(self, asked: WireRequest, wire: WireRules) -> Source:
        """Return the tokens of a run; see `Model.open`."""
        self.check(asked, wire)
        target = self.target
        talk = Conversation.of(asked, self.name)
        declared = self.history_keys
        if (talk.before or talk.after) and not declared:
            param = asked.param("messages")
            raise RequestRefused(
                f"{param}: {self.name!r} takes one message, since its state declares none of "
                f"{', '.join(map(repr, HISTORY_KEYS))}",
                param=param,
            )
        turns = [{"role": one.role, "content": one.text} for one in asked.request.messages]
        state = dict.fromkeys(declared[:1], turns)
        run = RunRequest(talk.text)
        key = f"endpoint/{secrets.token_urlsafe(12)}"
        why = await target.refuse(key, run)
        if why is not None:
            raise RequestRefused(why, param=asked.param("messages"))

        async def events() -> Any:
            return stream_graph_with_tokens(
                target.graph,
                {**state, **target.initial_state(run)},
                replace(target.config(key), include_metadata=True),
            )

        async def ended() -> None:
            await target.forget(key)

        return GraphSource(events, ended)


def is_name(allowed: str) -> bool:
    """Return whether an entry of `allow_models` is the name of one model, and no pattern."""
    return not any(letter in allowed for letter in "*?[")


class Catalog:
    """The models of a service.

    Args:
        targets: what is served, by name.
        allowed: patterns of `provider/model`, as `openai/*`, that are passed on.
        max_seconds: seconds after which an answer is ended as an error.
        transport: what requests that are passed on are sent over.
        limits: what one answer may cost.
    """

    def __init__(
        self,
        targets: Mapping[str, ServedTarget],
        allowed: Sequence[str],
        *,
        max_seconds: float | None,
        transport: str | None,
        limits: RunLimits,
    ) -> None:
        self._models: dict[str, Model] = {}
        for name, target in targets.items():
            if isinstance(target, PromptTarget):
                self._models[name] = PromptModel(name, target, max_seconds)
            elif isinstance(target, GraphTarget):
                self._models[name] = GraphModel(name, target)
        self._allowed = tuple(allowed)
        self._timeouts = Timeouts(total=max_seconds)
        self._transport = transport
        self._limits = limits
        self._providers: dict[str, Provider] = {}

    def names(self) -> list[str]:
        """Return names that clients can use.

        They are the targets, the allowed models that are no patterns, and the default models of the providers that the
        patterns allow.
        """
        found: dict[str, None] = dict.fromkeys(self._models)
        found |= dict.fromkeys(filter(is_name, self._allowed))
        for provider in provider_names():
            known = vendor(provider)
            name = f"{provider}/{known.default_model}" if known is not None and known.default_model else ""
            if name and self._allows(name):
                found[name] = None
        return [*found]

    @property
    def default(self) -> str:
        """The model of a request that names none: the first target, or the only name; else ""."""
        names = [*self._models] or self.names()
        return names[0] if self._models or len(names) == 1 else ""

    def _provider(self, name: str) -> Provider:
        """Return a provider of a vendor, which all requests share; another one may keep state, and is made for each."""
        known = self._providers.get(name)
        if known is None:
            known = get_provider(name, transport=self._transport)
            if vendor(name) is not None:
                self._providers[name] = known
        return known

    def _allows(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._allowed)

    def find(self, name: str) -> Model:
        """Return the model with this name.

        Raises:
            RequestRefused: there is none.
        """
        known = self._models.get(name)
        if known is not None:
            return known
        provider, slash, model = name.partition("/")
        if slash and model and self._allows(name) and provider in provider_names():
            return PassedOn(name, provider, model, self._timeouts, self._limits, self._provider)
        listed = ", ".join(map(repr, self.names())) or "none by an exact name"
        raise RequestRefused(
            f"there is no model {name[:200]!r}; available are: {listed}",
            param="model",
            kind="not_found",
            code="model_not_found",
        )
