"""Run a prompt file or a `Request`: as a stream, as text, or as the whole answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

import anyio

from streamcore.errors import ConfigError, OutputValidationError
from streamcore.fallback import Candidate, Fallback
from streamcore.pipeline.retry import OnInterrupt
from streamcore.pipeline.smoother import StreamOptions
from streamcore.provider import AnyProvider, ModelChoice, Provider, check_provider, get_provider, resolve_provider
from streamcore.reports.report import Observer
from streamcore.request import Message, ReasoningEffort, Request
from streamcore.storage.sizes import MAX_ANSWER_BYTES
from streamcore.stream import Limited, Plan, Stream, TextStream
from streamcore.structured.output import Output, is_unfinished
from streamcore.timeouts import Timeouts

if TYPE_CHECKING:  # what a single answer does not need is imported when it is used
    from streamcore.prompts.prompt_file import Prompt
    from streamcore.tools.agent import AgentPlan, Save
    from streamcore.tools.decisions import AgentState, Approver, Decision
    from streamcore.tools.toolbox import AnyTool

TimeoutsLike = Timeouts | Mapping[str, Any]
OptionsLike = StreamOptions | Mapping[str, Any]
T = TypeVar("T")


class CommonOptions(TypedDict, total=False):
    """The arguments that all functions for prompts and agents have; see `stream_prompt`."""

    model: str | None
    prompts_dir: str | Path | None
    graph_path: str | Path | None
    state: Mapping[str, Any] | None
    timeouts: TimeoutsLike | None
    max_retries: int
    fallback: Sequence[Fallback] | None
    max_bytes: int | None
    transport: str | None
    observer: Observer | None
    max_cost: Decimal | float | None


class PromptOptions(CommonOptions, total=False):
    """The arguments that all functions for prompts have; see `stream_prompt`."""

    approve: Approver | None


class TextOptions(PromptOptions, total=False):
    """The keyword arguments of `execute_prompt_streaming`."""

    stream_options: OptionsLike | None


class AnswerOptions(PromptOptions, total=False):
    """The keyword arguments of `execute_prompt_async`."""

    retries: int


def stream_request(
    request: Request,
    *,
    provider: AnyProvider,
    timeouts: TimeoutsLike | None = None,
    stream_options: OptionsLike | None = None,
    max_retries: int = 2,
    fallback: Sequence[Fallback] | None = None,
    on_interrupt: OnInterrupt = "raise",
    output_model: Any = None,
    retries: int = 0,
    include_raw: bool = False,
    max_bytes: int | None = None,
    transport: str | None = None,
    observer: Observer | None = None,
    max_cost: Decimal | float | None = None,
) -> Stream:
    """Return the stream of the answer to a request.

    Args:
        request: the request. If it sets no temperature, 0.7 is sent; see `Request.default_temperature`.
        provider: a name or a mapping, as in `get_provider`, or a ready provider.
        timeouts: four clocks in seconds, see `Timeouts`; missing keys have their defaults.
        stream_options: how text is gathered before it is emitted, see `StreamOptions`; None emits it as it arrives.
        max_retries: how many times an attempt is retried before the first content, after errors that may be
            temporary: status 408, 409, 429 and 5xx, a lost connection, a late first token. The pause doubles each
            time, or is the vendor's Retry-After.
        fallback: the providers that are tried next, in order: `"mistral"`, `"openai/gpt-x"`,
            `{"provider": ..., "model": ...}`.
        on_interrupt: `restart` requests the answer again if it breaks after the first content; a chunk `restart` then
            voids everything before it. `raise` raises the error.
        output_model: the type of the answer: a pydantic model, any other type that pydantic accepts, or a JSON Schema.
            The answer is validated at its end and becomes `Completion.parsed`. Overrides the request's
            `output_schema`.
        retries: how many times an answer that does not validate is requested again, with the errors; a chunk
            `restart` comes before each new answer.
        include_raw: give every chunk its event's JSON in `raw`.
        max_bytes: how many bytes the answer may have, in UTF-8; defaults to 64 MiB. Text, reasoning, tool arguments,
            opaque data and `raw` count. A larger answer ends in `AnswerTooLarge`, whose `partial` has what arrived.
        transport: what named providers send over, those of `fallback` included; see `get_provider`.
        observer: a function that receives the events of this answer; see the guide "Observing".
        max_cost: the most US dollars that all attempts may cost; the answer then ends in `RunLimitReached`, whose
            `partial` has what arrived. It is checked where the vendor reports tokens; see the guide "Cost".

    Nothing happens until the stream is used; `Stream` lists what is raised then.
    """

    given: Any = request
    if not isinstance(given, Request):
        raise TypeError(
            f"request is a Request, as in Request([Message('user', 'Hello')]), not a {type(given).__name__}"
        )

    def prepare() -> Plan:
        found = _ready(provider, transport)
        return Plan(
            Candidate(found, replace(request, include_raw=True) if include_raw else request),
            timeouts=Timeouts.of(timeouts),
            options=_options(stream_options),
            max_retries=max_retries,
            fallback=_fallbacks(fallback),
            on_interrupt=on_interrupt,
            output=_output(output_model, None, retries),
            retries=retries,
            transport=transport,
            max_bytes=_limit(max_bytes),
            observer=observer,
            limited=_limited(max_cost),
        )

    return Stream(prepare, restarts=on_interrupt == "restart" or retries > 0)


def _ready(provider: AnyProvider, transport: str | None) -> Provider:
    """Return the provider with this name, or the provider itself.

    Raises:
        ConfigError: a ready provider was given together with a transport; or see `get_provider`.
    """
    if isinstance(provider, str | Mapping):
        return get_provider(provider, transport=transport)
    if transport is not None:
        raise ConfigError(f"a ready provider has its own transport; give transport={transport!r} to get_provider()")
    check_provider(provider)
    return provider


def _fallbacks(given: Sequence[Fallback] | None) -> tuple[Fallback, ...]:
    """Return the entries of `fallback`.

    Raises:
        ConfigError: it is one entry instead of a list.
    """
    entries: Any = given
    if isinstance(entries, str | Mapping) or not isinstance(entries, Iterable | None):
        raise ConfigError(f"fallback is a list of providers, as in fallback=['demo'], not {given!r}")
    return tuple(given or ())


def _options(given: OptionsLike | None) -> StreamOptions | None:
    return None if given is None else StreamOptions.of(given)


def _limited(max_cost: Decimal | float | None) -> Limited | None:
    """Return the stage that ends an answer that costs more than it may.

    Raises:
        ConfigError: it is not an amount above 0, or there are no prices.
    """
    if max_cost is None:
        return None
    from streamcore.pricing.limit import AnswerLimit

    return AnswerLimit(max_cost).limited


def _limit(max_bytes: int | None) -> int:
    """Return the limit of an answer in bytes.

    Raises:
        ConfigError: it is not a number above 0.
    """
    if max_bytes is None:
        return MAX_ANSWER_BYTES
    if isinstance(max_bytes, bool) or max_bytes < 1:
        raise ConfigError(f"max_bytes is the largest size of an answer in bytes, 1 or more, not {max_bytes!r}")
    return max_bytes


def _output(output_model: Any, file: Output | None, retries: int) -> Output | None:
    """Return how the answer is validated: the call's `output_model` overrides the file's schema.

    Raises:
        ConfigError: `retries` is set without a schema.
    """
    output = file if output_model is None else Output.of(output_model)
    if output is None and retries:
        raise ConfigError(
            "retries needs a schema to validate the answer; give output_model=, or a schema in the prompt"
        )
    return output


def stream_prompt(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    *,
    provider: AnyProvider | None = None,
    model: str | None = None,
    temperature: float | None = None,
    prompts_dir: str | Path | None = None,
    graph_path: str | Path | None = None,
    state: Mapping[str, Any] | None = None,
    timeouts: TimeoutsLike | None = None,
    stream_options: OptionsLike | None = None,
    max_retries: int = 2,
    fallback: Sequence[Fallback] | None = None,
    on_interrupt: OnInterrupt = "raise",
    output_model: Any = None,
    retries: int = 0,
    include_raw: bool = False,
    max_bytes: int | None = None,
    max_tokens: int | None = None,
    reasoning: ReasoningEffort | int | None = None,
    history: Sequence[Message] = (),
    change: Callable[[Request], Request] | None = None,
    transport: str | None = None,
    approve: Approver | None = None,
    observer: Observer | None = None,
    max_cost: Decimal | float | None = None,
) -> Stream:
    """Return the stream of the answer to a prompt file.

    If `tools:` of the file names a function or an MCP server, the stream is that of an agent; see `stream_agent`.

    Args:
        prompt_name: the file's name without `.yaml`, folders with `/`.
        variables: the values of its placeholders.
        provider: overrides the file's; defaults to `STREAMCORE_PROVIDER` or `PROVIDER` of the environment.
        model: overrides the file's; defaults to `<NAME>_MODEL` of the environment, then to the provider's own default.
            A provider of another vendor than the file's ignores the file's `model`.
        temperature: overrides the file's; defaults to 0.7.
        prompts_dir: the first folder to look in; then `$STREAMCORE_PROMPTS_DIR`, or else `./prompts`.
        graph_path: a graph file; prompts are also looked up in its folder.
        state: the values that `state.x` in the prompt reads.
        timeouts: overrides the prompt's; see `stream_request`.
        stream_options: overrides the prompt's; see `stream_request`.
        fallback: overrides the prompt's; see `stream_request`.
        max_retries: see `stream_request`.
        on_interrupt: see `stream_request`.
        retries: see `stream_request`.
        output_model: overrides the prompt's `schema` and `output_schema`; see `stream_request`.
        include_raw: give every chunk its event's JSON in `raw`.
        max_bytes: overrides the prompt's; see `stream_request`.
        max_tokens: overrides the prompt's; see `Request`.
        reasoning: overrides the prompt's; see `Request`.
        transport: what to send over; see `stream_request`.
        history: the previous turns of the conversation; they are sent between the prompt's system and user messages.
        change: returns the request that is sent instead of the prompt's, as one with more tools or another limit.
        approve: decides about calls of the file's tools that need approval; see `stream_agent`.
        observer: a function that receives the events of this answer; see the guide "Observing".
        max_cost: see `stream_request`; of a prompt with tools that run, see `stream_agent`.

    Nothing happens until the stream is used; then it raises, besides what `Stream` lists:

    Raises:
        PromptNotFound: there is no such prompt.
        PromptError: the file is not valid, or a variable is missing.
        ConfigError: no source names a provider or a model.
    """

    def prepare() -> Plan:
        from streamcore.prompts.prompt_file import build_request, load_prompt

        prompt = load_prompt(prompt_name, prompts_dir=prompts_dir, graph_path=graph_path)
        call = ModelChoice(provider, model, temperature)
        resolved = resolve_provider([call, prompt.choice], f"prompt {prompt_name!r}")
        request = build_request(prompt, variables, state=state, resolved=resolved)
        request = _with_budgets(_with_history(request, history), max_tokens, reasoning)
        request = request if change is None else change(request)
        file = prompt.file
        found = _ready(resolved.provider, transport)
        plan = Plan(
            Candidate(found, replace(request, include_raw=True) if include_raw else request),
            timeouts=Timeouts.of(file.timeouts if timeouts is None else timeouts),
            options=_options(file.stream_options if stream_options is None else stream_options),
            max_retries=max_retries,
            fallback=_fallbacks(file.fallbacks() if fallback is None else fallback),
            on_interrupt=on_interrupt,
            output=_output(output_model, prompt.output(), retries),
            retries=retries,
            transport=transport,
            max_bytes=_limit(file.max_bytes if max_bytes is None else max_bytes),
            observer=observer,
            limited=None if prompt.tools.run else _limited(max_cost),
        )
        if prompt.tools.run:
            plan.make_run = _agent_of(prompt, approve=approve, state=state, name=prompt_name, max_cost=max_cost)
        return plan

    return Stream(prepare, restarts=on_interrupt == "restart" or retries > 0)


def _agent_of(prompt: Prompt | None, **settings: Any) -> AgentPlan:
    """Return what an agent needs: the settings that are not None, else those of the prompt's file."""
    from streamcore.tools.agent import AgentPlan

    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    if prompt is None:
        return AgentPlan(**given)
    limits = {name: getattr(prompt.file, name) for name in ("max_steps", "max_tool_calls", "max_parallel")}
    given["tools"] = (*prompt.tools.servers(), *given.get("tools", ()))
    return AgentPlan(**{name: value for name, value in limits.items() if value is not None} | given)


