"""Answer a prompt for every row of a file: `map_file`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import anyio

from streamcore.bulk.answers import Question, Result, answer_rows
from streamcore.bulk.limits import RateLimit, RateLimiter
from streamcore.bulk.results import Results
from streamcore.bulk.rows import Row, read_rows
from streamcore.errors import ConfigError, PromptError, StreamcoreError
from streamcore.execute import CommonOptions
from streamcore.fallback import Candidate, Fallback
from streamcore.pipeline.retry import OnInterrupt
from streamcore.pricing import load_prices
from streamcore.prompts.prompt_file import build_request, load_prompt
from streamcore.provider import AnyProvider, ModelChoice, provider_name, resolve_provider
from streamcore.tools.decisions import Approver

_SYNC_SECONDS = 1.0
"""How often the journal is written to the disk."""
_RETRIES = 5
"""How often a request is retried by default; nobody waits for a single row, so more often than elsewhere."""


class MapOptions(CommonOptions, total=False):
    """The keyword arguments of `map_file` that it gives to `stream_prompt`."""

    provider: AnyProvider | None
    temperature: float | None
    output_model: Any
    retries: int
    on_interrupt: OnInterrupt
    max_tokens: int | None
    approve: Approver | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. Rows that were not asked again because an earlier run answered them are in `done`, too."""

    rows: int
    """The rows of the file."""
    done: int
    """The rows that have an answer."""
    failed: int = 0
    """The rows that ended with an error in this run."""
    input_tokens: int = 0
    """The tokens of the prompts of this run, failed attempts included, as far as the vendor reported them."""
    output_tokens: int = 0
    """The tokens that this run generated."""
    costs: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    """What the answers of this run cost, by currency, as far as it is known."""


@dataclass(frozen=True, slots=True)
class MapReport:
    """The result of a run."""

    output: Path
    """The answers, in the order of the rows."""
    errors: Path | None
    """The rows that failed, each with its error and what arrived; None if none did."""
    progress: Progress
    """The figures at the end."""
    before: int
    """The rows that earlier runs had answered."""


class TooManyErrors(StreamcoreError):  # noqa: N818  as `ContentRefused`
    """Raised if more rows failed than `max_errors` allows; the answers are kept, and the next call goes on."""


async def map_file(
    prompt_name: str,
    rows: str | Path,
    output: str | Path,
    *,
    errors: str | Path | None = None,
    concurrency: int = 10,
    limits: Mapping[str, RateLimit] | None = None,
    max_errors: int | None = None,
    redo: bool = False,
    on_progress: Callable[[Progress], object] | None = None,
    **options: Unpack[MapOptions],
) -> MapReport:
    """Answer a prompt file for every row of a file, and write the answers to another, in the order of the rows.

    A run that was cut off, by an error or a crash of the machine, goes on when it is called again: every answer that
    arrived was kept in `<output>.part`, and only the other rows are asked. `output` appears when all rows were asked.
    Rows that failed are asked again by the next call.

    Args:
        prompt_name: the file's name without `.yaml`, as for `stream_prompt`.
        rows: a file that ends in `.jsonl`, `.ndjson`, `.csv` or `.parquet`; each row has the prompt's variables.
        output: where the answers are written; `.jsonl`, `.ndjson` or `.parquet`. A line has the row's `row` and
            `input`, and of the answer `text` and what else it has: `parsed`, `tool_calls`, `usage`, `cost`, ...
        errors: where rows that failed are written, as JSON Lines; defaults to `<output>.errors.jsonl` without the
            output's own suffix.
        concurrency: how many rows are asked at the same time.
        limits: requests and tokens a minute, by the name of the provider. Requests begin within the limits of the
            provider that is asked first; retries and fallbacks are counted when they have been made.
        max_errors: end with `TooManyErrors` when more rows than this have failed; by default all rows are asked.
        redo: ask all rows again. Without it, a row whose variables, prompt or model differ from those that `output`
            has an answer for is an error.
        on_progress: called with the figures after each row.
        options: further arguments of `stream_prompt`; `max_retries` is 5 by default.

    Raises:
        ConfigError: a row is not valid (all are checked before the first request), the output has answers to other
            questions or is written by another process, or an argument is not valid.
        AuthenticationError, NotFoundError: the key or the model was refused, so no row can be answered.
        TooManyErrors: see `max_errors`.
    """
    if concurrency < 1:
        raise ConfigError(f"concurrency must be at least 1, not {concurrency}")
    question = prepare(prompt_name, limits, options)
    with Results(Path(output), None if errors is None else Path(errors)) as results:
        run = MapRun(Path(rows), results, max_errors, on_progress)
        await anyio.to_thread.run_sync(partial(run.begin, question, redo=redo))
        await load_prices()
        await _answer(question, run, concurrency)
        return await anyio.to_thread.run_sync(run.finish)


def prepare(prompt_name: str, limits: Mapping[str, RateLimit] | None, options: Mapping[str, Any]) -> Question:
    """Return what is asked for every row.

    Raises:
        ConfigError: there is no such prompt, no provider is named, or a limit is for a provider that is never asked.
    """
    found = load_prompt(prompt_name, prompts_dir=options.get("prompts_dir"), graph_path=options.get("graph_path"))
    call = ModelChoice(options.get("provider"), options.get("model"), options.get("temperature"))
    resolved = resolve_provider([call, found.choice], f"prompt {prompt_name!r}")
    name = provider_name(resolved.provider)
    shared = [found.source.text, name, resolved.model, resolved.temperature, options.get("max_tokens")]
    text = hashlib.sha256(json.dumps(shared, default=str).encode()).hexdigest()
    fallbacks = options.get("fallback")
    _refuse_other_providers(limits or {}, [name, *_names(found.file.fallbacks() if fallbacks is None else fallbacks)])
    limiters = {provider: RateLimiter(limit) for provider, limit in (limits or {}).items()}
    return Question(found, {"max_retries": _RETRIES, **options}, name, text, limiters)


