"""Write results so that a crash loses none: to a journal, and at the end to one file in the order of the rows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from streamcore.bulk.parquet import read_parquet, write_parquet
from streamcore.bulk.rows import JSON_LINES
from streamcore.errors import ConfigError

Line = dict[str, Any]


def json_bytes(line: Mapping[str, Any]) -> bytes:
    """Return an object as a line of JSON in UTF-8; what JSON does not know is written as its `str`."""
    try:
        return json.dumps(line, ensure_ascii=False, default=str).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(line, default=str).encode() + b"\n"


def errors_path(output: Path) -> Path:
    """Return where errors are written by default: `out.errors.jsonl` beside `out.jsonl`."""
    return output.with_suffix(".errors.jsonl")


class Results:
    """The output of one run, and what earlier runs have left.

    While rows are answered, each result is appended to the journal, `out.jsonl.part`. `finish` merges it with what
    `out.jsonl` has already into a new `out.jsonl`, in the order of the rows, and replaces the old one at once; so
    `out.jsonl` is never half written. A line that a killed process has not finished is dropped, and its row is asked
    again. `done` has the row numbers and keys that are answered.
    """

    def __init__(self, output: Path, errors: Path | None = None) -> None:
        """Check the paths; nothing is opened before the results are entered.

        Raises:
            ConfigError: the suffix names no format.
        """
        if output.suffix not in (*JSON_LINES, ".parquet"):
            raise ConfigError(f"{output}: results are written to a file that ends in .jsonl, .ndjson or .parquet")
        self.output, self.errors = output, errors or errors_path(output)
        self.journal = output.with_name(output.name + ".part")
        self.done: dict[int, str] = {}
        self._file: IO[bytes] | None = None
        self._failed: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Lock the journal and read what is done.

        Raises:
            ConfigError: another process writes the journal, or a file cannot be opened or read.
        """
        try:
            self._file = self.journal.open("a+b")
            _lock(self._file, self.journal)
            _drop_torn_line(self._file)
            for line in (*self._finished(), *_lines(self.journal)):
                self.done[line["row"]] = line["key"]
        except OSError as error:
            self.close()
            raise ConfigError(f"cannot write {self.journal}: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def forget(self) -> None:
        """Drop what earlier runs have answered; `out.jsonl` stays until `finish` replaces it."""
        self.done.clear()
        if self._file is not None:
            self._file.truncate(0)

    def add(self, line: Line) -> None:
        """Append the answer to a row; it survives the process as soon as this returns."""
        if self._file is not None:
            self._file.write(json_bytes(line))
            self._file.flush()
        self.done[line["row"]] = line["key"]

    def add_error(self, line: Line) -> None:
        """Append a row that failed to the file of errors, which begins empty with each run."""
        if self._failed is None:
            self._failed = self.errors.open("wb")
        self._failed.write(json_bytes(line))
        self._failed.flush()

    def sync(self) -> None:
        """Write to the disk what the operating system holds, so that it survives a loss of power."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def finish(self) -> None:
        """Write the output from the journal and the earlier output, and remove the journal."""
        if self._failed is None:
            self.errors.unlink(missing_ok=True)
        unfinished = self.output.with_name(self.output.name + ".new")
        if self.output.suffix == ".parquet":
            write_parquet(unfinished, self._in_order())
            with unfinished.open("rb") as written:
                os.fsync(written.fileno())
        else:
            with unfinished.open("wb") as file:
                file.writelines(json_bytes(line) for line in self._in_order())
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(self.output)
        self.journal.unlink()

    def close(self) -> None:
        """Close the files, and remove a journal in which nothing is."""
        for file in (self._file, self._failed):
            if file is not None:
                file.close()
        self._file = self._failed = None
        with suppress(OSError):
            if self.journal.stat().st_size == 0:
                self.journal.unlink()

    def _finished(self) -> Iterator[Line]:
        """Yield the lines of the earlier output."""
        if not self.output.exists():
            return
        if self.output.suffix == ".parquet":
            for number, row in enumerate(read_parquet(self.output), 1):
                yield _result(row.get("answer"), f"{self.output}, row {number}")
        else:
            yield from _lines(self.output)

    def _in_order(self) -> Iterator[Line]:
        """Yield the last line of every row that counts, in the order of the rows; only their places are in memory."""
        if self.output.suffix == ".parquet":
            earlier = {line["row"]: line for line in self._finished() if self._counts(line)}
            yield from _merged(earlier, _lines(self.journal), self._counts)
            return
        places: dict[int, tuple[Path, int]] = {}
        for path in (self.output, self.journal):
            if path.exists():
                for offset, line in _lines_at(path):
                    if self._counts(line):
                        places[line["row"]] = (path, offset)
        files = {path: path.open("rb") for path in {path for path, _ in places.values()}}
        try:
            for number in sorted(places):
                path, offset = places[number]
                files[path].seek(offset)
                yield json.loads(files[path].readline())
        finally:
            for file in files.values():
                file.close()

    def _counts(self, line: Line) -> bool:
        return bool(self.done.get(line["row"]) == line["key"])


def _merged(earlier: dict[int, Line], later: Iterable[Line], counts: Callable[[Line], bool]) -> Iterator[Line]:
    lines = earlier | {line["row"]: line for line in later if counts(line)}
    for number in sorted(lines):
        yield lines[number]


def _result(text: object, where: str) -> Line:
    """Return a line of an output.

    Raises:
        ConfigError: it is not one.
    """
    try:
        found: Any = json.loads(cast("str", text))
        if isinstance(found["row"], int) and isinstance(found["key"], str):
            return cast("Line", found)
    except (ValueError, TypeError, KeyError):
        pass
    raise ConfigError(f"{where}: this is no result of `streamcore map`; give another output file")


def _lines_at(path: Path) -> Iterator[tuple[int, Line]]:
    """Yield the lines of a file, each with the offset at which it begins."""
    with path.open("rb") as file:
        offset = 0
        for number, text in enumerate(file, 1):
            yield offset, _result(text, f"{path}:{number}")
            offset += len(text)


def _lines(path: Path) -> Iterator[Line]:
    return (line for _, line in _lines_at(path))


def _drop_torn_line(file: IO[bytes]) -> None:
    """Cut a journal after its last whole line."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65_536)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            file.truncate(start + found + 1)
            break
        end = start
    else:
        file.truncate(0)
    file.seek(0, os.SEEK_END)


def _lock(file: IO[bytes], path: Path) -> None:
    """Keep other processes from writing the journal; the operating system drops the lock with the process.

    Raises:
        ConfigError: another process has it.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows: two runs on one output are not noticed there
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ConfigError(f"another process is writing {path}; wait for it, or give another output file") from error
