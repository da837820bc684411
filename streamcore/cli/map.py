"""Answer a prompt for every row of a file: `streamcore map NAME rows.jsonl -o answers.jsonl`."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer

from streamcore.bulk import MapOptions, MapReport, Progress, RateLimit, map_file
from streamcore.cli.approval import Yes
from streamcore.cli.options import (
    Debug,
    EnvFile,
    Model,
    Name,
    PromptsDir,
    Provider,
    Temperature,
    prompt_and_folder,
    provider_and_model,
    read_env_file,
)
from streamcore.cli.output import FAILED, fail, note
from streamcore.cli.terminal import run
from streamcore.errors import ConfigError, StreamcoreError
from streamcore.tools import Approve

_EVERY = 30.0
"""Seconds between the lines that tell how far a run is, where no terminal shows it."""


Rows = Annotated[Path, typer.Argument(metavar="ROWS", help="The variables: .jsonl, .ndjson, .csv or .parquet.")]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="Where the answers go: .jsonl, .ndjson or .parquet.")
]
Errors = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where rows that failed go. Default: the output's name with .errors.jsonl."),
]
Concurrency = Annotated[int, typer.Option("--concurrency", "-c", help="How many rows to ask at once.")]
Rpm = Annotated[
    list[str] | None,
    typer.Option(metavar="[PROVIDER=]N", help="Requests a minute, of the first provider or another. Repeatable."),
]
Tpm = Annotated[
    list[str] | None,
    typer.Option(metavar="[PROVIDER=]N", help="Tokens a minute, of the first provider or another. Repeatable."),
]
MaxErrors = Annotated[int | None, typer.Option(help="Stop when more rows than this have failed.")]
Redo = Annotated[bool, typer.Option("--redo", help="Ask all rows again, also those that have an answer.")]
MaxRetries = Annotated[int, typer.Option(help="How often a request is retried after a temporary error.")]


def map_(
    name: Name,
    rows: Rows,
    output: Output,
    errors: Errors = None,
    concurrency: Concurrency = 10,
    rpm: Rpm = None,
    tpm: Tpm = None,
    max_errors: MaxErrors = None,
    redo: Redo = False,
    provider: Provider = None,
    model: Model = None,
    temperature: Temperature = None,
    max_retries: MaxRetries = 5,
    prompts_dir: PromptsDir = None,
    env_file: EnvFile = None,
    debug: Debug = False,
    yes: Yes = False,
) -> None:
    """Answer a prompt file for every row of a file, and write the answers in the order of the rows.

    Example: streamcore map greet names.jsonl -o greetings.jsonl --provider demo

    Each row has the variables of the prompt. A run that ends early, by Ctrl-C, an error or a crash, goes on when the
    same command is run again: every answer was kept in FILE.part, and only the other rows are asked. Rows that failed
    are asked again.

    Exit code 0: every row has an answer. 1: rows failed. 2: bad input. 130: Ctrl-C.
    """
    read_env_file(env_file)
    provider, model = provider_and_model(provider, model)
    name, prompts_dir = prompt_and_folder(name, prompts_dir)
    settings = {"provider": provider, "model": model, "temperature": temperature, "prompts_dir": prompts_dir}
    options = cast("MapOptions", {key: value for key, value in settings.items() if value is not None})
    options["max_retries"] = max_retries
    if yes:
        options["approve"] = lambda _call: Approve()

    async def work(meter: _Meter) -> MapReport:
        return await map_file(
            name,
            rows,
            output,
            errors=errors,
            concurrency=concurrency,
            limits=_limits(rpm, tpm, name, options),
            max_errors=max_errors,
            redo=redo,
            on_progress=meter.show,
            **options,
        )

    _report(_run(work, debug=debug))


def _run(work: Callable[[_Meter], Awaitable[MapReport]], *, debug: bool) -> MapReport:
    """Return the report of a run whose progress is shown, or exit with the code of what ended it."""
    meter: _Meter = _Bar() if sys.stderr.isatty() else _Lines()
    reports: list[MapReport] = []

    async def main() -> None:
        reports.append(await work(meter))

    def stopped() -> None:
        meter.close()
        if meter.last is not None:
            note(f"{_figures(meter.last)}; the same command goes on from here")

    def interrupted() -> None:
        note("interrupted")
        stopped()

    try:
        run(main, interrupted)
    except StreamcoreError as error:
        stopped()
        if debug:
            raise
        fail(error)
    finally:
        meter.close()
    return reports[0]


def _report(report: MapReport) -> None:
    """Print the result of a run; exit with code 1 if rows failed."""
    if report.before == report.progress.rows:
        note(f"nothing to ask: {report.output} has all {report.before} answers; --redo asks again")
    else:
        note(f"{_figures(report.progress)} -> {report.output}")
    if report.errors is not None:
        note(f"{report.progress.failed} failed -> {report.errors}; the same command asks them again")
        raise typer.Exit(FAILED)


def _limits(
    rpm: list[str] | None, tpm: list[str] | None, name: str, options: MapOptions
) -> dict[str, RateLimit] | None:
    """Return the limits by provider; one without a name is that of the provider that is asked first."""
    if not rpm and not tpm:
        return None
    from streamcore.bulk.map_file import prepare

    first = prepare(name, None, options).provider
    found: dict[str, dict[str, float]] = {}
    for option, given in (("requests", rpm), ("tokens", tpm)):
        for item in given or ():
            provider, equals, number = item.rpartition("=")
            try:
                found.setdefault(provider if equals else first, {})[option] = float(number)
            except ValueError:
                flag = "--rpm" if option == "requests" else "--tpm"
                raise ConfigError(f"{flag} takes a number or PROVIDER=NUMBER, not {item!r}") from None
    return {provider: RateLimit(**limits) for provider, limits in found.items()}


def _figures(now: Progress) -> str:
    """Return how far a run is, in one line."""
    parts = [f"{now.done} of {now.rows} rows"]
    if now.failed:
        parts.append(f"{now.failed} failed")
    if now.input_tokens or now.output_tokens:
        parts.append(f"{now.input_tokens:,} tokens in, {now.output_tokens:,} out")
    parts += [f"{amount:.4f} {currency}" for currency, amount in now.costs.items()]
    return " · ".join(parts)


class _Meter(Protocol):
    last: Progress | None

    def show(self, now: Progress) -> None: ...
    def close(self) -> None: ...


class _Lines:
    """Print how far a run is every half minute."""

    def __init__(self) -> None:
        self.last: Progress | None = None
        self._due = time.monotonic() + _EVERY

    def show(self, now: Progress) -> None:
        self.last = now
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _EVERY
            note(_figures(now))

    def close(self) -> None:
        pass


class _Bar:
    """Show how far a run is on the terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.last: Progress | None = None
        columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self._shown = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._shown.add_task("", total=None)
        self._open = False

    def show(self, now: Progress) -> None:
        if not self._open:
            self._shown.start()
            self._open = True
        self.last = now
        self._shown.update(self._task, total=now.rows, completed=now.done + now.failed, description=_figures(now))

    def close(self) -> None:
        if self._open:
            self._shown.stop()
            self._open = False
