"""Stream one prompt through every vendor's SDK.

    python examples/demo_streaming.py --verify     offline: real SDKs, real HTTP, a simulator on loopback
    python examples/demo_streaming.py              a real vendor, whose key is in the environment

With `--verify` the same prompt is streamed through each installed SDK; only the provider's name changes. Then a stream
is cut in the middle: the SDK reports it as finished, streamcore raises StreamInterrupted and keeps the text. The exit
code is 1 if the texts differ or the cut is not noticed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from streamcore import StreamcoreError, StreamInterrupted, get_provider, stream_prompt
from streamcore.provider import provider_names, vendor
from streamcore.testing import Answer, Simulator, Stopwatch

PROMPTS = Path(__file__).resolve().parent.parent / "prompts"
PROVIDERS = ("anthropic", "openai", "openai-responses", "mistral")
VARIABLES = {"name": "World", "style": "cheerful"}
TEXT = "Hello, World! ☀️ What a fine day to be greeted, token by token, with nothing lost.\n  Grüße, 你好, 👋🏽!"
RATE = 60
CUT = 7


def installed(provider: str) -> bool:
    """Return whether a provider's SDK is installed; print its name if not."""
    known = vendor(provider)
    if known is None or known.installed:
        return True
    print(f"{provider:18} skipped: its SDK is not installed (pip install {known.install})")
    return False


async def stream_one(provider: str, base_url: str | None, model: str | None = None) -> tuple[str, Stopwatch]:
    """Stream the prompt to the terminal and return its text and times."""
    chosen = get_provider(provider, base_url=base_url, api_key="simulated" if base_url else None)
    watch = Stopwatch()
    print(f"{provider:18} ", end="", flush=True)
    async with stream_prompt("greet", VARIABLES, provider=chosen, model=model, prompts_dir=PROMPTS) as stream:
        async for chunk in stream:
            watch.see(chunk)
            print(chunk.text.replace("\n", "\n" + " " * 19), end="", flush=True)
    print()
    return stream.partial.text, watch


async def warm_up(provider: str, simulator: Simulator) -> None:
    """Import the SDK and build its client, so that only streaming is timed."""
    rate, simulator.rate = simulator.rate, None
    chosen = get_provider(provider, base_url=simulator.base_url(provider), api_key="simulated")
    await stream_prompt("greet", VARIABLES, provider=chosen, prompts_dir=PROMPTS).collect()
    simulator.rate = rate


async def sdk_alone(provider: str, base_url: str) -> str:
    """Read the same stream with the vendor's SDK only, as its documentation shows."""
    messages: Any = [{"role": "user", "content": "Say hello."}]
    texts: list[str] = []
    if provider == "anthropic":
        from anthropic import AsyncAnthropic

        async with (
            AsyncAnthropic(api_key="simulated", base_url=base_url) as claude,
            claude.messages.stream(model="m", max_tokens=99, messages=messages) as events,
        ):
            texts = [text async for text in events.text_stream]
    elif provider == "mistral":
        from mistralai.client import Mistral

        async with Mistral(api_key="simulated", server_url=base_url) as mistral:
            async for event in await mistral.chat.stream_async(model="m", messages=messages):
                texts += [str(choice.delta.content or "") for choice in event.data.choices]
    else:
        from openai import AsyncOpenAI

        async with AsyncOpenAI(api_key="simulated", base_url=base_url) as openai:
            async for part in await openai.chat.completions.create(model="m", messages=messages, stream=True):
                texts += [choice.delta.content or "" for choice in part.choices]
    return "".join(texts)


async def cut_stream(provider: str, simulator: Simulator) -> bool:
    """Show a cut stream through the SDK and through streamcore; return whether streamcore raised and kept the text."""
    expected = "".join(Answer.of(TEXT).tokens[:CUT])
    print(f"\nThe same answer, cut after {CUT} tokens ({provider}):")
    text = await sdk_alone(provider, simulator.base_url(provider))
    print(f"  the SDK alone   finished, no error: {text!r}")
    chosen = get_provider(provider, base_url=simulator.base_url(provider), api_key="simulated")
    try:
        await stream_prompt("greet", VARIABLES, provider=chosen, prompts_dir=PROMPTS).collect()
    except StreamInterrupted as error:
        kept = error.partial.text if error.partial else ""
        print(f"  streamcore      StreamInterrupted, kept {kept!r}")
        return kept == text == expected
    print("  streamcore      finished: the cut was not noticed")
    return False


async def verify() -> bool:
    """Stream through every installed SDK from the simulator, then show a cut; return whether both worked."""
    present = [provider for provider in PROVIDERS if installed(provider)]
    if not present:
        print('no vendor\'s SDK is installed; run: pip install -e ".[anthropic,openai,mistral]"')
        return False
    rows: list[tuple[str, Stopwatch, bool]] = []
    with Simulator(TEXT, rate=RATE) as simulator:
        print(
            f"Streaming the prompt 'greet' at {RATE} tokens a second; only the provider's name changes:\n", flush=True
        )
        for provider in present:
            await warm_up(provider, simulator)
            text, watch = await stream_one(provider, simulator.base_url(provider))
            rows.append((provider, watch, text == TEXT))
    print(f"\n{'provider':18} {'first token':>12} {'tokens/s':>9}   text")
    for provider, watch, same in rows:
        first = (watch.first_token or 0) * 1000
        print(f"{provider:18} {first:>9.0f} ms {watch.rate or 0:>9.0f}   {'identical' if same else 'DIFFERENT'}")
    with Simulator(Answer(Answer.of(TEXT).tokens, cut=CUT)) as simulator:
        noticed = await cut_stream("openai" if "openai" in present else present[0], simulator)
    good = noticed and all(same for _, _, same in rows)
    print("\nall texts are identical, the cut was noticed" if good else "\nFAILED: see above")
    return good


async def real(provider: str | None, model: str | None) -> int:
    """Stream from a real vendor; return the exit code."""
    chosen = provider or os.environ.get("STREAMCORE_PROVIDER") or os.environ.get("PROVIDER") or with_key()
    if chosen is None:
        print("No vendor's key was found. Set one of these variables and try again:\n")
        for name in PROVIDERS:
            known = vendor(name)
            if known is not None and known.name == known.family:
                print(f"  {known.variable('API_KEY'):20} for {name}")
        print("\nOr see it offline: python examples/demo_streaming.py --verify")
        return 2
    try:
        _, watch = await stream_one(chosen, None, model)
    except StreamcoreError as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"\nfirst token after {(watch.first_token or 0) * 1000:.0f} ms, {watch.rate or 0:.0f} tokens/s")
    return 0


def with_key() -> str | None:
    """Return the first provider that is installed and whose key is in the environment."""
    for name in provider_names():
        known = vendor(name)
        if known is not None and known.needs_key and known.installed and known.from_environment("API_KEY"):
            return name
    return None


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--verify", action="store_true", help="offline, against the simulator")
    parser.add_argument("--provider", help="a real vendor (without --verify)")
    parser.add_argument("--model", help="its model")
    options = parser.parse_args()
    if options.verify:
        sys.exit(0 if asyncio.run(verify()) else 1)
    sys.exit(asyncio.run(real(options.provider, options.model)))


if __name__ == "__main__":
    main()
