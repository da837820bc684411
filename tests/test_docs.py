"""Run the snippets of the README and of docs/, so that they stay true."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from streamcore import Message, Request, StreamInterrupted, get_provider, stream_request
from streamcore.testing import Answer, PlannedCall, Simulator
from tests.snippets import blocks, run

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PROVIDERS_PAGE = ROOT / "docs" / "providers.md"


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Stand in a folder with the project's prompts; a vendor that a snippet names is the simulator."""
    for folder in ("prompts", "graphs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    with Simulator("Hello, World!") as simulator:
        monkeypatch.setenv("MISTRAL_BASE_URL", simulator.base_url("mistral"))
        monkeypatch.setenv("MISTRAL_API_KEY", "docs-key")
        yield simulator


def test_readme_python(newcomer: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    snippets = list(blocks(README, "python"))
    assert len(snippets) >= 6
    for code in snippets:
        if "streamcore.sync" in code:
            exec(compile(code, "<readme>", "exec"), {"__name__": "readme"})  # noqa: S102
        else:
            asyncio.run(run(code))
    assert "Hello, World!" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["streaming.md", "structured.md"])
def test_pages_python(page: str, newcomer: Simulator) -> None:
    snippets = list(blocks(ROOT / "docs" / page, "python"))
    assert len(snippets) >= 3
    for code in snippets:
        asyncio.run(run(code))


def test_transport_page_python(newcomer: Simulator) -> None:
    first, second = blocks(ROOT / "docs" / "transport.md", "python")
    asyncio.run(run(first))
    space = asyncio.run(run(second))
    assert type(space["client"]).__name__ == "AiohttpClient"
    assert space["provider"].name == "openai"


def test_async_usage_page_python(newcomer: Simulator) -> None:
    snippets = list(blocks(ROOT / "docs" / "async-usage.md", "python"))
    assert len(snippets) >= 10
    for code in snippets:
        if "streamcore.sync" in code or "trio.run" in code:
            exec(compile(code, "<async-usage>", "exec"), {"__name__": "snippet"})  # noqa: S102
        else:
            asyncio.run(run(code))


@pytest.mark.anyio
async def test_async_usage_service_answers(newcomer: Simulator) -> None:
    code = next(code for code in blocks(ROOT / "docs" / "async-usage.md", "python") if "FastAPI" in code)
    app = (await run(code))["app"]
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
        answer = await client.get("/greet", params={"name": "Ada"})
    assert answer.status_code == 200
    assert "Ada" in answer.text


def test_streaming_page_tells_the_real_defaults() -> None:
    from streamcore import StreamOptions, Timeouts

    text = (ROOT / "docs" / "streaming.md").read_text("utf-8")
    for name in ("first_token", "stall", "silence"):
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.endswith(f"| {getattr(Timeouts(), name):g} s |")
    for name in ("buffer_size", "emit_interval", "boundary", "first", "include_metadata"):
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` | "))
        default = getattr(StreamOptions(), name)
        assert row.rstrip("| ").strip("`").lower().endswith(str(default).lower().removesuffix(".0"))


def test_structured_page_shows_what_is_printed(newcomer: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "structured.md"
    for code in blocks(page, "python"):
        asyncio.run(run(code))
    printed = capsys.readouterr().out
    shown = [
        comment.strip()
        for code in blocks(page, "python")
        for _, _, comment in (line.partition("  # ") for line in code.splitlines() if "print(" in line)
    ]
    told = [comment for comment in shown if comment.startswith(("city=", "the answer does not fit"))]
    assert len(told) == 2
    for comment in told:
        assert comment in printed
    assert "{'city': 'a'}\n{'city': 'a city'}\n" in printed


def test_readme_prompt_is_a_prompt(newcomer: Simulator) -> None:
    from streamcore.prompts.prompt_file import load_prompt

    for number, code in enumerate(blocks(README, "yaml")):
        Path("prompts", f"readme{number}.yaml").write_text(code, "utf-8")
        assert load_prompt(f"readme{number}").render({"name": "Ada"}, {})


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def walk_through() -> str:
    return next(code for code in blocks(PROVIDERS_PAGE, "python") if "class TypedProvider" in code)


def test_own_provider_is_under_60_lines() -> None:
    assert len(walk_through().splitlines()) < 60


def test_own_provider_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_module.py").write_text(walk_through(), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    async def main(answer: Answer) -> list[str]:
        with Simulator(answer) as simulator:
            provider = get_provider(
                "my_own_module:TypedProvider", api_key="docs-key", base_url=simulator.base_url("openai")
            )
            try:
                stream = stream_request(Request([Message("user", "Hi")]), provider=provider)
                kinds: list[str] = [chunk.kind async for chunk in stream]
                assert stream.partial.text == "".join(answer.tokens)
                assert [call.arguments for call in stream.partial.tool_calls] == [
                    "".join(call.fragments) for call in answer.calls
                ]
                assert stream.partial.complete
                return kinds
            finally:
                await provider.aclose()

    assert asyncio.run(main(Answer(["Hi", " you"]))) == ["start", "text", "text", "finish", "usage"]
    assert "tool_call" in asyncio.run(main(Answer(calls=[PlannedCall("weather", {"city": "Bern"})])))
    with pytest.raises(StreamInterrupted) as caught:
        asyncio.run(main(Answer(["Hi", " you"], cut=1)))
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hi"


def test_settings_snippet(monkeypatch: pytest.MonkeyPatch) -> None:
    code = next(code for code in blocks(PROVIDERS_PAGE, "python") if "http_client=" in code)

    async def main() -> None:
        names = await run(code)
        assert names["provider"].name == "mistral"

    asyncio.run(main())


def test_every_provider_is_on_the_page() -> None:
    from streamcore import provider_names

    text = PROVIDERS_PAGE.read_text("utf-8")
    for name in provider_names():
        assert f"`{name}`" in text, name
