"""Test how commands are parsed: what runs without a shell, and that no value reaches a shell's parser."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore.graph.tools.shell_command import CommandError, parse_command


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ("git log -n {n}", ["git", "log", "-n", "A b"]),
        ("grep 'a b' --file={n}", ["grep", "a b", "--file=A b"]),
        ('x a\\ b "c\\"d" \'e\\\'', ["x", "a b", 'c"d', "e\\"]),
        ("awk '{print $1}' {n}", ["awk", "{print $1}", "A b"]),
        ("x '{{y}}' ''", ["x", "{y}", ""]),
        ("x '{ a { b } }'", ["x", "{ a { b } }"]),
        ("x '{a:{b}}'", None),
        ("  x\ty  ", ["x", "y"]),
    ],
)
def test_a_command_without_shell_syntax_is_a_list_of_arguments(text: str, argv: list[str] | None) -> None:
    if argv is None:
        with pytest.raises(CommandError, match="inside quotes"):
            parse_command(text)
        return
    command = parse_command(text)
    assert command.script is None
    assert command.argv({"n": "A b"}) == argv
    assert command.environment({"n": "A b"}) == {}


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("cat {x} | wc -l", 'cat "$arg_x" | wc -l'),
        ("a {x} && b", 'a "$arg_x" && b'),
        ("a > {x}", 'a > "$arg_x"'),
        ("git diff HEAD~{x}", 'git diff HEAD~"$arg_x"'),
        ("find {x} -exec wc -l {{}} \\;", 'find "$arg_x" -exec wc -l {} \\;'),
        ("wc -l {x} | awk '{print $1}'", "wc -l \"$arg_x\" | awk '{print $1}'"),
        ("echo $HOME", "echo $HOME"),
        ('echo "$HOME"', 'echo "$HOME"'),
        ("echo ${{HOME}}", "echo ${HOME}"),
        ("ls *.py", "ls *.py"),
        ("A=1 env", "A=1 env"),
        ("exit 3", "exit 3"),
        ("echo a # it's {x}", "echo a "),
        ("sh -c 'grep -- \"$1\" f' sh {x}", None),
    ],
)
def test_a_command_with_shell_syntax_is_a_script(text: str, script: str | None) -> None:
    command = parse_command(text)
    assert command.script == script
    if command.names:
        assert command.environment({"x": "v"}) == ({} if script is None else {"arg_x": "v"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("echo '{x}'", "inside quotes"),
        ('echo "a {x}"', "inside quotes"),
        ("echo 'a", "not closed"),
        (" ", "empty"),
        ("echo ${x}", r"comes after '\$'"),
        ("echo $(( {x} + 1 ))", "arithmetic"),
        ("eval {x}", "'eval' would evaluate"),
        ("ls | eval {x}", "'eval' would evaluate"),
        ("trap {x} EXIT; ls", "'trap' would evaluate"),
        ("[[ {x} -eq 1 ]] && ls", r"'\[\[' would evaluate"),
        ("ssh host {x}", "'ssh' would evaluate"),
        ("sh -c {x}", "parse the value"),
        ("/bin/bash -lc {x}", "parse the value"),
        ("sudo sh -c {x}", "parse the value"),
        ("echo {x} | sh", "reads its script from the input"),
        ("echo {x} | xargs sh -c 'ls'", "into a shell's script"),
        ("cat <<E\n{x}\nE", "here-document"),
    ],
)
def test_a_command_that_would_parse_a_value_is_refused(text: str, says: str) -> None:
    with pytest.raises(CommandError, match=says):
        parse_command(text)


SHOW = f"{sys.executable} -c 'import sys; sys.stdout.buffer.write(sys.argv[1].encode())' {{x}}"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a b",
        "$(touch hacked)",
        "`touch hacked`",
        "; touch hacked",
        "' \" \\",
        "a\nb",
        "*",
        "$HOME",
        "é\u2028",
        "{x}",
    ],
)
@pytest.mark.parametrize("more", ["", " | cat", " && true"])
def test_a_program_gets_the_value_unchanged(tmp_path: Path, value: str, more: str) -> None:
    command = parse_command(SHOW + more)
    values = {"x": value}
    done = subprocess.run(
        command.argv(values),
        env={**os.environ, **command.environment(values)},
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == value
    assert not (tmp_path / "hacked").exists()


@given(st.text(alphabet="ab'\"\\ {}x|$()#\n", max_size=20))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        command = parse_command(text)
    except CommandError:
        return
    values = dict.fromkeys(command.names, "SECRET")
    if command.script is not None:
        assert "SECRET" not in " ".join(command.argv(values))
