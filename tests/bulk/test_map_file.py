"""Test `map_file` through real SDKs against the simulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamcore import aclose_providers
from streamcore.bulk import MapReport, Progress, RateLimit, map_file
from streamcore.bulk.map_file import TooManyErrors
from streamcore.errors import AuthenticationError, ConfigError
from streamcore.testing import Answer, FaultServer, Simulator
from streamcore.testing.simulator.answers import Asked

pytestmark = pytest.mark.anyio
GREET = "system: Be kind.\nuser: 'Greet {name}.'\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "greet.yaml").write_text(GREET)
    return tmp_path


def rows(folder: Path, count: int) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"name": f"N{number}"}) + "\n" for number in range(1, count + 1)))
    return path


async def run(folder: Path, url: str, count: int = 20, **options: Any) -> MapReport:
    provider = {"name": "openai", "api_key": "k", "base_url": f"{url}/v1", "model": "m"}
    settings: dict[str, Any] = {"provider": provider, "prompts_dir": folder, "max_retries": 0, **options}
    try:
        return await map_file("greet", rows(folder, count), folder / "out.jsonl", **settings)
    finally:
        await aclose_providers()


def written(path: Path) -> list[Any]:
    return [json.loads(text) for text in path.read_text("utf-8").splitlines()]


def questions(simulator: Simulator) -> list[str]:
    return [request.body["messages"][-1]["content"] for request in simulator.requests]


async def test_every_row_once_and_in_order(folder: Path) -> None:
    seen: list[Progress] = []
    with Simulator(lambda asked: Answer(["Hi ", asked.text])) as simulator:
        report = await run(folder, simulator.url, on_progress=seen.append)
        again = await run(folder, simulator.url)
        assert len(simulator.requests) == 20
    found = written(folder / "out.jsonl")
    assert [line["row"] for line in found] == list(range(1, 21))
    assert [line["text"] for line in found] == [f"Hi Greet N{number}." for number in range(1, 21)]
    assert found[0]["input"] == {"name": "N1"}
    assert found[0]["finish_reason"] == "stop"
    assert [one.done for one in seen] == list(range(1, 21))
    assert (report.progress.rows, report.progress.done, report.before, report.errors) == (20, 20, 0, None)
    assert report.progress.input_tokens == 20 * found[0]["usage"]["input_tokens"]
    assert (again.before, again.progress.done) == (20, 20)


async def test_errors_have_a_file_and_are_asked_again(folder: Path) -> None:
    broken = {"Greet N3.", "Greet N7."}

    def answer(asked: Asked) -> Answer:
        cut = 1 if asked.text in broken else None
        return Answer(["Hi ", "there"], cut=cut)

    with Simulator(answer) as simulator:
        report = await run(folder, simulator.url)
        assert (report.progress.done, report.progress.failed) == (18, 2)
        failed = sorted(written(folder / "out.errors.jsonl"), key=lambda line: line["row"])
        assert [line["row"] for line in failed] == [3, 7]
        assert failed[0]["error"]["type"] == "StreamInterrupted"
        assert failed[0]["partial"]["text"] == "Hi "
        assert len(written(folder / "out.jsonl")) == 18
        broken.clear()
        simulator.requests.clear()
        report = await run(folder, simulator.url)
        assert sorted(questions(simulator)) == ["Greet N3.", "Greet N7."]
    assert (report.progress.done, report.before, report.errors) == (20, 18, None)
    assert [line["row"] for line in written(folder / "out.jsonl")] == list(range(1, 21))


async def test_max_errors_stops_and_keeps(folder: Path) -> None:
    with Simulator(Answer(["Hi ", "there"], cut=1)) as simulator:
        with pytest.raises(TooManyErrors, match="3 rows failed, and max_errors is 2; the last error was StreamInterr"):
            await run(folder, simulator.url, max_errors=2, concurrency=1)
        assert len(simulator.requests) == 3
    assert not (folder / "out.jsonl").exists()


async def test_a_refused_key_ends_the_run_at_once(folder: Path) -> None:
    with FaultServer("wrong-key", wire="openai-chat") as server:
        with pytest.raises(AuthenticationError):
            await run(folder, server.url, concurrency=1)
        assert len(server.requests) == 1


async def test_other_questions_are_not_mixed(folder: Path) -> None:
    with Simulator("Hi") as simulator:
        await run(folder, simulator.url, 3)
        (folder / "greet.yaml").write_text(GREET.replace("kind", "brief"))
        with pytest.raises(ConfigError, match=r"has answers for 3 rows of .* another prompt or another model"):
            await run(folder, simulator.url, 3)
        report = await run(folder, simulator.url, 3, redo=True)
        assert (report.before, len(simulator.requests)) == (0, 6)


async def test_all_rows_are_checked_before_the_first_request(folder: Path) -> None:
    with Simulator("Hi") as simulator:
        path = rows(folder, 3)
        with path.open("a") as file:
            file.write('{"nam": "x"}\n')
        with pytest.raises(ConfigError, match=r"rows\.jsonl:4: .*the variable 'name' is missing"):
            await map_file("greet", path, folder / "out.jsonl", provider="demo", prompts_dir=folder)
        assert not simulator.requests
    assert not (folder / "out.jsonl").exists()


async def test_fallbacks_count_for_their_own_limit(folder: Path) -> None:
    with FaultServer(*["server-error"] * 4, wire="openai-chat") as server, Simulator("Hi") as simulator:
        other = {"provider": "anthropic", "api_key": "k", "base_url": simulator.url, "model": "m"}
        limits = {"openai": RateLimit(requests=100_000), "anthropic": RateLimit(requests=100_000)}
        report = await run(folder, server.url, 4, fallback=[other], limits=limits)
        assert (len(server.requests), len(simulator.requests)) == (4, 4)
    assert report.progress.done == 4
    assert {line["provider"] for line in written(folder / "out.jsonl")} == {"anthropic"}


@pytest.mark.parametrize("fallback", [None, ["mistral/small"], [{"provider": "mistral", "model": "small"}]])
async def test_a_limit_of_a_provider_that_is_never_asked(folder: Path, fallback: list[Any] | None) -> None:
    limits = {"opnai": RateLimit(requests=60)}
    with pytest.raises(ConfigError, match="has provider 'opnai', which is never asked; the prompt asks 'openai"):
        await map_file(
            "greet",
            rows(folder, 1),
            folder / "o.jsonl",
            prompts_dir=folder,
            provider="openai",
            fallback=fallback,
            limits=limits,
        )


async def test_arguments(folder: Path) -> None:
    with pytest.raises(ConfigError, match="concurrency must be at least 1, not 0"):
        await map_file("greet", "r.jsonl", "o.jsonl", concurrency=0, provider="demo", prompts_dir=folder)
    (folder / "rows.jsonl").write_text("\n")
    with pytest.raises(ConfigError, match="has no rows"):
        await map_file("greet", folder / "rows.jsonl", folder / "o.jsonl", provider="demo", prompts_dir=folder)
