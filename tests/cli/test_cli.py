"""Use the command as people and scripts do, in separate processes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from streamcore.testing import Answer, Simulator
from tests.commands import COMMAND, KEY, PROMPT, PROVIDERS, ROOT, environment, streamcore, until
from tests.support import first_short


def test_demo_needs_no_key_and_no_network() -> None:
    done = streamcore(*PROMPT, "--provider", "demo")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Hello!")
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("provider", first_short(PROVIDERS))
def test_prompt_through_the_sdk(provider: str) -> None:
    with Simulator("Hi,\n  World!") as simulator:
        done = streamcore(*PROMPT, "--provider", provider, "--model", "m-1", "--stats", simulator=simulator)
        assert simulator.requests[-1].body["model"] == "m-1"
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Hi,\n  World!\n"
    assert f"{provider} m-1" in done.stderr
    assert "first token after" in done.stderr
    assert "12 tokens in" in done.stderr


def test_json_lines() -> None:
    with Simulator("Hi, World!") as simulator:
        done = streamcore(*PROMPT, "--provider", "openai", "--json", simulator=simulator)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["kind"] for line in lines][:2] == ["start", "text"]
    assert "".join(line.get("text", "") for line in lines) == "Hi, World!"
    assert lines[-2]["finish_reason"] == "stop"
    assert lines[-1]["usage"]["input_tokens"] == 12


def test_failed_stream_keeps_text_and_exits_with_1() -> None:
    with Simulator(Answer(["Hello", ", ", "World"], cut=2)) as simulator:
        done = streamcore(*PROMPT, "--provider", "anthropic", simulator=simulator)
        as_json = streamcore(*PROMPT, "--provider", "anthropic", "--json", simulator=simulator)
    assert done.returncode == 1
    assert done.stdout == "Hello, "
    assert done.stderr.startswith("StreamInterrupted: ")
    assert "7 characters of text arrived before it" in done.stderr
    assert as_json.returncode == 1
    last = json.loads(as_json.stdout.splitlines()[-1])
    assert (last["kind"], last["type"], last["partial"]["text"]) == ("error", "StreamInterrupted", "Hello, ")


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["prompt", "gret", "-p", "demo"], "did you mean 'greet'?"),
        (["prompt", "greet", "-p", "demo"], "'name'"),
        (["prompt", "greet", "--var", "name", "-p", "demo"], "--var takes KEY=VALUE"),
        ([*PROMPT, "-p", "antropic"], "did you mean 'anthropic'?"),
        ([*PROMPT, "-p", "mistral"], "MISTRAL_API_KEY"),
        ([*PROMPT], "STREAMCORE_PROVIDER"),
        (["prompt", "../greet", "-p", "demo"], "is not a prompt's name"),
    ],
)
def test_bad_input_exits_with_2_and_no_traceback(arguments: list[str], reported: str) -> None:
    done = streamcore(*arguments)
    assert done.returncode == 2
    assert reported in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_debug_shows_the_traceback() -> None:
    done = streamcore("prompt", "gret", "-p", "demo", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_a_reader_that_disconnects_closes_the_upstream() -> None:
    with Simulator(Answer(["tick\n"] * 2000), rate=100) as simulator:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamcore.cli", *PROMPT, "-p", "openai"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=environment(simulator),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(4)
        process.stdout.close()
        reported = process.stderr.read()
        process.stderr.close()
        assert process.wait(timeout=250) == 141  # as a program that SIGPIPE ended
        assert reported == b""
        until(lambda: simulator.open == 0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
@pytest.mark.parametrize(
    "arguments", [[*PROMPT, "-p", "demo"], [*PROMPT, "-p", "demo", "--json"], ["providers"], ["-h"]]
)
def test_a_full_disk_is_reported(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment()
        )
    assert (done.returncode, done.stderr) == (1, "cannot write the output: No space left on device\n")


@pytest.mark.parametrize(
    "arguments",
    [[*PROMPT, "-p", "demo"], [*PROMPT, "-p", "demo", "--json"], ["providers"], ["simulate", "--fault", "list"]],
)
def test_a_pipe_to_head_ends_quietly(arguments: list[str]) -> None:
    line = f"{shlex.join([*COMMAND, *arguments])} | head -n 1; echo ${{PIPESTATUS[*]}}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=250, cwd=ROOT, env=environment()
    )
    assert done.stderr == ""
    *shown, codes = done.stdout.splitlines()
    assert len(shown) == 1
    assert codes in ("141 0", "0 0")  # 0: all of it was in the pipe before head was done


@pytest.mark.parametrize("name", ["prompts/greet.yaml", "./prompts/greet.yaml", "greet.yaml", "greet"])
def test_a_prompt_is_given_by_name_or_by_path(name: str) -> None:
    done = streamcore("prompt", name, "--var", "name=World", "-p", "demo")
    assert done.stdout.startswith("Hello!"), done.stderr


def test_a_path_that_is_wrong() -> None:
    done = streamcore("prompt", "prompts/gret.yaml", "-p", "demo")
    assert (done.returncode, done.stderr.partition(" tried:")[0]) == (
        2,
        "PromptNotFound: there is no prompt 'gret'; did you mean 'greet'?",
    )
    assert "rename it" in streamcore("prompt", "prompts/greet.yml", "-p", "demo").stderr


def test_provider_and_model_in_one() -> None:
    with Simulator("ok") as simulator:

        def asked(*arguments: str) -> list[str]:
            done = streamcore(*PROMPT, "--stats", *arguments, simulator=simulator)
            assert done.returncode == 0, done.stderr
            return done.stderr.split(" ")[:2]

        assert asked("-m", "mistral/m-1") == ["mistral", "m-1"]
        assert asked("-m", "openai/org/m-1") == ["openai", "org/m-1"]
        assert asked("-p", "openai", "-m", "mistral/m-1") == ["openai", "mistral/m-1"]
        assert asked("-p", "openai", "-m", "meta-llama/m-1") == ["openai", "meta-llama/m-1"]


def test_a_text_without_a_file() -> None:
    with Simulator("ok") as simulator:

        def sent(*arguments: str, stdin: str | None = None) -> str:
            done = streamcore("prompt", "-m", "openai/m", *arguments, simulator=simulator, stdin=stdin)
            assert done.returncode == 0, done.stderr
            content: str = simulator.requests[-1].body["messages"][-1]["content"]
            return content

        assert sent("-t", 'Keep {"braces": {name}}') == 'Keep {"braces": {name}}'
        assert sent("--text", "Greet {name}", "--var", "name=Ada") == "Greet Ada"
        assert sent("-t", "-", stdin="from a pipe") == "from a pipe"
        assert sent("-t", "Review {diff}", "--var-file", "diff=-", stdin="+1") == "Review +1"


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        ([], "give a prompt's NAME, the path of its file, or --text TEXT"),
        (["greet", "-t", "x"], "not both"),
        (["-t", "x"], "no provider for --text"),
        (
            ["-p", "Tell me a joke"],
            "-p names the provider; give the text with --text: streamcore prompt --text 'Tell me",
        ),
        (["-t", "{x}", "--var", "y=1", "-p", "demo"], "--text: the variable 'x' is missing"),
        (["-t", "-", "--var-file", "y=-", "-p", "demo"], "can be read once"),
        (["-t", "x", "--env-file", "no.env"], "no.env: cannot be read: No such file or directory"),
    ],
)
def test_bad_input_of_prompt(arguments: list[str], reported: str) -> None:
    done = streamcore("prompt", *arguments, stdin="")
    assert (done.returncode, done.stdout) == (2, "")
    assert reported in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["prompt", "record", "run", "providers"])
def test_an_env_file_is_read_where_asked(command: str, tmp_path: Path) -> None:
    with Simulator("ok") as simulator:
        lines = [f"export {name}={value}" for name, value in simulator.environment.items()]
        (tmp_path / ".env").write_text("# keys\n" + "\n".join(lines) + "\nSTREAMCORE_PROVIDER='openai'\n", "utf-8")
        arguments = {
            "prompt": [*PROMPT],
            "record": ["record", *PROMPT[1:], "-o", str(tmp_path / "r.yaml")],
            "run": ["run", "graphs/router.yaml", "--var", "message=x", "--node", "answer_other"],
            "providers": ["providers", "--json"],
        }[command]
        done = streamcore(*arguments, "--env-file", str(tmp_path / ".env"))
        assert done.returncode == 0, done.stderr
        assert done.stdout == "ok\n" or '"provider": "openai", "installed": true, "key": true' in done.stdout
        assert streamcore(*arguments).returncode == 2 or command == "providers"


def test_a_fallback_names_its_provider(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("user: x\nprovider: openai\nfallback: [mistral/m-2]\n", "utf-8")
    with Simulator("ok") as simulator:
        nobody = "http://127.0.0.1:9/v1"
        done = streamcore("prompt", str(tmp_path / "p.yaml"), simulator=simulator, OPENAI_BASE_URL=nobody)
    assert done.stdout == "ok\n"
    lines = done.stderr.splitlines()
    assert "(trying again in " in lines[0]
    assert lines[-1].startswith("(asking the fallback provider 'mistral' with model 'm-2' after ")


def test_providers_in_40_columns() -> None:
    done = streamcore("providers", COLUMNS="40")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[:4] == ["anthropic", "  SDK installed, key missing", lines[2], "  set ANTHROPIC_API_KEY"]


@pytest.mark.long
def test_variables_from_files_and_the_input(tmp_path: Path) -> None:
    long = "word " * 40_000  # more than an argument can contain
    (tmp_path / "vars.yaml").write_text("name: Ada\nstyle: formal\n", "utf-8")
    (tmp_path / "long.txt").write_text(long, "utf-8")
    with Simulator("ok") as simulator:

        def asked(*arguments: str, stdin: str | None = None) -> str:
            done = streamcore("prompt", "greet", "-p", "openai", *arguments, simulator=simulator, stdin=stdin)
            assert done.returncode == 0, done.stderr
            content: str = simulator.requests[-1].body["messages"][-1]["content"]
            return content

        assert "Greet Ada in a formal" in asked("--vars-file", str(tmp_path / "vars.yaml"))
        assert "Greet Zoe in a formal" in asked("--vars-file", str(tmp_path / "vars.yaml"), "--var", "name=Zoe")
        assert long in asked("--var-file", f"name={tmp_path / 'long.txt'}")
        assert long in asked("--var-file", "name=-", stdin=long)
        assert "Greet Jo in" in asked("--vars-file", "-", stdin='{"name": "Jo"}')


@pytest.mark.parametrize(
    ("arguments", "stdin", "reported"),
    [
        (["--vars-file", "no.yaml"], None, "cannot read 'no.yaml': No such file"),
        (["--vars-file", "-"], "[1]", "must have variables as `name: value`"),
        (["--vars-file", "-"], "name: [", "<standard input>:1:"),
        (["--var-file", "name"], None, "--var-file takes KEY=FILE"),
        (["--var-file", "name=-", "--vars-file", "-"], "", "can be read once"),
    ],
)
def test_bad_variables(arguments: list[str], stdin: str | None, reported: str) -> None:
    done = streamcore("prompt", "greet", "-p", "demo", *arguments, stdin=stdin)
    assert done.returncode == 2
    assert reported in done.stderr
    assert "Traceback" not in done.stderr


def test_providers_table_and_json() -> None:
    with Simulator() as simulator:
        rows = [json.loads(line) for line in streamcore("providers", "--json", simulator=simulator).stdout.splitlines()]
    by_name = {row["provider"]: row for row in rows}
    assert by_name["openai"] == {
        "provider": "openai",
        "installed": True,
        "key": True,
        "model": by_name["openai"]["model"],
        "todo": None,
    }
    assert by_name["groq"]["todo"] == "set GROQ_API_KEY"
    assert by_name["azure"]["todo"] == "set AZURE_API_KEY and AZURE_BASE_URL"
    assert by_name["demo"]["key"] is None
    table = streamcore("providers")
    assert table.returncode == 0
    assert "set ANTHROPIC_API_KEY" in table.stdout
    assert KEY not in table.stdout
    assert "\x1b" not in table.stdout


def test_without_typer_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from streamcore.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 2
    assert 'pip install -e ".[cli]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_help_teaches() -> None:
    for command in ("init", "prompt", "providers", "record", "replay", "simulate"):
        done = streamcore(command, "--help")
        assert done.returncode == 0
        assert f"Example: streamcore {command}" in done.stdout
        assert "\x1b" not in done.stdout


def test_keys_are_never_shown() -> None:
    with Simulator("x") as simulator:
        for arguments in ([*PROMPT, "-p", "openai", "--json"], ["providers"], [*PROMPT, "-p", "anthropic", "--debug"]):
            done = streamcore(*arguments, simulator=simulator)
            assert KEY not in done.stdout + done.stderr
