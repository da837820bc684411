"""Swap vendors by one key of YAML: the prompt stays, `provider:` changes.

python examples/swap_provider.py                          demo, then every provider whose key is set
python examples/swap_provider.py anthropic mistral        these
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from streamcore import StreamcoreError, execute_prompt_streaming
from streamcore.provider import vendor

PROMPT = """\
provider: {provider}
system: You are brief.
user: |
  Greet {{name}} in one sentence.
"""
VENDORS = ("anthropic", "openai", "openai-responses", "mistral")


def ready() -> list[str]:
    """Return the providers that can be used right now."""
    found = [
        name for name in VENDORS if (known := vendor(name)) and known.installed and known.from_environment("API_KEY")
    ]
    return ["demo", *found]


async def main(providers: list[str]) -> int:
    """Stream the same prompt from each provider; return how many failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for provider in providers:
            (Path(folder) / "greet.yaml").write_text(PROMPT.format(provider=provider), encoding="utf-8")
            print(f"--- provider: {provider}")
            try:
                async for token in execute_prompt_streaming("greet", {"name": "Ada"}, prompts_dir=folder):
                    print(token, end="", flush=True)
                print()
            except StreamcoreError as error:
                failed += 1
                print(f"{type(error).__name__}: {error}")
    return failed


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:] or ready())))
