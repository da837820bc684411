"""Provide the `streamcore` command."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import NoReturn

_OUTPUT_ERRORS = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EDQUOT)
BROKEN_PIPE = 141
"""The exit code that a shell shows for a program whose reader closed the pipe: 128 and the number of SIGPIPE."""


def main() -> None:
    """Run the command; if its libraries are missing, print which extra to install."""
    sys.path.insert(0, "")  # for providers given as `module:attribute`, whose module may be in the current folder
    out: object = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="replace")  # a terminal that cannot show a letter shows a question mark
    try:
        from streamcore.cli.app import start

        start()
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        from streamcore.errors import install_command

        command = install_command("cli")
        sys.stderr.write(
            f"streamcore: the command line needs the package {error.name!r}, which is not installed; run: {command}\n"
        )
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        if error.errno not in _OUTPUT_ERRORS:
            raise
        output_failed(error)
    try:
        sys.stdout.flush()
    except OSError as error:
        output_failed(error)


def output_failed(error: OSError) -> NoReturn:
    """Exit because the standard output cannot be written to: quietly if its reader closed it, as `head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in its buffer is dropped
    if error.errno == errno.EPIPE:
        raise SystemExit(BROKEN_PIPE)
    sys.stderr.write(f"cannot write the output: {error.strerror or error}\n")
    raise SystemExit(1)
