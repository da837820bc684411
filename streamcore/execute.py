"""Open the doors: from a prompt's name, or a `Request`, to a stream, to text, to the whole answer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from streamcore.errors import ConfigError
from streamcore.provider import Provider, get_provider
from streamcore.request import Request
from streamcore.stream import Stream, TextStream


def stream_request(request: Request, *, provider: str | Provider, include_raw: bool = False) -> Stream:
    """Return the stream of the answer to a request.

    Args:
        request: what to ask.
        provider: a name, as in `get_provider`, or a ready provider.
        include_raw: give every chunk its event's JSON in `raw`.

    Nothing happens until the stream is used; see `Stream` for what is raised then.
    """

    def prepare() -> tuple[Provider, Request]:
        found = get_provider(provider) if isinstance(provider, str) else provider
        return found, replace(request, include_raw=True) if include_raw else request

    return Stream(prepare)


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
    include_raw: bool = False,
) -> Stream:
    """Return the stream of the answer to a prompt file.

    Args:
        prompt_name: the file's name without `.yaml`, folders with `/`.
        variables: what its placeholders stand for.
        provider, model, temperature: go before what the file says; then come the environment (`STREAMCORE_PROVIDER`
            or `PROVIDER`, `<NAME>_MODEL`), the provider's default model, and 0.7.
        prompts_dir: where to look first; else `$STREAMCORE_PROMPTS_DIR`, else `./prompts`.
        graph_path: a graph file beside which to look.
        state: what `state.x` in the prompt reads.
        include_raw: give every chunk its event's JSON in `raw`.

    Nothing happens until the stream is used; then, besides what `Stream` raises:

    Raises:
        PromptNotFound: there is no such prompt.
        PromptError: the file is wrong, or a variable is missing.
        ConfigError: no provider or model is named anywhere.
    """

    def prepare() -> tuple[Provider, Request]:
        from streamcore.prompts import build_request, load_prompt

        prompt = load_prompt(prompt_name, prompts_dir=prompts_dir, graph_path=graph_path)
        request = build_request(prompt, variables, state=state, model=model, temperature=temperature)
        chosen = provider or prompt.file.provider or _environment_provider()
        if chosen is None:
            raise ConfigError(
                f"no provider for prompt {prompt_name!r}; give provider= in the call, `provider:` in "
                f"{prompt.source.path}, or set STREAMCORE_PROVIDER. Without a key or network, take 'demo'"
            )
        found = get_provider(chosen) if isinstance(chosen, str) else chosen
        return found, replace(request, include_raw=True) if include_raw else request

    return Stream(prepare)


def _environment_provider() -> str | None:
    return os.environ.get("STREAMCORE_PROVIDER") or os.environ.get("PROVIDER") or None


def execute_prompt_streaming(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    temperature: float | None = None,
    provider: str | Provider | None = None,
    *,
    model: str | None = None,
    prompts_dir: str | Path | None = None,
    graph_path: str | Path | None = None,
    state: Mapping[str, Any] | None = None,
) -> TextStream:
    """Stream the text of the answer, for a bare `async for token in ...`.

    Yields `str`, never empty, in order; a refusal's text comes like text. The arguments are those of `stream_prompt`.

    Raises (at the first iteration or later):
        ContentRefused: the answer ended refused or filtered, without any text.
        StreamcoreError: as `stream_prompt` says; `.partial` has what came.
    """
    stream = stream_prompt(
        prompt_name,
        variables,
        provider=provider,
        model=model,
        temperature=temperature,
        prompts_dir=prompts_dir,
        graph_path=graph_path,
        state=state,
    )
    return TextStream(stream, refusals_raise=True)


async def execute_prompt_async(
    prompt_name: str,
    variables: Mapping[str, Any] | None = None,
    *,
    temperature: float | None = None,
    provider: str | Provider | None = None,
    model: str | None = None,
    prompts_dir: str | Path | None = None,
    graph_path: str | Path | None = None,
    state: Mapping[str, Any] | None = None,
) -> str:
    """Return the whole text of the answer; arguments and errors are those of `execute_prompt_streaming`."""
    stream = execute_prompt_streaming(
        prompt_name,
        variables,
        temperature,
        provider,
        model=model,
        prompts_dir=prompts_dir,
        graph_path=graph_path,
        state=state,
    )
    async with stream:
        return "".join([text async for text in stream])


async def execute_prompts_concurrent(prompts: Sequence[Mapping[str, Any]], *, limit: int = 10) -> list[str]:
    """Run several prompts at once and return their texts in the order given.

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
    results = [""] * len(prompts)
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
    {
        "prompt_name",
        "variables",
        "temperature",
        "provider",
        "model",
        "prompts_dir",
        "graph_path",
        "state",
    }
)


def _check_keys(number: int, prompt: Mapping[str, Any]) -> None:
    unknown = sorted(set(prompt) - _KEYS)
    if unknown or "prompt_name" not in prompt:
        what = f"unknown keys {', '.join(map(repr, unknown))}" if unknown else "no 'prompt_name'"
        raise ConfigError(f"prompts[{number}] has {what}; known are {', '.join(sorted(_KEYS))}")
