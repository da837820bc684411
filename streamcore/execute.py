"""Open the doors: from a prompt's name, or a `Request`, to a stream, to text, to the whole answer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

import anyio

from streamcore.errors import ConfigError, OutputValidationError
from streamcore.pipeline.clocks import Timeouts
from streamcore.pipeline.retry import Candidate, Fallback, OnInterrupt
from streamcore.pipeline.smoother import StreamOptions
from streamcore.pipeline.structured import UNFINISHED, Output
from streamcore.provider import Provider, get_provider, provider_names, vendor
from streamcore.request import Message, Request
from streamcore.stream import Plan, Stream, TextStream

if TYPE_CHECKING:
    from pydantic import BaseModel

TimeoutsLike = Timeouts | Mapping[str, Any]
OptionsLike = StreamOptions | Mapping[str, Any]
T = TypeVar("T")


class PromptOptions(TypedDict, total=False):
    """The arguments that all doors from a prompt have; `stream_prompt` says what they mean."""

    model: str | None
    prompts_dir: str | Path | None
    graph_path: str | Path | None
    state: Mapping[str, Any] | None
    timeouts: TimeoutsLike | None
    max_retries: int
    fallback: Sequence[Fallback] | None
    transport: str | None


class TextOptions(PromptOptions, total=False):
    """The arguments of `execute_prompt_streaming`, beside those that it names itself."""

    stream_options: OptionsLike | None


class AnswerOptions(PromptOptions, total=False):
    """The arguments of `execute_prompt_async`, beside those that it names itself."""

    retries: int


def stream_request(
    request: Request,
    *,
    provider: str | Provider,
    timeouts: TimeoutsLike | None = None,
    stream_options: OptionsLike | None = None,
    max_retries: int = 2,
    fallback: Sequence[Fallback] | None = None,
    on_interrupt: OnInterrupt = "raise",
    output_model: Any = None,
    retries: int = 0,
    include_raw: bool = False,
    transport: str | None = None,
) -> Stream:
    """Return the stream of the answer to a request.

    Args:
        request: what to ask.
        provider: a name, as in `get_provider`, or a ready provider.
        timeouts: four clocks in seconds, see `Timeouts`; keys that are left out keep their defaults.
        stream_options: how text is gathered before it comes out, see `StreamOptions`; without, not at all.
        max_retries: how often to try again before the first content, after errors that may pass: 408, 409, 429,
            5xx, a lost connection, a late first token. With a pause that doubles, or the vendor's Retry-After.
        fallback: whom to ask then, in turn: `"mistral"`, `"openai/gpt-x"`, `{"provider": ..., "model": ...}`.
        on_interrupt: `restart` begins the answer again when it breaks after content has come, behind a chunk
            `restart` that voids what came before it.
        output_model: what the answer must be: a pydantic model, any other type that pydantic takes, or a JSON Schema.
            It is checked at its end and becomes `Completion.parsed`; goes before the request's `output_schema`.
        retries: how often to ask again, behind a chunk `restart`, with what was wrong with an answer that does not fit.
        include_raw: give every chunk its event's JSON in `raw`.
        transport: what providers that are named send over, those of `fallback` too; see `get_provider`.

    Nothing happens until the stream is used; see `Stream` for what is raised then.
    """

    def prepare() -> Plan:
        found = _found(provider, transport)
        return Plan(
            Candidate(found, replace(request, include_raw=True) if include_raw else request),
            timeouts=Timeouts.of(timeouts),
            options=None if stream_options is None else StreamOptions.of(stream_options),
            max_retries=max_retries,
            fallback=tuple(fallback or ()),
            on_interrupt=on_interrupt,
            output=_output(output_model, None, retries),
            retries=retries,
            transport=transport,
        )

    return Stream(prepare, restarts=on_interrupt == "restart" or retries > 0)


def _found(provider: str | Provider, transport: str | None) -> Provider:
    """Return the provider of a name, or the one that was given.

    Raises:
        ConfigError: it was given with a transport besides, or as `get_provider` says.
    """
    if isinstance(provider, str):
        return get_provider(provider, transport=transport)
    if transport is not None:
        raise ConfigError(f"a ready provider has its transport; give transport={transport!r} to get_provider")
    return provider


def _output(wanted: Any, file: Output | None, retries: int) -> Output | None:
    """Return what the answer must be: the call's word goes before the file's.

    Raises:
        ConfigError: nothing is wanted, but retries.
    """
    output = file if wanted is None else Output.of(wanted)
    if output is None and retries:
        raise ConfigError("retries asks again for an answer that fits; give output_model=, or a schema in the prompt")
    return output


def stream_prompt(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    *,
    provider: str | Provider | None = None,
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
    history: Sequence[Message] = (),
    transport: str | None = None,
) -> Stream:
    """Return the stream of the answer to a prompt file.

    Args:
        prompt_name: the file's name without `.yaml`, folders with `/`.
        variables: what its placeholders stand for.
        provider: overrides the file's; defaults to `STREAMCORE_PROVIDER` or `PROVIDER` of the environment.
        model: overrides the file's; defaults to `<NAME>_MODEL` of the environment, then to the provider's own default.
            A provider of another vendor than the file's ignores the file's `model`.
        temperature: overrides the file's; defaults to 0.7.
        prompts_dir: where to look first; else `$STREAMCORE_PROMPTS_DIR`, else `./prompts`.
        graph_path: a graph file beside which to look.
        state: what `state.x` in the prompt reads.
        timeouts: overrides the prompt's; see `stream_request`.
        stream_options: overrides the prompt's; see `stream_request`.
        fallback: overrides the prompt's; see `stream_request`.
        max_retries: see `stream_request`.
        on_interrupt: see `stream_request`.
        retries: see `stream_request`.
        output_model: goes before the prompt's `schema` and `output_schema`, see `stream_request`.
        include_raw: give every chunk its event's JSON in `raw`.
        transport: what to send over, see `stream_request`.
        history: the turns of a conversation so far; they stand between the prompt's system text and its user's.

    Nothing happens until the stream is used; then, besides what `Stream` raises:

    Raises:
        PromptNotFound: there is no such prompt.
        PromptError: the file is wrong, or a variable is missing.
        ConfigError: no provider or model is named anywhere.
    """

    def prepare() -> Plan:
        from streamcore.prompts.prompt_file import build_request, load_prompt

        prompt = load_prompt(prompt_name, prompts_dir=prompts_dir, graph_path=graph_path)
        request = build_request(prompt, variables, state=state, model=model, temperature=temperature)
        if history:
            *before, last = request.messages
            request = replace(request, messages=[*before, *history, last])
        chosen = provider or prompt.file.provider or environment_provider()
        if model is None and prompt.file.provider and chosen and _family(chosen) != _family(prompt.file.provider):
            request = replace(request, model=None)  # the file's model is a name of the file's vendor
        if chosen is None:
            raise ConfigError(
                f"no provider for prompt {prompt_name!r}; give provider= in the call, `provider:` in "
                f"{prompt.source.path}, or set STREAMCORE_PROVIDER. Without a key or network, take 'demo'"
            )
        found = _found(chosen, transport)
        file = prompt.file
        options = stream_options if stream_options is not None else _given(file.stream_options)
        return Plan(
            Candidate(found, replace(request, include_raw=True) if include_raw else request),
            timeouts=Timeouts.of(timeouts if timeouts is not None else _given(file.timeouts)),
            options=None if options is None else StreamOptions.of(options),
            max_retries=max_retries,
            fallback=tuple(file.fallbacks() if fallback is None else fallback),
            on_interrupt=on_interrupt,
            output=_output(output_model, prompt.output(), retries),
            retries=retries,
            transport=transport,
        )

    return Stream(prepare, restarts=on_interrupt == "restart" or retries > 0)


def _family(provider: str | Provider) -> str:
    """Return the name under which a vendor's providers share keys and models, as both APIs of one vendor do."""
    name = provider if isinstance(provider, str) else provider.name
    known = vendor(name) if name in provider_names() else None
    return name if known is None else known.settings or name


