"""Run the tests of the sample service and agent, in place and copied into another project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SAMPLE = EXAMPLES / "service_under_test"


@pytest.mark.long
@pytest.mark.parametrize("copied", [False, True], ids=["in place", "copied"])
@pytest.mark.parametrize(("sample", "passed"), [("service_under_test", 7), ("agent", 4)])
def test_the_sample_is_tested_without_a_network(tmp_path: Path, sample: str, passed: int, copied: bool) -> None:
    folder = EXAMPLES / sample
    if copied:
        folder = tmp_path / "their_service"
        shutil.copytree(EXAMPLES / sample, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\naddopts = -p no:asyncio\n", "utf-8")
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "SSL_CERT_FILE") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(folder)],
        cwd=folder.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    assert f"{passed} passed" in done.stdout


def test_the_service_is_about_40_lines() -> None:
    assert len((SAMPLE / "app.py").read_text("utf-8").splitlines()) <= 45