def _with_history(request: Request, history: Sequence[Message]) -> Request:
    """Return the request with the previous turns before its last message."""
    if not history:
        return request
    turns: Any = history
    if not all(isinstance(one, Message) for one in turns):
        raise TypeError("history is a sequence of Message, as in [Message('user', 'Hello'), answer.to_message()]")
    *before, last = request.messages
    return replace(request, messages=[*before, *history, last])


def _with_budgets(request: Request, max_tokens: int | None, reasoning: ReasoningEffort | int | None) -> Request:
    """Return the request with these budgets, as far as they are set."""
    if max_tokens is not None:
        request = replace(request, max_tokens=max_tokens)
    return request if reasoning is None else replace(request, reasoning=reasoning)


class AgentOptions(CommonOptions, total=False):
    """The further keyword arguments of `stream_agent`; see `stream_prompt`."""

    provider: AnyProvider | None
    temperature: float | None
    stream_options: OptionsLike | None
    on_interrupt: OnInterrupt
    output_model: Any
    retries: int
    include_raw: bool
    history: Sequence[Message]


def stream_agent(
    prompt: str | Request,
    variables: Mapping[str, Any] | None = None,
    *,
    tools: Sequence[AnyTool] = (),
    max_steps: int | None = None,
    max_tool_calls: int | None = None,
    max_parallel: int | None = None,
    approve: Approver | None = None,
    messages: Sequence[Message] | AgentState | None = None,
    resume: Mapping[str, Decision] | bool | None = None,
    save: Save | None = None,
    **options: Unpack[AgentOptions],
) -> Stream:
    """Return the stream of an agent: the model is asked again with the results of its tool calls, until it calls none.

    The stream has the chunks of every answer, each after a chunk `step`, and `tool_progress` and `tool_result` chunks
    of the tools. Calls of one answer run at the same time, each as soon as its arguments are complete. An error of a
    tool goes to the model and into the stream. `Completion.steps` has every answer, `Stream.messages` the conversation.
    `Stream.text()` yields the text of all answers.

    Args:
        prompt: the name of a prompt file, or a `Request`.
        variables: the values of the prompt's placeholders.
        tools: tools, functions (see `streamcore.tools.tool`), and MCP servers; those of the prompt or request are
            added. Calls of a tool that cannot run end the stream without an error, and the caller answers them.
        max_steps: how many answers may be requested; defaults to the prompt's, else 10.
        max_tool_calls: how many calls may run; defaults to the prompt's, else 50.
        max_parallel: how many calls may run at the same time; defaults to the prompt's, else 8.
        approve: decides about each call of a tool with `needs_approval`; without it, the stream ends without an error
            and `Completion.pending` has the calls that wait.
        messages: the conversation to continue, as `Stream.messages` or `save` gave it; it replaces the messages of the
            prompt or request.
        resume: the decisions about the calls that wait, by their ids, or one for all: see `Decision`.
        save: an async function that saves the run, called after each answer, before its tools begin, and after each
            result. With it, calls begin only when their answer is complete.
        options: the arguments of `stream_prompt` or, for a `Request`, of `stream_request`. `state` is also what tools
            get as `ToolContext.state`; `total` of the timeouts includes the tools, and `stall` limits how long no tool
            reports anything, unless one has a longer `timeout`. `max_cost` is for the whole run, with everything that
            its tools ask models, and is checked before each further answer.

    Nothing happens until the stream is used; then it raises, besides what `Stream` lists:

    Raises:
        AgentLimitReached: `max_steps`, `max_tool_calls` or `max_cost` was reached; `.partial` and `.messages` have what
            arrived.
        ConfigError: two tools have the same name, or an argument is not valid.
    """
    from streamcore.tools.decisions import state_of

    given: Any = tools
    if not isinstance(given, Iterable):
        raise ConfigError("tools is a list of tools, functions and MCP servers, as in tools=[weather]")
    _check_options(prompt, options)
    settings: dict[str, Any] = {
        "tools": tuple(tools),
        "max_steps": max_steps,
        "max_tool_calls": max_tool_calls,
        "max_parallel": max_parallel,
        "approve": approve,
        "saved": None if messages is None else state_of(messages),
        "resume": resume,
        "save": save,
        "state": options.get("state"),
        "name": prompt if isinstance(prompt, str) else None,
        "max_cost": options.get("max_cost"),
    }

    def prepare() -> Plan:
        file: Prompt | None = None
        if isinstance(prompt, Request):
            base = _request_stream(prompt, options)
        else:
            from streamcore.prompts.prompt_file import load_prompt

            file = load_prompt(prompt, prompts_dir=options.get("prompts_dir"), graph_path=options.get("graph_path"))
            base = stream_prompt(prompt, variables, **options)
        return replace(base.prepare(), make_run=_agent_of(file, **settings), limited=None)

    restarts = options.get("on_interrupt") == "restart" or options.get("retries", 0) > 0
    return Stream(prepare, restarts=restarts)


