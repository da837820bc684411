"""Let the model call a function: the call as it streams, the result, and the second turn.

python examples/tools.py [PROVIDER]      default: demo, which needs no key and no network
"""

from __future__ import annotations

import asyncio
import json
import sys

from streamcore import Message, Request, StreamcoreError, Tool, stream_request

WEATHER = Tool(
    name="weather",
    description="Tell the weather of a city.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The city's name"}},
        "required": ["city"],
    },
)


def weather(city: str) -> str:
    """Answer as a real service would."""
    return json.dumps({"city": city, "sky": "clear", "celsius": 21})


async def main(provider: str) -> None:
    """Ask, run the calls, and send the results back."""
    messages = [Message("user", "What is the weather in Bern?")]

    # First turn: the call arrives in fragments; `position` identifies the call of a fragment.
    stream = stream_request(Request(messages, tools=[WEATHER]), provider=provider)
    async with stream:
        async for chunk in stream:
            if chunk.kind == "tool_call" and chunk.tool_call is not None:
                print(f"call {chunk.tool_call.position} {chunk.tool_call.name}: {chunk.tool_call.arguments!r}")
            elif chunk.kind == "text":
                print(chunk.text, end="", flush=True)
    answer = stream.partial

    # `to_message()` keeps what the vendor needs back, such as signatures of its reasoning.
    messages.append(answer.to_message())
    for call in answer.tool_calls:
        result = weather(**call.parse())
        print(f"-> {call.name}({call.arguments}) = {result}")
        messages.append(Message("tool", result, tool_call_id=call.id))

    # Second turn: the model has the result.
    async for token in stream_request(Request(messages, tools=[WEATHER]), provider=provider).text():
        print(token, end="", flush=True)
    print()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "demo"))
    except StreamcoreError as error:
        sys.exit(f"{type(error).__name__}: {error}")
