"""Stream a prompt to the terminal: python main.py [NAME]."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from streamcore import StreamcoreError, execute_prompt_streaming

PROMPTS = Path(__file__).resolve().parent / "prompts"


async def main(name: str) -> None:
    """Print each token as it comes. The vendor is named in prompts/greet.yaml."""
    async for token in execute_prompt_streaming("greet", {"name": name}, prompts_dir=PROMPTS):
        print(token, end="", flush=True)
    print()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "World"))
    except StreamcoreError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
