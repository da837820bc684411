"""Define the keys of each type of node in a graph file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from streamcore.files.template import TemplateError
from streamcore.files.yaml_file import is_mapping
from streamcore.files.yaml_model import FileModel, FromMapping, did_you_mean, wrong
from streamcore.graph.expressions import check_guard, check_value
from streamcore.pipeline.smoother import StreamOptions
from streamcore.prompts.prompt_file import FallbackBlock, ProviderBlock
from streamcore.provider import ModelChoice
from streamcore.timeouts import Timeouts


def checked(value: Any, *at: str | int) -> None:
    """Refuse a value of the file that contains an expression that is not valid."""
    try:
        check_value(value)
    except TemplateError as error:
        raise wrong(str(error), *at) from error


def _check_variables(variables: Mapping[str, Any] | None) -> None:
    for name, value in (variables or {}).items():
        checked(value, "variables", name)


_REFUSED_KEYS: Mapping[str, str] = {
    "verification": "use 'guards', whose checks are expressions",
    "output_model": "give the prompt a 'schema'",
}
_REFUSED_PROVIDERS: Mapping[str, str] = {
    "replicate": "use a provider that 'streamcore providers' lists, or provider: {name: ..., dialect: openai-chat}",
    "runpod": "use a provider that 'streamcore providers' lists, or provider: {name: ..., dialect: openai-chat}",
    "vertex": "use provider: {name: google, ...} with the settings of Vertex",
}


def check_provider(provider: Any, *at: str | int) -> None:
    """Refuse providers that other readers of this format have."""
    name = provider.get("name") if is_mapping(provider) else provider
    if isinstance(name, str) and name in _REFUSED_PROVIDERS:
        raise wrong(f"the provider {name!r} is not supported: {_REFUSED_PROVIDERS[name]}", *at)


class GuardBlock(FileModel):
    """One entry of `guards.pre`: an expression that must be true."""

    check: str
    on_fail: Literal["halt", "skip", "warn"] = "halt"
    message: str | None = None

    @model_validator(mode="after")
    def _sound(self) -> GuardBlock:
        _check_guard(self.check)
        return self


class PostGuardBlock(FileModel):
    """One entry of `guards.post`: an expression about the node's output that must be true."""

    check: str
    on_fail: Literal["halt", "retry", "warn"] = "halt"
    message: str | None = None
    max_retries: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _sound(self) -> PostGuardBlock:
        _check_guard(self.check)
        return self


class VerifyBlock(FileModel):
    """One entry of `verify`: an expression about the last state that must be true."""

    check: str
    on_fail: Literal["halt", "warn"] = "halt"
    message: str | None = None

    @model_validator(mode="after")
    def _sound(self) -> VerifyBlock:
        _check_guard(self.check)
        return self


class GuardsBlock(FileModel):
    """`guards:`, what must be true before and after a node."""

    pre: list[GuardBlock] = Field(default_factory=list[GuardBlock])
    post: list[PostGuardBlock] = Field(default_factory=list[PostGuardBlock])


class CacheBlock(FileModel):
    """`cache:` as a mapping."""

    ttl: float | None = Field(default=None, gt=0)


def _check_guard(text: str) -> None:
    try:
        check_guard(text)
    except TemplateError as error:
        raise wrong(str(error), "check") from error


