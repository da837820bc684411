"""Read and write Parquet, with the package pyarrow of the extra `parquet`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from streamcore.errors import ConfigError, install_command

_BLOCK = 1_000


def _pyarrow() -> Any:
    try:
        import_module("pyarrow.parquet")
        return import_module("pyarrow")
    except ModuleNotFoundError as error:
        command = install_command("parquet")
        raise ConfigError(f"Parquet needs the package pyarrow, which is not installed; run: {command}") from error


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file as mappings; a block of rows is in memory at a time.

    Raises:
        ConfigError: the file is not Parquet, or pyarrow is not installed.
    """
    arrow = _pyarrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            for block in file.iter_batches(_BLOCK):
                yield from block.to_pylist()
    except arrow.ArrowInvalid as error:
        raise ConfigError(f"{path} is not Parquet: {error}") from error


def write_parquet(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write results as a table: columns for what is asked most often, and the whole line as JSON in `answer`."""
    arrow = _pyarrow()
    text, number = arrow.string(), arrow.int64()
    columns = {
        "row": number,
        "text": text,
        "finish_reason": text,
        "provider": text,
        "model": text,
        "input_tokens": number,
        "output_tokens": number,
        "answer": text,
    }
    schema = arrow.schema(list(columns.items()))
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        block: list[dict[str, Any]] = []
        for line in lines:
            found = {**line, **line.get("usage", {}), "answer": json.dumps(line)}
            block.append({name: found.get(name) for name in columns})
            if len(block) == _BLOCK:
                writer.write_table(arrow.Table.from_pylist(block, schema=schema))
                block.clear()
        if block:
            writer.write_table(arrow.Table.from_pylist(block, schema=schema))
