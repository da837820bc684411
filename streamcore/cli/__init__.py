"""Provide the `streamcore` command."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run the command; without its libraries, say what to install."""
    sys.path.insert(0, "")  # a provider of one's own, as `module:attribute`, may stand in the current folder
    out: object = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="replace")  # a terminal that cannot show a letter shows a question mark
    try:
        from streamcore.cli.app import app

        app()
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.stderr.write(f"the command line needs {error.name}, which is not installed; run: pip install typer rich\n")
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
