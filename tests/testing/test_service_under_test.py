"""Run the sample service's tests as they are, and copied into a separate project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "service_under_test"


@pytest.mark.parametrize("copied", [False, True], ids=["in place", "copied"])
def test_the_sample_is_tested_without_a_network(tmp_path: Path, copied: bool) -> None:
    folder = SAMPLE
    if copied:
        folder = tmp_path / "their_service"
        shutil.copytree(SAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\naddopts = -p no:asyncio\n", "utf-8")
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "SSL_CERT_FILE") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(folder)],
        cwd=folder.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    assert "7 passed" in done.stdout


def test_the_service_is_about_40_lines() -> None:
    assert len((SAMPLE / "app.py").read_text("utf-8").splitlines()) <= 45
