"""Talk to a prompt through the endpoints with OpenAI's SDK: `python examples/openai_client.py [MODEL]`.

It serves the prompt `chat` with the offline provider `demo` in a thread, so that it needs no key. Set OPENAI_BASE_URL
to the `/v1` of a service to use that one instead.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import openai
import uvicorn

from streamcore.web import create_app

PROMPTS = Path(__file__).resolve().parent.parent / "prompts"


@contextmanager
def service() -> Generator[str]:
    """Serve the prompt, and yield the base URL for clients."""
    if "OPENAI_BASE_URL" in os.environ:
        yield os.environ["OPENAI_BASE_URL"]
        return
    app = create_app("chat", provider="demo", prompts_dir=PROMPTS)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def main() -> None:
    """Print an answer while it streams."""
    model = sys.argv[1] if len(sys.argv) > 1 else "chat"
    with service() as url, openai.OpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "any")) as client:
        stream = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "What is streaming good for?"}], stream=True
        )
        for event in stream:
            print(event.choices[0].delta.content or "", end="", flush=True)
        print()


if __name__ == "__main__":
    main()