def _check_options(prompt: str | Request, options: Iterable[str]) -> None:
    """Raise TypeError at the call for an option that `stream_agent` does not have."""
    known = {
        *AgentOptions.__optional_keys__,
        *((stream_prompt.__kwdefaults__ or ()) if isinstance(prompt, str) else ()),
    }
    for name in options:
        if name not in known:
            of_request = isinstance(prompt, Request) and name in _FIELDS
            hint = f"; set it in the Request, as in Request(..., {name}=...)" if of_request else ""
            raise TypeError(f"stream_agent() got an unexpected keyword argument {name!r}{hint}")


_FIELDS = frozenset(field.name for field in fields(Request))
_ONLY_OF_PROMPTS = ("prompts_dir", "graph_path", "history")


def _request_stream(request: Request, options: AgentOptions) -> Stream:
    """Return the stream of a request; what only prompts have is taken from the request or refused."""
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    given.pop("state", None)
    for name in ("model", "temperature"):
        if name in given:
            request = replace(request, **{name: given.pop(name)})
    refused = [name for name in _ONLY_OF_PROMPTS if given.get(name)]
    if refused:
        raise ConfigError(f"{', '.join(refused)} belongs to a prompt file, and this agent has a Request")
    provider = given.pop("provider", None) or resolve_provider([ModelChoice()], "this request").provider
    return stream_request(request, provider=provider, **given)


