"""Write what docs/cli.md shows: run the commands of its transcripts, and ask every command for its help.

python docs/make_cli.py            rewrites the page
python docs/make_cli.py --check    exits 1 if it is out of date

Times differ from run to run; the page shows `…` for them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from pathlib import Path

from streamcore.cli.app import COMMANDS
from streamcore.testing import Answer, FaultServer, PlannedCall, Simulator
from streamcore.testing.faults.steps import Hold, Send
from streamcore.testing.simulator.frames import frames

PAGE = Path(__file__).with_name("cli.md")
BLOCK = re.compile(r"(<!-- shown: ([\w-]+) -->\n```text\n).*?(^```$)", re.MULTILINE | re.DOTALL)
REFERENCE = re.compile(r"(<!-- reference -->\n).*(<!-- end of reference -->)", re.DOTALL)
SETTINGS = re.compile(r"(?:STREAMCORE|ANTHROPIC|OPENAI|MISTRAL|GROQ)_\w+|PROVIDER|COLUMNS|TERM|LINES")
WEATHER = '''
def weather(city: str) -> str:
    """Tell the weather of today."""
    return f"Sunny in {city}, 21 degrees."
'''
PROGRAM = [sys.executable, "-m", "streamcore.cli"]


def environment(simulator: Simulator | None = None) -> dict[str, str]:
    """Return an environment without settings, or with those of the simulator."""
    kept = {name: value for name, value in os.environ.items() if not SETTINGS.fullmatch(name)}
    more = simulator.environment if simulator is not None else {}
    return {**kept, **more, "COLUMNS": "80", "TYPER_USE_RICH": "0", "HOME": str(Path.cwd())}


def run(line: str, env: dict[str, str]) -> str:
    """Return a line as it is typed, and everything that it prints."""
    functions = f'streamcore() {{ {shlex.join(PROGRAM)} "$@"; }}; python() {{ {shlex.quote(sys.executable)} "$@"; }};'
    done = subprocess.run(  # noqa: S602  our own lines
        f"{functions} {line}",
        shell=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        check=False,
    )
    code = f"[exit code {done.returncode}]\n" if done.returncode else ""
    return f"$ {line}\n{done.stdout}{code}"


def session(*lines: str, simulator: Simulator | None = None) -> str:
    """Return a transcript of several lines."""
    return "".join(run(line, environment(simulator)) for line in lines)


def first_steps() -> str:
    """Start a project and run it."""
    return session("streamcore init", "python main.py Ada", "streamcore prompt greet --var name=Ada --stats")


def for_scripts() -> str:
    """Show lines of JSON, variables from files, and an error."""
    Path("notes.txt").write_text("the whole crew\n", "utf-8")
    return session(
        "streamcore prompt greet --var name=Ada --json | head -n 3",
        "cat notes.txt | streamcore prompt greet --var-file name=- | head -n 1",
        "streamcore prompt gret --var name=Ada",
    )


def texts() -> str:
    """Send a text without a file, with a model, and with a pipe."""
    Path("notes.txt").write_text("Buy milk.\n", "utf-8")
    return session(
        "streamcore prompt --text 'Tell me a joke' --model demo/small | head -n 1",
        "cat notes.txt | streamcore prompt -t 'Summarize: {notes}' --var-file notes=- -p demo | head -n 1",
    )


def tools() -> str:
    """Run a tool of a prompt file."""
    Path("prompts").mkdir(exist_ok=True)
    Path("prompts/weather.py").write_text(WEATHER, "utf-8")
    Path("prompts/outfit.yaml").write_text(
        'user: "What should I wear in {city}?"\ntools:\n  - python: weather.py:weather\n', "utf-8"
    )
    with Simulator([Answer(calls=[PlannedCall("weather", {"city": "Bonn"})]), "A shirt will do."]) as simulator:
        return session(
            "cat prompts/outfit.yaml", "streamcore prompt outfit --var city=Bonn -p openai", simulator=simulator
        )


def recordings() -> str:
    """Record, replay, and replay a failure."""
    with Simulator("Hello, Ada! How nice to see you.", rate=100) as simulator:
        return session(
            "streamcore record greet --var name=Ada --provider mistral -o greet.yaml",
            "streamcore replay greet.yaml --stats",
            simulator=simulator,
        )


def simulator_at_work() -> str:
    """Start the simulator, send a request, stop it."""
    line = "streamcore simulate --text 'Hi, Ada!' --rate 50 --port 8000"
    command = [*PROGRAM, *shlex.split(line)[1:-1], str(free_port())]  # port 8000 may be in use here
    with Simulator() as simulator:
        lines = 1 + len(simulator.environment)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101
        shown = [process.stdout.readline() for _ in range(lines)]
        settings = dict(one.removeprefix("export ").strip().split("=") for one in shown[1:])
        asked = run("streamcore prompt greet --var name=Ada --provider anthropic", {**environment(), **settings})
        process.send_signal(signal.SIGINT)
        shown += ["^C\n", *process.stdout]
    return f"$ {line}\n{''.join(shown)}\n(meanwhile, in another terminal, with these lines typed in)\n{asked}"


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def interrupted() -> str:
    """Press Ctrl-C while the stream is stalled."""
    pieces = [data for data, _ in frames("openai-chat", Answer(["Hello", ", ", "Ada"], cut=2))]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    begun = head + b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in pieces)
    line = "streamcore prompt greet --var name=Ada --provider openai"
    with FaultServer([Send(begun), Hold()]) as server:
        env = environment() | {"OPENAI_BASE_URL": server.url + "/v1", "OPENAI_API_KEY": "a-key"}
        command = [*PROGRAM, *shlex.split(line)[1:]]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env) as process:  # noqa: S603
            assert process.stdout is not None  # noqa: S101
            shown = process.stdout.read(len(b"Hello, "))
            threading.Timer(0.1, process.send_signal, [signal.SIGINT]).start()
            shown += b"^C" + process.stdout.read()
        return f"$ {line}\n{shown.decode()}[exit code {process.returncode}]\n"


CASES: dict[str, Callable[[], str]] = {
    "first-steps": first_steps,
    "for-scripts": for_scripts,
    "texts": texts,
    "tools": tools,
    "interrupted": interrupted,
    "recordings": recordings,
    "simulate": simulator_at_work,
}


def steady(shown: str) -> str:
    """Replace what differs from run to run."""
    shown = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8000", shown)
    shown = re.sub(r"\d[\d.]* (ms|tokens/s)", r"… \1", shown)
    shown = re.sub(r"recorded \d+ reads", "recorded … reads", shown)
    return re.sub(r'"created": \d+', '"created": …', shown)


def reference() -> str:
    """Return every command's help."""
    parts = ["\n"]
    for command in COMMANDS:
        name = command.__name__.rstrip("_")
        shown = run(f"streamcore {name} --help", environment()).partition("\n")[2]
        text = "\n".join(line.rstrip() for line in shown.strip().splitlines())
        parts.append(f"### {name}\n\n```text\n{text}\n```\n\n")
    return "".join(parts)


@contextlib.contextmanager
def newcomer() -> Generator[None]:
    """Change to a new folder."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield


def main(arguments: list[str]) -> int:
    """Rewrite the page, or with `--check` compare it."""
    text = PAGE.read_text("utf-8")
    missing = CASES.keys() ^ set(re.findall(r"<!-- shown: ([\w-]+) -->", text))
    if missing:
        sys.stderr.write(f"{PAGE.name} and CASES differ in: {', '.join(sorted(missing))}\n")
        return 1
    with newcomer():
        shown = {name: steady(case()) for name, case in CASES.items()}
        commands = reference()
    new = BLOCK.sub(lambda block: block[1] + shown[block[2]] + block[3], text)
    new = REFERENCE.sub(lambda block: block[1] + commands + block[2], new)
    if "--check" not in arguments:
        PAGE.write_text(new, "utf-8")
    elif new != text:
        differ = [name for name in shown if shown[name] not in text]
        differ += [] if commands in text else ["reference"]
        sys.stderr.write(f"{PAGE.name} is out of date: {', '.join(differ)}; run python docs/{Path(__file__).name}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
