"""Run the examples as a newcomer would, in separate processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from streamcore.testing import Simulator
from tests.commands import PROVIDERS, ROOT, environment
from tests.support import first_short
from tests.warm_process import warm_process


def example(name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = ROOT / "examples" / name
    return warm_process().run(path, arguments, env=environment(**variables), cwd=ROOT.parent)


def aimed(simulator: Simulator) -> dict[str, str]:
    names = ("anthropic", "openai", "mistral")
    urls = {f"{name.upper()}_BASE_URL": simulator.base_url(name) for name in names}
    return urls | {f"{name.upper()}_API_KEY": "example-key" for name in names}


def test_demo_verify() -> None:
    """A new process runs it, as for a newcomer; the other tests fork one."""
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "demo_streaming.py"), "--verify"]
    env = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env=env, cwd=ROOT.parent, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for provider in PROVIDERS:
        assert f"{provider:18} " in done.stdout
    assert done.stdout.count("identical") == len(PROVIDERS) + 1
    assert "finished, no error" in done.stdout
    assert "StreamInterrupted, kept 'Hello, World!" in done.stdout


def test_demo_names_missing_sdks() -> None:
    code = (
        "import sys, runpy, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name.startswith('mistralai') else find(name, *a)\n"
        "sys.argv = ['demo', '--verify']\n"
        f"runpy.run_path({str(ROOT / 'examples' / 'demo_streaming.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'mistral            skipped: its SDK is not installed (pip install -e ".[mistral]")' in done.stdout
    assert done.stdout.count("identical") == 4


def test_demo_without_key_says_which_variables() -> None:
    done = example("demo_streaming.py")
    assert done.returncode == 2
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "MISTRAL_API_KEY"):
        assert name in done.stdout


def test_demo_real_vendor_by_key() -> None:
    with Simulator("Hello from the vendor.") as simulator:
        done = example("demo_streaming.py", **aimed(simulator))
    assert done.returncode == 0, done.stderr
    assert "Hello from the vendor." in done.stdout


@pytest.mark.parametrize("provider", ["demo", *first_short(PROVIDERS)])
def test_collect(provider: str) -> None:
    with Simulator("Good morning, Ada.") as simulator:
        done = example("collect.py", provider, **aimed(simulator))
    assert done.returncode == 0, done.stderr
    assert "finish: stop" in done.stdout
    assert ("Good morning, Ada." in done.stdout) == (provider != "demo")


def test_swap_provider() -> None:
    with Simulator("Good morning, Ada.") as simulator:
        done = example("swap_provider.py", **aimed(simulator))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Good morning, Ada.") == len(PROVIDERS)
    for provider in ["demo", *PROVIDERS]:
        assert f"--- provider: {provider}\n" in done.stdout


@pytest.mark.parametrize("provider", ["demo", *first_short(PROVIDERS)])
def test_tools(provider: str) -> None:
    with Simulator() as simulator:
        done = example("tools.py", provider, **aimed(simulator))
        assert len(simulator.requests) == (0 if provider == "demo" else 2)
    assert done.returncode == 0, done.stderr
    assert "call 0 weather: " in done.stdout
    assert "-> weather(" in done.stdout
    assert 'The tool says: {"city": ' in done.stdout


@pytest.mark.long
def test_openai_client() -> None:
    done = example("openai_client.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "What is streaming good for?" in done.stdout
    assert done.stdout.rstrip().endswith("with nothing lost.")