class NodeBlock(FileModel):
    """The keys of every node."""

    description: str | None = None
    state_key: str | None = None
    requires: list[str] = Field(default_factory=list[str])
    skip_if_exists: bool | None = None
    on_error: Literal["fail", "skip", "retry", "fallback"] = "fail"
    max_retries: int = Field(default=2, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _refused(cls, data: Any) -> Any:
        for key in data if is_mapping(data) else ():
            if key in _REFUSED_KEYS:
                raise wrong(f"the key {key!r} is not supported: {_REFUSED_KEYS[key]}", key)
        return data

    def writes(self, name: str) -> list[str]:
        """Return the keys of the state that the node with this name sets, as far as the file defines them."""
        return [self.state_key or name]

    @property
    def writes_any(self) -> bool:
        """True if the node may also set keys that the file does not name."""
        return False

    def skipped(self, name: str) -> dict[str, Any]:
        """Return the node's output if it fails and `on_error` is `skip`."""
        return {}


class TimedNode(NodeBlock):
    """The keys of nodes that have a time limit."""

    timeout: float | None = Field(default=None, gt=0)


class GuardedNode(TimedNode):
    """The keys of nodes that are checked, and whose output may be cached."""

    guards: GuardsBlock | None = None
    cache: bool | CacheBlock = False


def check_thinking(budget: int | None) -> None:
    """Refuse a budget that is neither 0 nor large enough."""
    if budget is not None and 0 < budget < 1024:
        raise wrong(f"a budget is 1024 tokens or more, or 0 for none, not {budget}", "thinking_budget")


class LlmNode(GuardedNode):
    """`type: llm`: a model answers a prompt, token by token."""

    type: Literal["llm"] = "llm"
    prompt: str
    variables: dict[str, Any] | None = None
    provider: ProviderBlock | None = None
    model: str | None = None
    temperature: float | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    thinking_budget: int | None = Field(default=None, ge=0)
    parse_json: bool = False
    fallback: FallbackBlock | list[str | FallbackBlock] | None = None
    stream: bool = True
    stream_key: str | None = None
    stream_options: Annotated[StreamOptions, FromMapping()] | None = None
    timeouts: Annotated[Timeouts, FromMapping()] | None = None
    on_interrupt: Literal["raise", "restart"] | None = None
    retries: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _sound(self) -> LlmNode:
        _check_variables(self.variables)
        check_thinking(self.thinking_budget)
        check_provider(self.provider, "provider")
        if self.on_error == "fallback" and not self.fallback:
            raise wrong("'fallback' needs the key 'fallback', as in fallback: {provider: demo}", "on_error")
        return self

    @property
    def choice(self) -> ModelChoice:
        """The provider, model and temperature that the node names."""
        return ModelChoice(self.provider, self.model, self.temperature, "`provider:` in the node")

    def fallbacks(self) -> list[str | Mapping[str, Any]] | None:
        """Return `fallback` in the form of `streamcore.execute`; None leaves it to the prompt."""
        if self.fallback is None:
            return None
        entries = self.fallback if isinstance(self.fallback, list) else [self.fallback]
        return [one if isinstance(one, str) else one.model_dump(exclude_none=True) for one in entries]


class CandidateBlock(FileModel):
    """One entry of `candidates`: a provider that is asked at the same time as the others."""

    provider: ProviderBlock
    model: str | None = None

    @model_validator(mode="after")
    def _sound(self) -> CandidateBlock:
        check_provider(self.provider, "provider")
        return self


class RaceNode(LlmNode):
    """`type: race`: several models are asked at once; the first whole, valid answer wins."""

    type: Literal["race"] = "race"  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]
    candidates: list[CandidateBlock] = Field(min_length=2)
    on_error: Literal["fail", "skip"] = "fail"  # pyright: ignore[reportIncompatibleVariableOverride]

    @model_validator(mode="after")
    def _only_candidates(self) -> RaceNode:
        _refuse_single(self)
        for key in ("guards", "cache"):
            if key in self.model_fields_set:
                raise wrong(f"a race has no {key!r}; use a router or llm node", key)
        return self

    def writes(self, name: str) -> list[str]:
        return [*super().writes(name), "_race_winner"]

    def skipped(self, name: str) -> dict[str, Any]:
        return {super().writes(name)[0]: None}


def _refuse_single(node: LlmNode) -> None:
    for key in ("provider", "model", "fallback"):
        if key in node.model_fields_set:
            raise wrong(f"{key!r} does not go together with 'candidates'; make it one of them", key)


class RouterNode(LlmNode):
    """`type: router`: the answer selects the next node."""

    type: Literal["router"] = "router"  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]
    routes: dict[str, str] = Field(min_length=1)
    default_route: str | None = None
    route_field: str | None = None
    candidates: list[CandidateBlock] | None = Field(default=None, min_length=2)

    @model_validator(mode="after")
    def _only_candidates(self) -> RouterNode:
        if self.candidates is not None:
            _refuse_single(self)
        return self

    def writes(self, name: str) -> list[str]:
        return [*super().writes(name), *(["_race_winner"] if self.candidates is not None else ())]

    def targets(self) -> list[str]:
        """Return the nodes that it may select."""
        return list(dict.fromkeys([*self.routes.values(), *([self.default_route] if self.default_route else [])]))


