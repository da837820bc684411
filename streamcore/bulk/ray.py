"""Answer the rows of a file on the machines of a Ray cluster, in blocks; needs the extra `ray`."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Unpack

from streamcore.bulk.answers import Question, Result, answer_rows
from streamcore.bulk.limits import RateLimit, RateLimiter
from streamcore.bulk.map_file import MapOptions, MapReport, MapRun, Progress, prepare
from streamcore.bulk.results import Results
from streamcore.bulk.rows import Row
from streamcore.concurrency.blocking import BlockingLoop
from streamcore.errors import ConfigError, StreamcoreError, install_command

Batch = dict[str, Any]
"""Columns of equal length, as Ray Data passes them."""


def map_file(
    prompt_name: str,
    rows: str | Path,
    output: str | Path,
    *,
    workers: int = 2,
    block: int = 100,
    errors: str | Path | None = None,
    concurrency: int = 10,
    limits: Mapping[str, RateLimit] | None = None,
    max_errors: int | None = None,
    redo: bool = False,
    on_progress: Callable[[Progress], object] | None = None,
    **options: Unpack[MapOptions],
) -> MapReport:
    """Answer a prompt file for every row of a file on a Ray cluster; the output is that of `streamcore.bulk.map_file`.

    The calling process reads the rows and writes the results; the workers ask. Results arrive a block at a time, so
    that a crash of the calling process loses at most the blocks that have not ended. A worker that dies is replaced by
    Ray, and its block is asked again.

    Args:
        prompt_name: see `streamcore.bulk.map_file`; the workers need the same files and environment.
        rows: see there.
        output: see there.
        workers: how many processes ask, on whatever machines the cluster has.
        block: how many rows a worker takes at a time.
        errors: see there.
        concurrency: how many rows each worker asks at the same time.
        limits: see there; each worker gets an equal share.
        max_errors: see there.
        redo: see there.
        on_progress: see there.
        options: further arguments of `stream_prompt`. They are sent to the workers, so providers are names or mappings.

    Raises:
        ConfigError: Ray is not installed, or see `streamcore.bulk.map_file`.
        StreamcoreError: see there.
    """
    if workers < 1 or block < 1 or concurrency < 1:
        raise ConfigError(f"workers, block and concurrency must be at least 1, not {workers}, {block}, {concurrency}")
    data = _ray_data()
    question = prepare(prompt_name, limits, options)
    with Results(Path(output), None if errors is None else Path(errors)) as results:
        run = MapRun(Path(rows), results, max_errors, on_progress)
        run.begin(question, redo=redo)
        todo = [_item(row) for row in run.rows()]
        shared = {name: _share(limit, workers) for name, limit in (limits or {}).items()}
        if todo:
            answered = data.from_items(todo).map_batches(
                _Worker,
                fn_constructor_args=(prompt_name, dict(options), shared, concurrency),
                batch_size=block,
                concurrency=workers,
            )
            for item in answered.iter_rows():
                run.take(_loaded(item["result"]))
        return run.finish()


def _ray_data() -> Any:
    try:
        return import_module("ray.data")
    except ModuleNotFoundError as error:
        command = install_command("ray")
        raise ConfigError(f"the package {error.name!r} is not installed; run: {command}") from error


def _item(row: Row) -> dict[str, Any]:
    return {"row": row.number, "values": json.dumps(row.values, default=str)}


def _share(limit: RateLimit, workers: int) -> RateLimit:
    requests = None if limit.requests is None else limit.requests / workers
    return RateLimit(requests, None if limit.tokens is None else limit.tokens / workers)


def _loaded(data: bytes) -> Result:
    """Return the result that a worker sent, or raise the error that ended its block."""
    found: Result | StreamcoreError = pickle.loads(data)  # noqa: S301  made by `_Worker`
    if isinstance(found, StreamcoreError):
        raise found
    return found


class _Worker:
    """Answer blocks of rows, in a process of Ray's."""

    def __init__(
        self, prompt_name: str, options: dict[str, Any], limits: dict[str, RateLimit], concurrency: int
    ) -> None:
        self._loop = BlockingLoop()
        limiters = {name: RateLimiter(limit) for name, limit in limits.items()}
        self._question: Question = replace(prepare(prompt_name, None, options), limiters=limiters)
        self._concurrency = concurrency

    def __call__(self, batch: Batch) -> Batch:
        rows: Iterator[Row] = (
            Row(int(number), json.loads(values)) for number, values in zip(batch["row"], batch["values"], strict=True)
        )
        found: list[Result | StreamcoreError] = []
        try:
            self._loop.run(answer_rows(rows, self._question, found.append, concurrency=self._concurrency))
        except StreamcoreError as error:
            found.append(error)
        return {"result": [pickle.dumps(one) for one in found]}