def _given(block: BaseModel | None) -> dict[str, Any] | None:
    """Return the keys of a block that its file has."""
    return None if block is None else block.model_dump(exclude_unset=True)


def environment_provider() -> str | None:
    """Return the provider that the environment names."""
    return os.environ.get("STREAMCORE_PROVIDER") or os.environ.get("PROVIDER") or None


def execute_prompt_streaming(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    temperature: float | None = None,
    provider: str | Provider | None = None,
    **options: Unpack[TextOptions],
) -> TextStream:
    """Stream the text of the answer, for a bare `async for token in ...`.

    Yields `str`, never empty, in order; a refusal's text comes like text. The arguments are those of `stream_prompt`.
    A schema of the prompt is asked for, but the answer is not checked.

    Raises (at the first iteration or later):
        ContentRefused: the answer ended refused or filtered, without any text.
        StreamcoreError: as `stream_prompt` says; `.partial` has what came.
    """
    stream = stream_prompt(prompt_name, variables, temperature=temperature, provider=provider, **options)
    return stream.unchecked().text(refusals_raise=True)


@overload
async def execute_prompt_async(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    output_model: None = None,
    temperature: float | None = None,
    provider: str | Provider | None = None,
    **options: Unpack[AnswerOptions],
) -> str | Any: ...