def execute_prompt_streaming(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    temperature: float | None = None,
    provider: AnyProvider | None = None,
    **options: Unpack[TextOptions],
) -> TextStream:
    """Stream the text of the answer to a prompt, for a bare `async for token in ...`.

    Yields non-empty `str` in order; the text of a refusal is yielded like other text. If the prompt has tools that run,
    the text of all answers is yielded; without `approve`, the text ends at calls that wait for approval.

    The arguments are those of `stream_prompt`. A schema of the prompt is sent, but the answer is not validated. The
    call itself raises nothing: errors are raised at the first iteration or later.

    Raises:
        ContentRefused: the answer was refused or filtered and has no text.
        StreamcoreError: see `stream_prompt`; `.partial` has what arrived.
    """
    stream = stream_prompt(prompt_name, variables, temperature=temperature, provider=provider, **options)
    return stream.unchecked().text(refusals_raise=True)


@overload
async def execute_prompt_async(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    output_model: None = None,
    temperature: float | None = None,
    provider: AnyProvider | None = None,
    **options: Unpack[AnswerOptions],
) -> str | Any: ...


@overload
async def execute_prompt_async(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    output_model: type[T] = ...,  # pyright: ignore[reportInvalidTypeVarUse]  the first overload has it left out
    temperature: float | None = None,
    provider: AnyProvider | None = None,
    **options: Unpack[AnswerOptions],
) -> T: ...


