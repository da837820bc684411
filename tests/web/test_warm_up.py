"""Test that a service loads the providers of its target before the first request."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

NODES = """
name: two
state: {topic: null}
nodes:
  one: {type: llm, prompt: named, provider: anthropic, fallback: [openai/m]}
edges: [{from: START, to: one}, {from: one, to: END}]
"""
CODE = """
import asyncio, sys
from fastapi import FastAPI
from streamcore.web import create_app, router
target, expected, mounted = sys.argv[1], set(sys.argv[2].split(",")), sys.argv[3] == "router"
sdks = {"anthropic", "openai", "mistralai.client"}
if mounted:
    app = FastAPI()
    app.include_router(router(target), prefix="/bot")
else:
    app = create_app(target)
assert not sdks & sys.modules.keys()
async def main():
    async with app.router.lifespan_context(app):
        assert sdks & sys.modules.keys() == expected, sdks & sys.modules.keys()
asyncio.run(main())
"""


@pytest.mark.long
@pytest.mark.parametrize("how", ["app", "router"])
@pytest.mark.parametrize(
    ("target", "sdks"),
    [
        ("named.yaml", "mistralai.client"),
        ("fallback.yaml", "mistralai.client,openai"),
        ("two.yaml", "anthropic,openai"),
    ],
)
def test_what_the_files_name_is_loaded_at_the_start(target: str, sdks: str, how: str, tmp_path: Path) -> None:
    (tmp_path / "named.yaml").write_text('provider: mistral\nuser: "{topic}"\n', "utf-8")
    (tmp_path / "fallback.yaml").write_text(
        'provider: mistral\nfallback: [{provider: openai, model: m}]\nuser: "{topic}"\n', "utf-8"
    )
    (tmp_path / "two.yaml").write_text("prompts_dir: .\n" + NODES, "utf-8")
    subprocess.run([sys.executable, "-c", CODE, target, sdks, how], check=True, cwd=tmp_path)
