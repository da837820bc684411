"""Test the watch for planted keys, which `conftest.py` sets over every test, and search the files that are here."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx2
import pytest

from streamcore import ConfigError
from streamcore.testing import Exchange, RecordedRequest, Recording
from tests.planted import Watch
from tests.support import KEY

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("kind", ["log", "error", "cause", "group", "recording"])
def test_the_watch_sees_a_key(planted: Watch, tmp_path: Path, kind: str) -> None:
    before = list(planted.found)
    if kind == "log":
        logging.getLogger("streamcore").debug("sent %s", KEY)
    elif kind == "recording":
        Recording((Exchange(RecordedRequest("GET", f"http://x/{KEY}")),)).save(tmp_path / "a.yaml")
    else:
        with pytest.raises((ConfigError, ExceptionGroup)):
            if kind == "error":
                raise ConfigError(f"bad {KEY}")
            if kind == "group":
                raise ExceptionGroup("several", [ConfigError(KEY)])
            raise ConfigError("hidden") from httpx2.ReadError(KEY)
    assert len(planted.found) > len(before)
    planted.found[:] = before


def test_no_recording_in_a_file_has_a_key() -> None:
    files = [*ROOT.glob("tests/recordings/**/*"), *ROOT.glob("examples/**/*.yaml")]
    assert len(files) > 10
    assert [path for path in files if path.is_file() and KEY.encode() in path.read_bytes()] == []
