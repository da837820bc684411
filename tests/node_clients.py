"""Run scripts of tests/node under Node.js, with the npm packages that `make node` installs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("node")
PACKAGES = FOLDER / "node_modules"
NODE = PACKAGES / ".bin" / "node"
ESBUILD = PACKAGES / ".bin" / "esbuild"
SECONDS = 120.0
"""Seconds after which a script is given up; long, since the machine may be busy."""


class NodeClients:
    """Node.js 22 with real JavaScript clients; the fixture `node` makes one."""

    def run(self, script: str | Path, *arguments: Any) -> Any:
        """Run a script of tests/node, and return the JSON that it prints.

        Args:
            script: its name in tests/node, or a path.
            arguments: written to its standard input, as a JSON array.
        """
        done = subprocess.run(
            [NODE, FOLDER / script],
            input=json.dumps(arguments).encode(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
            cwd=FOLDER,
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def result(self, process: subprocess.Popen[bytes]) -> Any:
        """Wait for the end of a script that was started, and return the JSON that it prints."""
        out, error = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, error.decode()
        return json.loads(out)

    def start(self, script: str | Path, *arguments: Any) -> subprocess.Popen[bytes]:
        """Start a script like `run`, without waiting for its end."""
        process = subprocess.Popen(
            [NODE, FOLDER / script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=FOLDER
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(arguments).encode())
        process.stdin.close()
        process.stdin = None
        return process

    def bundle(self, script: str | Path, *options: str) -> str:
        """Return a script of tests/node with the packages that it imports, as one file for a browser."""
        done = subprocess.run(
            [ESBUILD, FOLDER / script, "--bundle", "--log-level=error", *options],
            capture_output=True,
            timeout=SECONDS,
            check=False,
            cwd=FOLDER,
            env={**os.environ, "NODE_PATH": str(PACKAGES)},  # for scripts of other folders
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()
