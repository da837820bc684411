"""Run the snippets of the README and of docs/, so that they stay true."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from streamcore import Message, Request, StreamInterrupted, get_provider, stream_request
from streamcore.testing import Answer, PlannedCall, Simulator
from streamcore.testing.demo import DemoProvider
from tests.snippets import Block, all_blocks, blocks, run_script, save_files

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PROVIDERS_PAGE = ROOT / "docs" / "providers.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "endpoints").glob("*.md"))]
ANSWER = "Hello, World!"
OF_THE_PROCESS = ("set_tracer_provider(", "add_observer(", "use_prices(", "addHandler(", "basicConfig(")
"""Functions whose effect lasts until the process ends."""


SCRIPTS = [
    pytest.param(page, block, id=f"{page.name}:{block.line}")
    for page in PAGES
    for block in all_blocks(page)
    if block.language == "python" and block.title is None
]
APPS = [
    pytest.param(page, block, id=f"{page.name}:{block.line}")
    for page in PAGES
    for block in all_blocks(page)
    if block.language == "python" and "\napp = " in block.code
]


def test_tables_are_whole() -> None:
    """A row after an empty line is shown as a text with bars."""
    for path in sorted((ROOT / "docs").rglob("*.md")):
        before = ""
        code = False
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            code ^= line.lstrip().startswith("```")
            if line.startswith("|") and not before.startswith("|") and not code:
                after = path.read_text("utf-8").splitlines()[number : number + 1]
                assert re.fullmatch(r"\|[-:| ]+\|", "".join(after)), f"{path}:{number}: a row without a table"
            before = line


def test_readme_and_index_begin_with_the_same_example() -> None:
    assert next(blocks(README, "python")) == next(blocks(ROOT / "docs" / "index.md", "python"))


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a folder with the project's prompts and graphs. The vendors are the simulator, and `demo` is quick."""
    for folder in ("prompts", "graphs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(DemoProvider.__init__, "__kwdefaults__", {"model": None, "rate": 300, "transport": None})
    with Simulator(ANSWER) as simulator:
        for name, value in simulator.environment.items():
            monkeypatch.setenv(name, value)
        yield tmp_path


@pytest.mark.parametrize(("page", "block"), SCRIPTS)
def test_python(page: Path, block: Block, reader: Path) -> None:
    """Every block runs as it is, beside the files of its page; one that changes the process has one of its own."""
    save_files(page, reader)
    if any(name in block.code for name in OF_THE_PROCESS):
        command = [sys.executable, "-W", "error", "-c", block.code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
    else:
        run_script(block.code, f"{page.name}:{block.line}")


@pytest.mark.parametrize(("page", "block"), APPS)
def test_apps(page: Path, block: Block, reader: Path) -> None:
    """Every service can be imported, and answers."""
    app = run_script(block.code, f"{page.name}:{block.line}")["app"]

    async def main() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
            return await client.get("/openapi.json")

    answer = asyncio.run(main())
    assert answer.status_code == 200
    assert answer.json()["paths"]


@pytest.mark.parametrize(("page", "block"), SCRIPTS)
def test_python_runs_what_it_defines(page: Path, block: Block) -> None:
    """A block that defines `main` also runs it; else its reader pastes it, and nothing happens."""
    if re.search(r"^(?:async )?def main\(", block.code, re.MULTILINE):
        assert re.search(r"^\S.*\bmain\b[^:]*$", block.code, re.MULTILINE), "nothing runs main()"


def test_start_page_lists_all_extras() -> None:
    """The table of extras is that of pyproject.toml; the rows above `all` are what it installs."""
    extras: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    table = (ROOT / "docs" / "start.md").read_text("utf-8").partition("| Extra |")[2].partition("\n\n")[0]
    rows = [re.findall(r"`([a-z]+)`", line.split("|")[1]) for line in table.splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in row) == sorted(extras)

    def installed(extra: str) -> set[str]:
        named = {one for entry in extras[extra] for one in re.findall(r"streamcore-llm\[([\w,]+)\]", entry)}
        direct = {one for names in named for one in names.split(",")}
        return direct.union(*map(installed, direct))

    assert {name for row in rows[: rows.index(["all"])] for name in row} == installed("all")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_extras_are_installed_from_the_checkout(page: Path) -> None:
    """The distribution is not on PyPI."""
    assert 'pip install "streamcore' not in page.read_text("utf-8")


def test_other_python_has_a_purpose() -> None:
    """A block with a file's name is a service, a test or a module that another block imports."""
    for page in PAGES:
        found = [block for block in all_blocks(page) if block.language == "python"]
        for block in found:
            if block.title is not None:
                module = Path(block.title).stem
                assert (
                    module.startswith("test_")
                    or "\napp = " in block.code
                    or any(
                        f"from {module} import" in other.code
                        or f'"{module}:' in other.code
                        or f'"{block.title}"' in other.code  # a program that the other one starts
                        for other in found
                    )
                ), f"{page.name}:{block.line}: nothing runs {block.title}"


@pytest.mark.long
def test_start_page_tests(reader: Path) -> None:
    """The tests of the tutorial pass: the recorded one is recorded, then played without a vendor."""
    save_files(ROOT / "docs" / "start.md", reader)
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    hidden = ("_API_KEY", "_BASE_URL")
    offline = {name: value for name, value in os.environ.items() if not name.endswith(hidden)} | {"OPENAI_API_KEY": "a"}
    for arguments, environment in ((["--record", "test_recorded.py"], dict(os.environ)), ([], offline)):
        done = subprocess.run(
            [*pytest_here, *arguments], capture_output=True, text=True, timeout=250, env=environment, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_transport_page_makes_a_client(reader: Path) -> None:
    names = [run_script(code) for code in blocks(ROOT / "docs" / "transport.md", "python")]
    assert type(names[-1]["client"]).__name__ == "AiohttpClient"
    assert names[-1]["provider"].name == "openai"


def test_async_usage_service_answers(reader: Path) -> None:
    page = ROOT / "docs" / "async-usage.md"
    app = run_script(next(code for code in blocks(page, "python") if "FastAPI" in code))["app"]

    async def main() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
            return await client.get("/greet", params={"name": "Ada"})

    answer = asyncio.run(main())
    assert answer.status_code == 200
    assert "Ada" in answer.text


def test_streaming_page_has_the_real_defaults() -> None:
    from streamcore import StreamOptions, Timeouts

    text = (ROOT / "docs" / "streaming.md").read_text("utf-8")
    for name in ("first_token", "stall", "silence"):
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.endswith(f"| {getattr(Timeouts(), name):g} s |")
    for name in ("buffer_size", "emit_interval", "boundary", "first", "include_metadata"):
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` | "))
        default = getattr(StreamOptions(), name)
        assert row.rstrip("| ").strip("`").lower().endswith(str(default).lower().removesuffix(".0"))


def test_structured_page_shows_what_is_printed(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "structured.md"
    for code in blocks(page, "python"):
        run_script(code)
    printed = capsys.readouterr().out
    shown = [
        comment.strip()
        for code in blocks(page, "python")
        for _, _, comment in (line.partition("  # ") for line in code.splitlines() if "print(" in line)
    ]
    comments = [comment for comment in shown if comment.startswith(("city=", "the answer does not fit"))]
    assert len(comments) == 2
    for comment in comments:
        assert comment in printed
    assert "{'city': 'a'}\n{'city': 'a city'}\n" in printed


def test_readme_prompt_is_a_prompt(reader: Path) -> None:
    from streamcore.prompts.prompt_file import load_prompt

    for number, code in enumerate(blocks(README, "yaml")):
        Path("prompts", f"readme{number}.yaml").write_text(code, "utf-8")
        assert load_prompt(f"readme{number}").render({"name": "Ada"}, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
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


def test_every_provider_is_on_the_page() -> None:
    from streamcore import provider_names

    text = PROVIDERS_PAGE.read_text("utf-8")
    for name in provider_names():
        assert f"`{name}`" in text, name