class AgentNode(LlmNode):
    """`type: agent`: a model answers a prompt, and calls tools of the graph until its answer needs none."""

    type: Literal["agent"] = "agent"  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]
    prompt: str = "agent"
    tools: list[str] = Field(default_factory=list[str])
    max_iterations: int = Field(default=10, ge=1)
    tool_results_key: str | None = None
    approve: list[str] | bool = False
    resume_key: str = "user_input"
    skip_if_exists: bool | None = False
    on_error: Literal["fail", "skip"] = "fail"  # pyright: ignore[reportIncompatibleVariableOverride]

    @model_validator(mode="after")
    def _sound_agent(self) -> AgentNode:
        for key in ("parse_json", "retries"):
            if getattr(self, key):
                raise wrong(f"an agent has no {key!r}; give its prompt a schema", key)
        if self.cache:
            raise wrong("an agent has no 'cache', since its tools may act", "cache")
        for name in self.approve if isinstance(self.approve, list) else ():
            if name not in self.tools:
                raise wrong(f"{name!r} is not among the agent's tools{did_you_mean(name, self.tools)}", "approve")
        return self

    def writes(self, name: str) -> list[str]:
        own = [*super().writes(name), "messages", "_agent_iterations", "_agent_limit_reached"]
        return [*own, *([self.tool_results_key] if self.tool_results_key is not None else ())]

    def skipped(self, name: str) -> dict[str, Any]:
        return {self.writes(name)[0]: None}


class PythonNode(GuardedNode):
    """`type: python`: a Python function."""

    type: Literal["python"] = "python"
    tool: str
    variables: dict[str, Any] | None = None
    skip_if_exists: bool | None = False
    on_error: Literal["fail", "skip", "retry"] = "fail"  # pyright: ignore[reportIncompatibleVariableOverride]

    @model_validator(mode="after")
    def _sound(self) -> PythonNode:
        _check_variables(self.variables)
        return self

    @property
    def writes_any(self) -> bool:
        return True


class ToolNode(GuardedNode):
    """`type: tool`: runs a shell tool."""

    type: Literal["tool"] = "tool"
    tool: str
    variables: dict[str, Any] | None = None
    on_error: Literal["fail", "skip"] = "fail"  # pyright: ignore[reportIncompatibleVariableOverride]

    @model_validator(mode="after")
    def _sound(self) -> ToolNode:
        _check_variables(self.variables)
        return self

    def skipped(self, name: str) -> dict[str, Any]:
        return {self.writes(name)[0]: None}


class ToolCallNode(TimedNode):
    """`type: tool_call`: calls the tool that the state names."""

    type: Literal["tool_call"] = "tool_call"
    tool: str
    args: dict[str, Any] | str | None = None
    state_key: str | None = "result"
    parsed_key: str | None = None
    on_error: Literal["fail", "skip"] = "skip"  # pyright: ignore[reportIncompatibleVariableOverride]

    @model_validator(mode="after")
    def _sound(self) -> ToolCallNode:
        checked(self.tool, "tool")
        if isinstance(self.args, str):
            checked(self.args, "args")
        for name, value in self.args.items() if isinstance(self.args, dict) else ():
            checked(value, "args", name)
        return self

    def writes(self, name: str) -> list[str]:
        return [*super().writes(name), *([self.parsed_key] if self.parsed_key is not None else ())]


KeyMapping = dict[str, str] | Literal["auto", "*"]
"""Keys of a graph's state and those of the graph inside it, `{outer: inner}`; `auto` and `*` are all keys."""


class SubgraphNode(NodeBlock):
    """`type: subgraph`: runs another graph file as one node."""

    type: Literal["subgraph"] = "subgraph"
    graph: str = Field(min_length=1)
    mode: Literal["invoke", "direct"] = "invoke"
    input_mapping: KeyMapping = Field(default_factory=dict[str, str])
    output_mapping: KeyMapping = Field(default_factory=dict[str, str])
    interrupt_output_mapping: KeyMapping = Field(default_factory=dict[str, str])
    on_error: Literal["fail", "skip"] = "fail"  # pyright: ignore[reportIncompatibleVariableOverride]

    @model_validator(mode="after")
    def _sound(self) -> SubgraphNode:
        for key in ("input_mapping", "output_mapping", "interrupt_output_mapping"):
            if self.mode == "direct" and getattr(self, key):
                raise wrong("a graph with mode: direct reads and writes this graph's state; remove the mapping", key)
        return self

    def writes(self, name: str) -> list[str]:
        mappings = [one for one in (self.output_mapping, self.interrupt_output_mapping) if isinstance(one, dict)]
        return [key for mapping in mappings for key in mapping]

    @property
    def writes_any(self) -> bool:
        return self.mode == "direct" or not (
            isinstance(self.output_mapping, dict) and isinstance(self.interrupt_output_mapping, dict)
        )