@overload
async def execute_prompt_async(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    output_model: Any = None,
    temperature: float | None = None,
    provider: AnyProvider | None = None,
    **options: Unpack[AnswerOptions],
) -> Any: ...


async def execute_prompt_async(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    output_model: Any = None,
    temperature: float | None = None,
    provider: AnyProvider | None = None,
    **options: Unpack[AnswerOptions],
) -> Any:
    """Return the whole answer to a prompt: its text, or its validated value if there is a schema.

    If the prompt has tools that run, the text is that of all answers, and the value that of the last one. The schema is
    `output_model`, or the prompt's `schema` or `output_schema`. The arguments are those of `stream_prompt`.

    Raises:
        OutputValidationError: the answer does not fit the schema, or the model refused or called a tool instead.
        ContentRefused: there is no schema, and the answer was refused or filtered and has no text.
        StreamcoreError: see `stream_prompt`; `.partial` has what arrived.
    """
    stream = stream_prompt(
        prompt_name, variables, output_model=output_model, temperature=temperature, provider=provider, **options
    )
    async with stream:
        if not stream.structured:
            return "".join([text async for text in stream.text(refusals_raise=True)])
        answer = await stream.collect()
    if is_unfinished(answer):
        error = OutputValidationError(
            f"the model called tools or paused ({answer.raw_finish_reason!r}), so there is no answer to validate; to "
            "handle its tool calls, use stream_prompt(...).collect()"
        )
        error.partial = answer
        raise error
    return answer.parsed


