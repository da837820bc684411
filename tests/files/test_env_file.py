"""Test reading a file of environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore.errors import ConfigError
from streamcore.files.env_file import load_env_file, parse_env_file


def test_valid_lines(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(
        """\ufeff# a comment

A=1
export B = two words  # a comment
C='# no comment $x'
D="a \\"quote\\" and\\ta tab" # comment
E=
F=# comment
G=a#b
H=http://x/?a=b
A=last
""",
        "utf-8",
    )
    assert parse_env_file(path) == {
        "A": "last",
        "B": "two words",
        "C": "# no comment $x",
        "D": 'a "quote" and\ta tab',
        "E": "",
        "F": "",
        "G": "a#b",
        "H": "http://x/?a=b",
    }


@pytest.mark.parametrize("line", ["A", "1A=x", "A='open", 'A="open', "A='x' y", "A B=c", "A=\0"])
def test_invalid_lines(tmp_path: Path, line: str) -> None:
    path = tmp_path / ".env"
    path.write_text(f"# first\n{line}SECRET\n", "utf-8")
    if line == "A":
        path.write_text("# first\nSECRET\n", "utf-8")
    with pytest.raises(ConfigError, match=":2: expected NAME=value") as caught:
        parse_env_file(path)
    assert "SECRET" not in str(caught.value)


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".env"
    path.write_text("STREAMCORE_TEST_A=file\nSTREAMCORE_TEST_B=file\n", "utf-8")
    environment = {"STREAMCORE_TEST_A": "given"}
    monkeypatch.setattr("os.environ", environment)
    assert load_env_file(path) == ["STREAMCORE_TEST_B"]
    assert environment == {"STREAMCORE_TEST_A": "given", "STREAMCORE_TEST_B": "file"}


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_env_file(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"A=\xff")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 2"):
        load_env_file(tmp_path / "bytes")
