"""Run the examples as a newcomer would, in separate processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamcore.testing import Simulator
from tests.support import first_short

ROOT = Path(__file__).resolve().parent.parent
PROVIDERS = ["anthropic", "openai", "openai-responses", "mistral"]


def example(name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    hidden = ("_API_KEY", "_BASE_URL", "_MODEL", "PROVIDER")
    environment = {key: value for key, value in os.environ.items() if not key.endswith(hidden)}
    return subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name), *arguments],
        capture_output=True,
        text=True,
        timeout=250,
        env={**environment, **variables},
        cwd=ROOT.parent,
        check=False,
    )


def aimed(simulator: Simulator) -> dict[str, str]:
    names = ("anthropic", "openai", "mistral")
    urls = {f"{name.upper()}_BASE_URL": simulator.base_url(name) for name in names}
    return urls | {f"{name.upper()}_API_KEY": "example-key" for name in names}


def test_demo_verify() -> None:
    done = example("demo_streaming.py", "--verify")
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