async def execute_prompts_concurrent(prompts: Sequence[Mapping[str, Any]], *, limit: int = 10) -> list[Any]:
    """Run several prompts at once and return their answers, texts or values, in the order given.

    Args:
        prompts: mappings whose keys are the parameters of `execute_prompt_async`.
        limit: how many run at the same time.

    Raises:
        ConfigError: a mapping has an unknown key or no `prompt_name`.
        StreamcoreError: a prompt failed; the others are cancelled and their responses are closed.
    """
    if limit < 1:
        raise ConfigError(f"limit must be at least 1, not {limit}")
    for number, prompt in enumerate(prompts):
        _check_keys(number, prompt)
    results: list[Any] = [""] * len(prompts)
    failures: list[Exception] = []
    limiter = anyio.CapacityLimiter(limit)

    async with anyio.create_task_group() as tasks:

        async def run(number: int, prompt: Mapping[str, Any]) -> None:
            async with limiter:
                try:
                    results[number] = await execute_prompt_async(**prompt)
                except Exception as error:  # noqa: BLE001  raised below, outside of an exception group
                    failures.append(error)
                    tasks.cancel_scope.cancel()

        for number, prompt in enumerate(prompts):
            tasks.start_soon(run, number, prompt)
    if failures:
        raise failures[0]
    return results


_KEYS = frozenset(
    {"prompt_name", "variables", "output_model", "temperature", "provider", *AnswerOptions.__optional_keys__}
)


def _check_keys(number: int, prompt: Mapping[str, Any]) -> None:
    given: Any = prompt
    if not isinstance(given, Mapping):
        raise ConfigError(f"prompts[{number}] is a mapping, as in {{'prompt_name': 'greet'}}, not {given!r}")
    unknown = sorted(set(prompt) - _KEYS)
    if unknown or "prompt_name" not in prompt:
        what = f"unknown keys {', '.join(map(repr, unknown))}" if unknown else "no 'prompt_name'"
        raise ConfigError(f"prompts[{number}] has {what}; known are {', '.join(sorted(_KEYS))}")
