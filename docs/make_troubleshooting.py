"""Cause the errors that troubleshooting.md shows, and write their messages into it.

    python docs/make_troubleshooting.py            rewrite the page
    python docs/make_troubleshooting.py --check    exit 1 if the page is out of date

A block to write follows a line `<!-- shown: name -->`, where `name` is a key of `CASES`. No network: what a vendor
answers is its documented error body, given to its real SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx2

from streamcore import StreamcoreError, aclose_providers, execute_prompt_streaming, get_provider
from streamcore.testing import FaultServer, Send
from streamcore.testing.faults.steps import Step

PAGE = Path(__file__).with_name("troubleshooting.md")
BLOCK = re.compile(r"(<!-- shown: ([\w-]+) -->\n```text\n).*?(^```$)", re.MULTILINE | re.DOTALL)

FILES = {
    "greet": "system: You are brief.\n\nuser: |\n  Greet {name}.\n  Style: {style}.\n",
    "greet-jinja": 'user: |\n  Greet {{ name }}\n  in a {{ style | default("friendly") }} style.\n',
    "quotes": 'system: "You are brief.\nuser: Greet {name}.\n',
    "colon": "system: You are brief.\nuser: Greet this guest: {name}, in style: {style}\n",
    "brace": "user: {name} is here. Say hello.\n",
    "keys": "user: Greet {name}.\ntemprature: 0.3\nmax_tokens: lots\n",
    "schema": "user: Rate {name}.\nschema:\n  name: Rating\n  fields:\n    stars:\n      type: integer\n",
    "bomb": "user: |\n  Greet {{ name }}.\n  {{ '-' * 10**9 }}\n",
    "chat": "user: '{query}'\n",
}


def ask(prompt: str, variables: dict[str, Any] | None = None, **arguments: Any) -> str:
    """Stream a prompt, and return the error as the command line shows it."""
    arguments.setdefault("provider", "demo")

    async def stream() -> None:
        try:
            async for _ in execute_prompt_streaming(prompt, variables, **arguments):
                pass
        finally:
            await aclose_providers()

    try:
        asyncio.run(stream())
    except StreamcoreError as error:
        return f"{type(error).__name__}: {error}"
    raise SystemExit(f"prompt {prompt!r} with {arguments} raised no error")


def answered(provider: str, status: int, body: object, headers: dict[str, str], **settings: Any) -> str:
    """Return the error that a vendor's answer becomes."""

    async def respond(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, json=body, headers=headers)

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(respond))
    settings.setdefault("api_key", "a-key")
    return ask("chat", {"query": "Hi"}, provider=get_provider(provider, http_client=client, **settings))


def openai_error(status: int, code: str, message: str, **settings: Any) -> str:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return answered("openai", status, body, {"x-request-id": "req_example"}, **settings)


def anthropic_error(status: int, kind: str, message: str, **settings: Any) -> str:
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_example"}
    return answered("anthropic", status, body, {"request-id": "req_example"}, **settings)


def mistral_error(status: int, body: dict[str, Any], **settings: Any) -> str:
    return answered("mistral", status, body, {"mistral-correlation-id": "example"}, **settings)


def without_sdk(provider: str) -> str:
    """Return the error where the SDKs cannot be imported, in a Python of its own."""
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('anthropic', 'openai', 'mistralai')))\n"  # None: as if not installed
        "from streamcore import StreamcoreError, get_provider\n"
        "try:\n"
        "    get_provider(sys.argv[1], api_key='a-key')\n"
        "except StreamcoreError as error:\n"
        "    print(f'{type(error).__name__}: {error}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, provider], check=True, capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip()


def broken(fault: str | list[Step], **arguments: Any) -> str:
    """Return the error that a server with a fault causes."""
    with FaultServer(fault) as server:
        provider = get_provider("openai", api_key="a-key", base_url=server.url + "/v1")
        return ask("chat", {"query": "Hi"}, provider=provider, max_retries=0, **arguments)


