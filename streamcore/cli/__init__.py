"""Provide the `streamcore` command."""

from __future__ import annotations

import errno
import io
import os
import sys

_FULL = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EDQUOT)


def main() -> None:
    """Run the command; without its libraries, say what to install."""
    sys.path.insert(0, "")  # a provider of one's own, as `module:attribute`, may stand in the current folder
    out: object = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="replace")  # a terminal that cannot show a letter shows a question mark
    try:
        from streamcore.cli.app import start

        start()
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.stderr.write(f"the command line needs {error.name}, which is not installed; run: pip install typer rich\n")
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        output_gone(error.strerror or str(error))
    try:
        sys.stdout.flush()
    except OSError as error:
        output_gone(error.strerror or str(error))


def output_gone(why: str) -> None:
    """Say that the output takes no more, and end; what is left in its buffer goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.stderr.write(f"cannot write the output: {why}\n")
    raise SystemExit(1)
