"""Collect a whole answer, with its usage and how it ended; keep what arrived if it breaks.

python examples/collect.py [PROVIDER]      default: demo, which needs no key and no network
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from streamcore import StreamcoreError, stream_prompt

PROMPTS = Path(__file__).resolve().parent.parent / "prompts"


async def main(provider: str) -> None:
    """Print the answer, its model, its usage and how it ended."""
    stream = stream_prompt("greet", {"name": "Ada"}, provider=provider, prompts_dir=PROMPTS)
    try:
        answer = await stream.collect()
    except StreamcoreError as error:
        kept = error.partial.text if error.partial else ""
        print(f"{type(error).__name__}: {error}\nreceived before: {kept!r}")
        raise SystemExit(1) from error
    print(answer.text)
    print(f"\nmodel: {answer.model}, finish: {answer.finish_reason}, usage: {answer.usage}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "demo"))
