"""Limit what `import streamcore` may load, and its cost to about that of httpx2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FORBIDDEN = (
    "anthropic",
    "openai",
    "mistralai",
    "google.genai",
    "pydantic",
    "yaml",
    "jinja2",
    "fastapi",
    "starlette",
    "typer",
    "rich",
    "pytest",
    "respx",
    "hypothesis",
    "redis",
    "nats",
    "psycopg",
    "mcp",
    "sqlite3",
    "opentelemetry",
    "streamcore.observe",
    "streamcore.telemetry",
    "streamcore.testing",
)


NOT_FOR_A_PROMPT = (
    "difflib",
    "html",
    "jinja2",
    "jsonschema",
    "regex",
    "streamcore.checkpoints",
    "streamcore.graph",
    "streamcore.pipeline.smooth",
    "streamcore.pricing",
    "streamcore.structured.json_schema",
    "streamcore.structured.json_text",
    "streamcore.tools",
    "streamcore.token_count",
)
ASKING = """
import asyncio, sys
import streamcore
from streamcore import Chunk, Message, Request

class Own:
    name = "own"

    async def stream(self, request):
        yield [Chunk("text", "hello")]
        yield [Chunk("finish", finish_reason="stop")]

    async def aclose(self): ...

async def ask():
    stream = {call}
    return [text async for text in stream]

assert asyncio.run(ask()) == ["hello"]
streamcore.get_provider("openai", api_key="k")
print("\\n".join(sys.modules))
"""


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_loads_nothing_heavy() -> None:
    loaded = run("import streamcore, sys; print('\\n'.join(sys.modules))").split()
    assert "streamcore.execute" in loaded
    assert not [name for name in FORBIDDEN if name in loaded]


def test_a_request_loads_nothing_that_it_does_not_need() -> None:
    call = 'streamcore.stream_request(Request([Message("user", "hi")]), provider=Own()).text()'
    loaded = run(ASKING.replace("{call}", call)).split()
    assert "streamcore_openai.chat" in loaded
    unneeded = (*NOT_FOR_A_PROMPT, "openai", "pydantic", "yaml", "streamcore.prompts", "streamcore_openai.responses")
    assert not [name for name in unneeded if name in loaded]


def test_a_plain_prompt_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    (tmp_path / "greet.yaml").write_text("user: Say hello to {name}.\n", "utf-8")
    given = f"'greet', {{'name': 'Ada'}}, provider=Own(), prompts_dir={str(tmp_path)!r}"
    call = f"streamcore.execute_prompt_streaming({given})"
    loaded = run(ASKING.replace("{call}", call)).split()
    assert "streamcore.prompts.prompt_file" in loaded
    assert not [name for name in (*NOT_FOR_A_PROMPT, "openai") if name in loaded]


def test_a_plain_prompt_builds_no_validators(tmp_path: Path) -> None:
    (tmp_path / "greet.yaml").write_text("system: Be kind.\nuser: Say hello to {name}.\n", "utf-8")
    code = f"""
from streamcore.files.yaml_model import FileModel
from streamcore.prompts.prompt_file import load_prompt
prompt = load_prompt("greet", prompts_dir={str(tmp_path)!r})
assert [message.text for message in prompt.render({{"name": "Ada"}}, {{}})] == ["Be kind.", "Say hello to Ada."]
print([kind.__name__ for kind in FileModel.__subclasses__() if kind.__pydantic_complete__])
"""
    assert run(code) == "[]\n"


def test_import_loads_few_modules() -> None:
    """Modules are counted rather than timed: the figure does not depend on how busy the machine is."""
    count = "import sys; before = set(sys.modules); import {0}; print(len(set(sys.modules) - before))"
    assert int(run(count.format("streamcore"))) < 2.5 * int(run(count.format("httpx2")))


def test_public_names_exist() -> None:
    assert run("import streamcore; print(all(hasattr(streamcore, name) for name in streamcore.__all__))") == "True\n"
    assert run("import streamcore; print(set(streamcore.__all__) - set(dir(streamcore)))") == "set()\n"
    assert run("import streamcore_openai as one; print(all(hasattr(one, name) for name in one.__all__))") == "True\n"
