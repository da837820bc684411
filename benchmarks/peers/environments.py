"""Install each peer's environment from its pins, once; an environment whose pins have not changed is used again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.contestants import Contestant

_SHOWN = ("openai", "anthropic", "mistralai", "httpx2", "httpx", "aiohttp", "pydantic")


def prepare(contestant: Contestant, environments: Path) -> str | None:
    """Install what a contestant needs; return None, or the reason why that failed."""
    if not contestant.requires:
        return None
    home = environments / contestant.name
    stamp, pins = home / "pins.txt", "\n".join(contestant.requires)
    if stamp.is_file() and stamp.read_text("utf-8") == pins:
        return None
    python = str(contestant.python(environments))
    for command in (
        ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(home)],
        ["pip", "install", "--quiet", "--python", python, *contestant.requires],
    ):
        done = subprocess.run([sys.executable, "-m", "uv", *command], capture_output=True, text=True, check=False)
        if done.returncode:
            return f"uv {command[0]} failed: {done.stderr.strip()[-600:]}"
    stamp.write_text(pins, "utf-8")
    return None


def versions(contestant: Contestant, environments: Path) -> dict[str, str]:
    """Return the versions of the packages that a contestant pins and of those that they use."""
    command = [sys.executable, "-m", "uv", "pip", "list", "--format", "json", "--quiet"]
    done = subprocess.run(
        [*command, "--python", str(contestant.python(environments))], capture_output=True, text=True, check=True
    )
    pinned = {pin.partition("==")[0].partition("[")[0] for pin in contestant.requires}
    return {row["name"]: row["version"] for row in json.loads(done.stdout) if row["name"] in {*pinned, *_SHOWN}}