def unreachable(base_url: str) -> str:
    """Return the error of a vendor to which there is no connection."""
    provider = get_provider("openai", api_key="a-key", base_url=base_url, transport="aiohttp")
    return ask("chat", {"query": "Hi"}, provider=provider, max_retries=0)


WRONG_KEY = "sk-wrong-key"
SIGN_IN = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 22\r\n\r\n<title>Sign in</title>"

CASES: dict[str, Callable[[], list[str]]] = {
    "missing-variable": lambda: [ask("greet", {"name": "Ada", "stile": "formal"}), ask("greet-jinja")],
    "no-prompt": lambda: [ask("gret"), ask("recap/greet", prompts_dir="mine")],
    "bad-name": lambda: [ask("../greet")],
    "yaml-syntax": lambda: [ask("quotes"), ask("colon"), ask("brace")],
    "unknown-key": lambda: [ask("keys"), ask("schema")],
    "sandbox": lambda: [ask("bomb", {"name": "Ada"})],
    "unknown-provider": lambda: [ask("chat", {"query": "Hi"}, provider="antropic")],
    "no-provider": lambda: [ask("chat", {"query": "Hi"}, provider=None)],
    "wrong-key": lambda: [
        anthropic_error(401, "authentication_error", "invalid x-api-key", api_key=WRONG_KEY),
        openai_error(401, "invalid_api_key", f"Incorrect API key provided: {WRONG_KEY}.", api_key=WRONG_KEY),
        mistral_error(401, {"detail": "Unauthorized"}, api_key=WRONG_KEY),
    ],
    "rate-limit": lambda: [broken("rate-limited"), broken("overloaded")],
    "no-connection": lambda: [unreachable("http://127.0.0.1:9/v1")],
    "cut": lambda: [broken("end-without-mark")],
    "timeout": lambda: [broken("stall", timeouts={"stall": 0.5}), broken("mute", timeouts={"first_token": 0.5})],
    "malformed": lambda: [broken([Send(SIGN_IN)])],
    "unknown-model": lambda: [
        anthropic_error(404, "not_found_error", "model: claude-9", model="claude-9"),
        openai_error(
            404,
            "model_not_found",
            "The model `gpt-99` does not exist or you do not have access to it.",
            model="gpt-99",
        ),
    ],
    "no-key": lambda: [
        ask("chat", {"query": "Hi"}, provider=name) for name in ("anthropic", "openai", "mistral", "groq")
    ],
    "no-sdk": lambda: [without_sdk(name) for name in ("anthropic", "openai", "mistral", "groq")],
}


@contextlib.contextmanager
def newcomer() -> Generator[None]:
    """Change to a new folder with some prompts, in an environment that sets nothing."""
    settings = re.compile(r"(?:STREAMCORE|ANTHROPIC|OPENAI|MISTRAL|GROQ)_\w+|PROVIDER|XDG_CONFIG_HOME")
    kept = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name in filter(settings.fullmatch, kept):
            del os.environ[name]
        os.environ["HOME"] = folder  # the SDKs look for credentials there, too
        Path("prompts").mkdir()
        for name, text in FILES.items():
            Path("prompts", f"{name}.yaml").write_text(text, "utf-8")
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(kept)


def main(arguments: list[str]) -> int:
    """Rewrite the page, or with `--check` compare it."""
    text = PAGE.read_text("utf-8")
    missing = CASES.keys() ^ set(re.findall(r"<!-- shown: ([\w-]+) -->", text))
    if missing:
        sys.stderr.write(f"{PAGE.name} and CASES differ in: {', '.join(sorted(missing))}\n")
        return 1
    with newcomer():
        shown = {name: "\n".join(case()) + "\n" for name, case in CASES.items()}
    new = BLOCK.sub(lambda block: block[1] + shown[block[2]] + block[3], text)
    if "--check" not in arguments:
        PAGE.write_text(new, "utf-8")
    elif new != text:
        differ = [name for name in shown if shown[name] not in text]
        sys.stderr.write(f"{PAGE.name} is out of date: {', '.join(differ)}; run python docs/{Path(__file__).name}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
