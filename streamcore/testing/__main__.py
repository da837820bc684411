"""Run the simulator in a separate process, without the command line's libraries: `python -m streamcore.testing`."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress

from streamcore.testing.simulator.answers import counted
from streamcore.testing.simulator.server import Simulator
from streamcore.testing.simulator.service import serve


def main() -> None:
    """Serve until interrupted; print the root URL as the first line. `streamcore simulate` has more options."""
    parser = argparse.ArgumentParser(prog="python -m streamcore.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--rate", type=float, help="tokens per second and stream; default: as fast as read")
    parser.add_argument("--text", help="what to answer; default: a plausible answer")
    parser.add_argument("--tokens", type=int, help="answer with this many tokens instead")
    options = parser.parse_args()

    def write(text: str) -> None:
        with suppress(BrokenPipeError):  # the process that started it may stop reading after the address
            sys.stdout.write(text)
            sys.stdout.flush()

    answer = counted(options.tokens) if options.tokens else options.text
    serve(Simulator(answer, rate=options.rate, port=options.port), write)


if __name__ == "__main__":
    main()
