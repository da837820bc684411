"""Read the rows of a file: JSON Lines, CSV or Parquet."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from streamcore.errors import ConfigError

JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class Row:
    """The variables of one answer, and their place in the file."""

    number: int
    """The line in the file, or for Parquet the row, from 1."""
    values: Mapping[str, Any]
    """The variables of the prompt; JSON values, from a CSV file all `str`."""

    def key(self, question: str) -> str:
        """Return 16 hexadecimal digits that identify what is asked for this row.

        `question` identifies everything that all rows share: the prompt, the provider, the model.
        """
        values = json.dumps(self.values, sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(f"{question}\n{values}".encode()).hexdigest()[:16]


def read_rows(path: str | Path) -> Iterator[Row]:
    """Yield the rows of a file, which is read as they are used; its suffix names the format.

    `.jsonl` and `.ndjson` have an object in every line, `.csv` has the names in its first line, `.parquet` needs the
    extra `parquet`. Empty lines are left out.

    Raises:
        ConfigError: the file cannot be read, or a row is not valid; the message names file and line.
    """
    path = Path(path)
    read: Callable[[Path], Iterator[Row]]
    if path.suffix in JSON_LINES:
        read = _json_lines
    elif path.suffix == ".csv":
        read = _csv
    elif path.suffix == ".parquet":
        read = _parquet
    else:
        raise ConfigError(f"{path}: rows come from a file that ends in .jsonl, .ndjson, .csv or .parquet")
    try:
        yield from read(path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                values: Any = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError) as error:
                reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
                raise ConfigError(f"{path}:{number}: this line is not JSON: {reason}") from error
            if not isinstance(values, dict):
                example = '{"name": "World"}'
                raise ConfigError(
                    f"{path}:{number}: a row is an object with the variables of the prompt, as in {example}, "
                    f"not a {type(values).__name__}"
                )
            yield Row(number, cast("dict[str, Any]", values))


def _csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            names = next(reader, list[str]())
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ConfigError(f"{path}:1: two columns have the name {repeated[0]!r}")
            line = reader.line_num + 1
            for cells in reader:
                if cells and len(cells) != len(names):
                    raise ConfigError(
                        f"{path}:{line}: this row has {len(cells)} cells; the first line has {len(names)}"
                    )
                if cells:
                    yield Row(line, dict(zip(names, cells, strict=True)))
                line = reader.line_num + 1
        except (csv.Error, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}:{reader.line_num}: this is not CSV in UTF-8: {error}") from error


def _parquet(path: Path) -> Iterator[Row]:
    from streamcore.bulk.parquet import read_parquet

    for number, values in enumerate(read_parquet(path), 1):
        yield Row(number, values)