class PassthroughNode(NodeBlock):
    """`type: passthrough`: sets keys of the state to the values of expressions."""

    type: Literal["passthrough"] = "passthrough"
    output: dict[str, Any]
    skip_if_exists: bool | None = False

    @model_validator(mode="after")
    def _sound(self) -> PassthroughNode:
        for name, value in self.output.items():
            checked(value, "output", name)
        return self

    def writes(self, name: str) -> list[str]:
        return list(self.output)


class MapNode(NodeBlock):
    """`type: map`: runs a node for each item of a list, several at a time."""

    type: Literal["map"] = "map"
    over: str
    as_: str = Field(default="item", alias="as")
    node: dict[str, Any]
    collect: str | None = None
    max_concurrency: int | None = Field(default=None, ge=1)
    max_items: int | None = Field(default=None, ge=1)
    on_overflow: Literal["error", "truncate"] | None = None
    min_success: int | float | None = None
    failures: str | None = None
    timeout: float | None = Field(default=None, gt=0)
    flatten_output: bool = False
    skip_if_exists: bool | None = False

    @model_validator(mode="after")
    def _sound(self) -> MapNode:
        checked(self.over, "over")
        if "{" not in self.over:
            example = self.over.strip() or "state.items"
            raise wrong(f'expected an expression that gives a list, as in "{{{example}}}"', "over")
        least = self.min_success
        if least is not None and (least < 0 or (isinstance(least, float) and least > 1)):
            raise wrong(f"a number of items (2), or a fraction up to 1.0 of them, not {least}", "min_success")
        return self

    def writes(self, name: str) -> list[str]:
        return [self.collect or self.state_key or name, self.failures_key(name)]

    def failures_key(self, name: str) -> str:
        """Return the key of the items that failed."""
        return self.failures or f"{self.collect or self.state_key or name}_failures"


class InterruptNode(LlmNode):
    """`type: interrupt`: asks a person; the run continues with the answer."""

    type: Literal["interrupt"] = "interrupt"  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]
    prompt: str | None = None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]
    message: Any = None
    state_key: str | None = "interrupt_message"
    resume_key: str = "user_input"

    @model_validator(mode="after")
    def _one_question(self) -> InterruptNode:
        if (self.prompt is None) == (self.message is None):
            raise wrong("an interrupt needs either 'message' (the question) or 'prompt' (a model writes the question)")
        checked(self.message, "message")
        for key in ("guards", "cache", "timeout"):
            if key in self.model_fields_set:
                raise wrong(f"an interrupt has no {key!r}; put a node before it or after it that has one", key)
        return self

    def writes(self, name: str) -> list[str]:
        return [*super().writes(name), self.resume_key]


Node = (
    LlmNode
    | RaceNode
    | RouterNode
    | AgentNode
    | PythonNode
    | ToolNode
    | ToolCallNode
    | SubgraphNode
    | PassthroughNode
    | MapNode
    | InterruptNode
)


def candidates_of(node: Node) -> list[CandidateBlock]:
    """Return the candidates of a race or a router, none for any other node."""
    return (node.candidates or []) if isinstance(node, RaceNode | RouterNode) else []


NODES: Mapping[str, type[Node]] = {
    "llm": LlmNode,
    "router": RouterNode,
    "race": RaceNode,
    "agent": AgentNode,
    "python": PythonNode,
    "tool": ToolNode,
    "tool_call": ToolCallNode,
    "subgraph": SubgraphNode,
    "passthrough": PassthroughNode,
    "map": MapNode,
    "interrupt": InterruptNode,
}
REFUSED_NODES: Mapping[str, str] = {
    "copilot": "it runs a coding agent with the rights of the user; use a 'python' node that calls one",
    "interactive_tool": "use an 'interrupt' node for the question and a 'python' node for the tool",
    "a2a": "use a 'python' node that calls the other agent",
    "z3": "use a 'python' node",
    "pipeline": "write its steps as nodes of their own, or as a graph of its own with a 'subgraph' node",
}
"""Types of nodes that other readers of this format have, and what to use instead."""
IN_A_MAP = ("llm", "agent", "python", "tool_call", "subgraph", "passthrough")


def model_of(data: Mapping[str, Any], supported: tuple[str, ...] = tuple(NODES)) -> type[Node]:
    """Return the model of a node's type.

    Raises:
        ValueError: the type is not supported.
    """
    kind = data.get("type", "llm")
    if kind in REFUSED_NODES:
        raise ValueError(f"the type {kind!r} is not supported: {REFUSED_NODES[kind]}")
    if kind not in supported:
        hint = did_you_mean(str(kind), supported) or f"; supported are {', '.join(supported)}"
        raise ValueError(f"the type {kind!r} is not supported{hint}")
    return NODES[kind]
