"""Test the YAML loader: what it reads, what it refuses, and that every line it names is the right one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streamcore.files.yaml_file import MAX_BYTES, MAX_DEPTH, YamlFile, load_yaml, parse_yaml

FILE = Path("some.yaml")


class RefusedError(Exception):
    """The error class that the caller passes to the loader."""


def parse(text: str | bytes) -> YamlFile:
    return parse_yaml(FILE, text.encode() if isinstance(text, str) else text, RefusedError)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("2026-01-31", "2026-01-31"),
        ("12:30", "12:30"),
        ("010", "010"),
        ("0", 0),
        ("-17", -17),
        ("1_000", 1000),
        ("0x1F", 31),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.5e-3", 0.0015),
        ("-.inf", float("-inf")),
        ("1.2.3", "1.2.3"),
        ("~", None),
        ("null", None),
        ("", None),
        ("=", "="),
        ("<<", "<<"),
        ('"1"', "1"),
        ("!!str 1", "1"),
        ("[a, 1, [b]]", ["a", 1, ["b"]]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("grüße 👋", "grüße 👋"),
    ],
)
def test_reads_values(written: str, value: Any) -> None:
    found = parse(f"key: {written}\n").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_reads_a_leading_bom_and_crlf() -> None:
    source = parse(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert source.data == {"a": 1, "b": 2}
    assert source.line(("b",)) == 2


def test_an_empty_file_is_nothing() -> None:
    assert parse("# only a comment\n").data is None


@pytest.mark.parametrize(
    ("text", "where", "reported"),
    [
        ("a: 1\na: 2", "2", "'a' occurs twice; the first one is in line 1"),
        ("a: {b: 1,\n  b: 2}", "2", "'b' occurs twice"),
        ("a: &x 1\nb: *x", "2", "aliases (*x) are not supported"),
        ("<<: {a: 1}", "1", "merges (<<) are not supported"),
        ("a: !!python/object/apply:os.system [ls]", "1", "the tag !!python/object/apply:os.system is not supported"),
        ("a: !!set {b}", "1", "the tag !!set is not supported"),
        ("\na: !!binary aGk=", "2", "the tag !!binary is not supported"),
        ("a: !!int abc", "1", "'abc' cannot be read as int"),
        ("a: !!bool maybe", "1", "'maybe' cannot be read as bool"),
        ("a: !!float ''", "1", "'' cannot be read as float"),
        ("a: " + "9" * 5000, "1", "cannot be read as int"),
        ("a:\n  {{ name }}", "2", "begins with { or [ must be in quotes"),
        ("? [a]\n: 1", "1", "a key must be text or a number"),
        ("a: 1\nb:\n  " + "[" * 65 + "]" * 65, "3", f"nested more than {MAX_DEPTH} levels"),
        (b"a: 1\nb: \xff", "2", "not UTF-8"),
        # Syntax: with the column.
        ("a: 1\n\tb: 2", "2:1", "indent with spaces, not with tabs"),
        ("a: 1\nb: one: two", "2:7", "must be in quotes or in a block (key: |)"),
        ("a: 1\nb: 'never closed\nc: 3\n", "2:4", "is the closing quote missing?"),
        ("a: 1\nb: [1, 2\n", "2:4", "is a closing bracket missing?"),
        ("a: @x", "1:4", "must be in quotes"),
        ("a: *b* c", "1:6", "begins with * or & must be in quotes"),
        ('a: "x" y', "1:8", "must be in quotes as a whole"),
        ('a: "\\q"', "1:6", "a backslash is written twice"),
        ("a: 1\n---\nb: 2", "2:1", "a file has one document"),
        ("a: 1\nb: \x01", "2:4", "the character '\\x01' is not allowed"),
    ],
)
def test_refuses_with_the_line(text: str | bytes, where: str, reported: str) -> None:
    with pytest.raises(RefusedError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"{FILE}:{where}: ")
    assert reported in str(caught.value)


def test_as_deep_as_the_limit_is_read() -> None:
    found = parse("[" * MAX_DEPTH + "]" * MAX_DEPTH).data
    for _ in range(MAX_DEPTH - 1):
        (found,) = found
    assert found == []


def test_depth_is_counted_up_and_down() -> None:
    siblings = "[], {}, " * 100
    assert len(parse(f"[{siblings}]").data) == 200
    with pytest.raises(RefusedError, match="nested more than"):
        parse(f"[{siblings}" + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "]")


def test_refuses_an_alias_bomb_before_it_unfolds() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(RefusedError, match=r"some\.yaml:2: YAML aliases"):
        parse("\n".join(levels))


def test_refuses_a_big_file(tmp_path: Path) -> None:
    file = tmp_path / "big.yaml"
    file.write_bytes(b"#" * MAX_BYTES)
    assert load_yaml(file, RefusedError).data is None
    file.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(RefusedError, match="the limit"):
        load_yaml(file, RefusedError)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"none\.yaml: cannot be read: No such file"):
        load_yaml(tmp_path / "none.yaml", RefusedError)


def test_lines_of_keys_and_items() -> None:
    source = parse("# comment\na: 1\nb:\n  c:\n    - x\n    -\n      d: {e: 1,\n        f: 2}\n")
    lines = {("a",): 2, ("b", "c"): 4, ("b", "c", 0): 5, ("b", "c", 1, "d"): 7, ("b", "c", 1, "d", "f"): 8}
    for location, line in lines.items():
        assert source.line(location) == line
    assert source.line(("b", "c", 1, "d", "nowhere")) == 7
    assert source.line(("nowhere",)) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("user: |\n  one\n  two HERE\n", 3),
        ("user: |-\n  one\n\n\n  HERE\n", 5),
        ("user: |2+  # comment\n   one\n  HERE\n\n", 3),
        ("user: >\n  one\n  two\n  HERE\n", 4),
        ("user: >-\n\n  one\n\n  HERE\n  two\n", 5),
        ("user: >\n  one\n    kept\n    kept\n  HERE\n", 5),
        ("user: HERE\n", 1),
        ("user: 'HERE'\n", 1),
        ("# c\n\nuser:\n  'HERE'\n", 4),
        ("user: one\n  two\n  HERE\n", 3),
        ("user: 'it''s\n\n  HERE'\n", 3),
        ('user: "one\\n\\\n  two \\u00e9\\"\n  HERE"\n', 3),
        ('user: "a\\n\\n\\n\\t \\x41\n  HERE"\n', 2),
        ("user: !!str |\n  one\n  HERE\n", 3),
        ("user:\n  |\n  one\n  HERE\n", 4),
        ("user: |\r\n  one\r\n  HERE\r\n", 3),
    ],
)
def test_line_inside_a_text(text: str, line: int) -> None:
    source = parse(text)
    assert source.text_line(("user",), source.data["user"].index("HERE")) == line


WORDS = st.text("abcäö{}%#'\"\\:.,!?", min_size=1, max_size=8).map(lambda word: f"x{word}")


@given(
    st.lists(st.lists(WORDS, max_size=3).map(" ".join), min_size=1, max_size=8),
    st.sampled_from(["|", "|-", "|+", ">", ">-", ">+"]),
    st.integers(0, 3),
    st.data(),
)
def test_line_inside_any_block(lines: list[str], style: str, before: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(lines) - 1))
    lines = [*lines[:number], "x HERE " + lines[number], *lines[number + 1 :]]
    text = "# comment\n" * before + f"key: {style}\n" + "".join(f"  {line}".rstrip() + "\n" for line in lines)
    source = parse(text)
    assert source.text_line(("key",), source.data["key"].index("HERE")) == before + 1 + number + 1


@given(st.binary(max_size=60) | st.text(st.sampled_from(" \n\t:-?[]{}&*!|>'\"%@`#,ab1.<=~\x00é\ufeff"), max_size=40))
def test_any_bytes_give_data_or_a_config_error(text: str | bytes) -> None:
    reported = f"{FILE}:"
    try:
        parse(text)
    except RefusedError as error:
        reported = str(error)
    assert reported.startswith(f"{FILE}:")


TEXT = st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029")  # line breaks that PyYAML does not quote
NUMBER = re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+|[-+]\.[0-9]+")
"""Numbers of YAML 1.2 that are text in YAML 1.1, so that PyYAML does not quote such a text, as `0E0` or `-.5`."""

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(TEXT).filter(lambda text: not NUMBER.fullmatch(text)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcyn", min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), PLAIN, max_size=3))
def test_reads_the_output_of_pyyaml(value: dict[str, Any]) -> None:
    class NoAliases(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    text = yaml.dump(value, Dumper=NoAliases, allow_unicode=True)  # pyright: ignore[reportUnknownMemberType]
    assert parse(text).data == value