@overload
async def execute_prompt_async(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    output_model: type[T] = ...,  # pyright: ignore[reportInvalidTypeVarUse]  the first overload has it left out
    temperature: float | None = None,
    provider: str | Provider | None = None,
    **options: Unpack[AnswerOptions],
) -> T: ...


@overload
async def execute_prompt_async(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    output_model: Any = None,
    temperature: float | None = None,
    provider: str | Provider | None = None,
    **options: Unpack[AnswerOptions],
) -> Any: ...


async def execute_prompt_async(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    output_model: Any = None,
    temperature: float | None = None,
    provider: str | Provider | None = None,
    **options: Unpack[AnswerOptions],
) -> Any:
    """Return the whole answer: its text, or with a schema its value.

    A schema is `output_model`, or the prompt's `schema` or `output_schema`. The arguments are those of
    `stream_prompt`.

    Raises:
        OutputValidationError: the answer does not fit the schema, or is no answer but a refusal or a tool call.
        ContentRefused: without a schema: the answer ended refused or filtered, without any text.
        StreamcoreError: as `stream_prompt` says; `.partial` has what came.
    """
    stream = stream_prompt(
        prompt_name, variables, output_model=output_model, temperature=temperature, provider=provider, **options
    )
    async with stream:
        if not stream.structured:
            return "".join([text async for text in stream.text(refusals_raise=True)])
        answer = await stream.collect()
    if answer.finish_reason in UNFINISHED:
        error = OutputValidationError(
            f"the model ended with {answer.raw_finish_reason!r} and gave no answer to check; to work on with its tool "
            "calls, take stream_prompt(...).collect()"
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
        ConfigError: a mapping has an unknown key, or lacks `prompt_name`.
        StreamcoreError: the first that failed; the others are cancelled and their responses closed.
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
                except Exception as error:  # noqa: BLE001  raised below, as itself and not in a group
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
    unknown = sorted(set(prompt) - _KEYS)
    if unknown or "prompt_name" not in prompt:
        what = f"unknown keys {', '.join(map(repr, unknown))}" if unknown else "no 'prompt_name'"
        raise ConfigError(f"prompts[{number}] has {what}; known are {', '.join(sorted(_KEYS))}")
