"""Read a file of environment variables, as `.env`: `NAME=value` lines, comments, quotes."""

from __future__ import annotations

import os
import re
from pathlib import Path

from streamcore.errors import ConfigError

_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def load_env_file(path: str | Path) -> list[str]:
    """Set the variables of a file that the environment does not have, and return their names.

    Values are never shown in an error, since most of them are keys.

    Raises:
        ConfigError: the file cannot be read, or a line is not `NAME=value`.
    """
    found = {name: value for name, value in parse_env_file(Path(path)).items() if name not in os.environ}
    os.environ.update(found)
    return list(found)


def parse_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a file; a name that occurs twice has its last value.

    A value goes to the end of its line, without the blanks around it and without a comment that follows a blank. In
    single quotes it is taken as it is; in double quotes, backslash escapes are read. A value has one line.

    Raises:
        ConfigError: see `load_env_file`.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: the file is not UTF-8 at byte {error.start}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        value = None if match is None else _value(match["value"])
        if match is None or value is None or "\0" in value:
            raise ConfigError(f"{path}:{number}: expected NAME=value, with the closing quote in the same line")
        found[match["name"]] = value
    return found


def _value(text: str) -> str | None:
    """Return the value that the rest of a line has, None if a quote is not closed or something follows it."""
    if text[:1] not in ("'", '"'):
        return re.sub(r"(?:^|\s)#.*", "", text).rstrip()
    pattern = r"'([^']*)'\s*(?:#.*)?" if text[0] == "'" else r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?'
    quoted = re.fullmatch(pattern, text)
    if quoted is None:
        return None
    if text[0] == "'":
        return quoted[1]
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), quoted[1])
