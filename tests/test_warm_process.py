"""Test that a program in a forked child cannot be told from one in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import environment
from tests.warm_process import warm_process

REPORT = """
import json, os, signal, subprocess, sys, threading, warnings
streams = [sys.stdin, sys.stdout, sys.stderr]
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "main": __name__, "file": __file__, "folder": os.getcwd(),
    "environment": dict(os.environ), "input": sys.stdin.read(),
    "putenv": subprocess.check_output("echo $ONE", shell=True, text=True),
    "streams": [[s.encoding, s.errors, s.line_buffering, s.isatty(), s.fileno(), s.seekable()] for s in streams],
    "threads": threading.active_count(), "interrupt": repr(signal.getsignal(signal.SIGINT)),
    "pipe": str(signal.getsignal(signal.SIGPIPE)), "descriptors": len(os.listdir("/dev/fd")),
    "warnings": warnings.filters[0][:1],
}))
print("to the error output \N{SNOWMAN}", file=sys.stderr)
"""
ENDS = {
    "returns": "print('x' * 200_000)",
    "raises": "raise ValueError('no')",
    "exits": "import sys; print('said'); sys.exit(7)",
    "exits with a text": "import sys; sys.exit('why')",
    "ends at once": "import os; os._exit(3)",
    "is killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "is interrupted": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "warns": "import warnings; warnings.warn('careful', stacklevel=1)",
    "does something at its end": "import atexit; atexit.register(print, 'over')",
    "closes its output": "import os; os.close(1); os.close(2)",
    "starts another one": "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1)'])",
}


def both(script: Path, *arguments: str, stdin: str = "") -> list[subprocess.CompletedProcess[str]]:
    """Run a script in a forked child and in a new process."""
    env = environment(ONE="1", UMLAUT="ä")
    command = [sys.executable, "-W", "error", str(script), *arguments]
    return [
        warm_process().run(script, arguments, env=env, cwd=script.parent, stdin=stdin),
        subprocess.run(
            command, env=env, cwd=script.parent, input=stdin, capture_output=True, text=True, timeout=250, check=False
        ),
    ]


def test_it_sees_what_a_new_process_sees(tmp_path: Path) -> None:
    script = tmp_path / "report.py"
    script.write_text(REPORT, "utf-8")
    forked, new = both(script, "a", "--b", stdin="line\r\nline\n" * 20_000)
    assert (forked.returncode, forked.stderr) == (new.returncode, new.stderr)
    expected = json.loads(new.stdout)
    assert json.loads(forked.stdout) == {**expected, "descriptors": expected["descriptors"] + 1}  # see `_report`


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_it_ends_as_a_new_process_ends(tmp_path: Path, code: str) -> None:
    script = tmp_path / "ends.py"
    script.write_text(code, "utf-8")
    forked, new = both(script)
    assert (forked.returncode, forked.stdout) == (new.returncode, new.stdout)
    assert forked.stderr.splitlines()[-1:] == new.stderr.splitlines()[-1:]


def test_what_a_program_changes_is_gone(tmp_path: Path) -> None:
    script = tmp_path / "changes.py"
    script.write_text("import streamcore, sys\nprint(getattr(streamcore, 'X', 'new'))\nstreamcore.X = 'old'\n", "utf-8")
    for _ in range(2):
        assert warm_process().run(script, [], env=environment(), cwd=tmp_path).stdout == "new\n"


def test_a_module_of_the_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("print('from the folder')", "utf-8")
    done = warm_process().run("mine", [], env=environment(), cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("from the folder\n", "")