def _refuse_other_providers(limits: Iterable[str], asked: Sequence[str]) -> None:
    if any(":" in name for name in asked):
        return  # an object of a module, whose provider has a name of its own
    for name in limits:
        if name not in asked:
            shown = ", ".join(map(repr, asked))
            raise ConfigError(
                f"limits= (--rpm, --tpm) has provider {name!r}, which is never asked; the prompt asks {shown}"
            )


def _names(fallbacks: Iterable[Fallback]) -> Iterator[str]:
    """Yield the names of the providers of entries of `fallback`."""
    for entry in fallbacks:
        if isinstance(entry, str):
            yield entry.partition("/")[0]
        elif isinstance(entry, Mapping):
            yield provider_name(entry.get("provider", ""))
        else:
            yield provider_name(entry.provider if isinstance(entry, Candidate) else entry)


def _checked_rows(source: Path, question: Question, results: Results) -> int:
    """Check every row, and drop from `results.done` what is no row of the file; return how many rows there are.

    Raises:
        ConfigError: a row is not valid, or the output has the answer to another question for it.
    """
    state, count, others = question.options.get("state"), 0, 0
    kept: dict[int, str] = {}
    for row in read_rows(source):
        try:
            build_request(question.prompt, row.values, state=state)
        except PromptError as error:
            raise ConfigError(f"{source}:{row.number}: {error}") from error
        key = results.done.get(row.number)
        if key is not None and key == row.key(question.text):
            kept[row.number] = key
        elif key is not None:
            others += 1
        count += 1
    if others:
        rows = "1 row" if others == 1 else f"{others} rows"
        raise ConfigError(
            f"{results.output} has answers for {rows} of {source} that were asked with other variables, another prompt "
            "or another model; give another output file, or redo=True (--redo) to ask all rows again"
        )
    if not count:
        raise ConfigError(f"{source} has no rows")
    results.done.clear()
    results.done.update(kept)
    return count


class MapRun:
    """The run over one file: which rows are to be asked, their results, and the figures.

    Args:
        source: the file of the rows.
        results: where the results are written.
        max_errors: see `map_file`.
        on_progress: see `map_file`.
    """

    def __init__(
        self,
        source: Path,
        results: Results,
        max_errors: int | None,
        on_progress: Callable[[Progress], object] | None,
    ) -> None:
        self.progress = Progress(0, 0)
        self._source, self._results = source, results
        self._max_errors, self._on_progress = max_errors, on_progress
        self._before = 0
        self._costs: dict[str, Decimal] = {}

    def begin(self, question: Question, *, redo: bool) -> None:
        """Check every row, before the first is asked.

        Raises:
            ConfigError: see `map_file`.
        """
        if redo:
            self._results.forget()
        count = _checked_rows(self._source, question, self._results)
        self._before = len(self._results.done)
        self.progress = Progress(count, self._before)

    def rows(self) -> Iterator[Row]:
        """Yield the rows that have no answer yet."""
        return (row for row in read_rows(self._source) if row.number not in self._results.done)

    def finish(self) -> MapReport:
        """Write the output, and return the report."""
        self._results.finish()
        errors = self._results.errors if self.progress.failed else None
        return MapReport(self._results.output, errors, self.progress, self._before)

    def take(self, result: Result) -> None:
        """Write a result.

        Raises:
            TooManyErrors: one more row has failed than `max_errors` allows.
        """
        answer, now = result.answer, self.progress
        used = [attempt.usage for attempt in answer.attempts] or [answer.usage]
        cost = answer.cost
        if cost is not None:
            self._costs[cost.currency] = self._costs.get(cost.currency, Decimal()) + cost.amount
        if result.error is None:
            self._results.add(result.line)
        else:
            self._results.add_error(result.line)
        self.progress = replace(
            now,
            done=now.done + (result.error is None),
            failed=now.failed + (result.error is not None),
            input_tokens=now.input_tokens + sum(usage.input_tokens or 0 for usage in used if usage is not None),
            output_tokens=now.output_tokens + sum(usage.output_tokens or 0 for usage in used if usage is not None),
            costs=self._costs,
        )
        if self._on_progress is not None:
            self._on_progress(self.progress)
        if self._max_errors is not None and self.progress.failed > self._max_errors:
            raise TooManyErrors(
                f"{self.progress.failed} rows failed, and max_errors is {self._max_errors}; the last error was "
                f"{type(result.error).__name__}: {result.error}. See {self._results.errors}"
            ) from result.error

    async def keep_on_disk(self) -> None:
        """Write the journal to the disk once a second, until cancelled."""
        while True:
            await anyio.sleep(_SYNC_SECONDS)
            await anyio.to_thread.run_sync(self._results.sync)


async def _answer(question: Question, run: MapRun, concurrency: int) -> None:
    """Answer the rows and write the journal to the disk meanwhile."""
    failures: list[BaseException] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run.keep_on_disk)
        try:
            await answer_rows(run.rows(), question, run.take, concurrency=concurrency)
        except Exception as error:  # noqa: BLE001  raised below, outside of an exception group
            failures.append(error)
        tasks.cancel_scope.cancel()
    if failures:
        raise failures[0]
