"""Provide the `streamcore` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; without its libraries, say what to install."""
    try:
        from streamcore.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.stderr.write(f"the command line needs {error.name}, which is not installed; run: pip install typer rich\n")
        raise SystemExit(2) from error
    app()
