"""Run the simulator in a process of its own: `python -m streamcore.testing --help`."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress

from streamcore.testing.answers import Answer, plausible, tokens
from streamcore.testing.simulator import Simulator

_WORDS = tokens("The quick brown fox jumps over the lazy dog, again and again. ")


def main() -> None:
    """Serve until interrupted; print the root URL as the first line."""
    parser = argparse.ArgumentParser(prog="python -m streamcore.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--rate", type=float, help="tokens per second and stream; default: as fast as read")
    parser.add_argument("--text", help="what to answer; default: something plausible")
    parser.add_argument("--tokens", type=int, help="answer with this many tokens instead")
    options = parser.parse_args()
    if options.tokens:
        answer = Answer([_WORDS[number % len(_WORDS)] for number in range(options.tokens)])
        simulator = Simulator(answer, rate=options.rate, port=options.port)
    else:
        simulator = Simulator(options.text or plausible, rate=options.rate, port=options.port)

    async def serve() -> None:
        print(await simulator.listen(), flush=True)  # noqa: T201  the caller reads it
        for provider in ("anthropic", "openai", "mistral"):
            print(f"export {provider.upper()}_BASE_URL={simulator.base_url(provider)}", flush=True)  # noqa: T201
        await simulator.serve()

    with suppress(KeyboardInterrupt):
        asyncio.run(serve())


if __name__ == "__main__":
    main()
