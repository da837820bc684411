"""Control characters of a model's text do not reach a terminal unless the user asks for it."""

from __future__ import annotations

import sys

import pytest

from streamcore.cli.output import printable

TEXT = "a\x1b[2Jb\x07\tc\r\nd\x9b31m é"


def test_a_terminal_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert printable(TEXT) == "a\\x1b[2Jb\\x07\tc\\x0d\nd\\x9b31m é"


def test_raw_sends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert printable(TEXT, raw=True) == TEXT


def test_files_and_pipes_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert printable(TEXT) == TEXT
