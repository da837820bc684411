"""Test the limit of what each user or address may spend: on every endpoint, while answers run, and in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from streamcore import Chunk, ConfigError, Usage
from streamcore.errors import RelayError
from streamcore.pricing import use_prices
from streamcore.relay import Relay
from streamcore.testing import ScriptedProvider
from streamcore.testing.scripted import FINISH
from streamcore.web import RunLimits
from streamcore.web.spending import Spending, SpendingLimit
from streamcore.web.spending_sums import MemorySums, RedisSums
from tests.servers import RedisServer
from tests.web.test_guards import LOCAL, REMOTE, clients

pytestmark = pytest.mark.anyio
START = Chunk("start", model="m")
MESSAGES = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "plain", "messages": MESSAGES}
UI_MESSAGES = [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}]
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/messages": {**CHAT, "max_tokens": 100},
    "/v1/responses": {"model": "plain", "input": "Hello"},
    "/api/chat": {"id": "c", "messages": UI_MESSAGES, "trigger": "submit-message"},
    "/agui": {
        "threadId": "t",
        "runId": "r",
        "messages": [{"id": "1", "role": "user", "content": "Hello"}],
        "tools": [],
        "context": [],
        "state": {},
        "forwardedProps": {},
    },
    "/start": {"prompt": "Hello"},
}
"""A request that each endpoint answers."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.yaml").write_text('user: "{message}"\n', "utf-8")
    (tmp_path / "twice.yaml").write_text(
        "name: twice\nprompts_dir: .\nstate: {message: str}\n"
        "nodes:\n  one: {type: llm, prompt: plain, state_key: one}\n  two: {type: llm, prompt: plain, state_key: two}\n"
        "edges:\n  - {from: START, to: one}\n  - {from: one, to: two}\n  - {from: two, to: END}\n",
        "utf-8",
    )
    use_prices({"m": {"input": 1_000_000, "output": 1_000_000}})  # a dollar for a token
    yield
    use_prices(None)


def scripted(*items: Any, turns: int = 9) -> ScriptedProvider:
    """Return a provider whose answers cost 3 dollars, or have these items."""
    given = items or ("Yes.", FINISH, Chunk("usage", usage=Usage(1, 2)))
    return ScriptedProvider(*[[START, *given] for _ in range(turns)])


async def answered(client: httpx2.AsyncClient, path: str) -> httpx2.Response:
    """Return the response to a request; of the page, when the run has ended."""
    response = await client.post(path, json=REQUESTS[path])
    if path == "/start" and response.status_code == 201:
        await client.get(f"/{response.json()['stream']}")
    return response


@pytest.mark.parametrize("path", REQUESTS)
async def test_every_endpoint_adds_its_answers_and_refuses_above_the_limit(path: str) -> None:
    provider = scripted()
    async with clients(provider=provider, max_cost="5/day") as client:
        for _ in range(2):  # 3 dollars, then 6
            assert (await answered(client, path)).status_code in (200, 201)
        refused = await answered(client, path)
        assert refused.status_code == 429
        assert "5 US dollars per day" in refused.text
        assert 1 <= int(refused.headers["retry-after"]) <= 86_400
        assert len(provider.requests) == 2


@pytest.mark.parametrize(
    ("path", "kind"), [("/v1/chat/completions", "rate_limit_error"), ("/v1/messages", "rate_limit_error")]
)
async def test_the_refusal_has_the_form_of_the_wire(path: str, kind: str) -> None:
    async with clients(provider=scripted(), max_cost="1/hour") as client:
        await answered(client, path)
        refused = await answered(client, path)
    assert "limit of cost" in refused.json()["error"]["message"]
    assert refused.json()["error"]["type"] == kind
    assert refused.headers["x-should-retry"] == "false"


async def test_addresses_pay_for_themselves_and_all_endpoints_count_together() -> None:
    async with clients(provider=scripted(), peers=(LOCAL, REMOTE), max_cost="1") as (local, remote):
        assert (await answered(local, "/v1/messages")).status_code == 200
        for path in REQUESTS:
            assert (await answered(local, path)).status_code == 429
        assert (await answered(remote, "/v1/messages")).status_code == 200
        assert (await local.get("/v1/models")).status_code == 200


async def test_keys_pay_for_themselves() -> None:
    async with clients(provider=scripted(), api_keys=["one", "two"], max_cost="1") as client:
        codes = [
            (await client.post("/v1/messages", json=REQUESTS["/v1/messages"], headers={"x-api-key": key})).status_code
            for key in ("one", "one", "two")
        ]
    assert codes == [200, 429, 200]


async def test_a_running_answer_ends_at_the_usage_that_exceeds_what_is_left() -> None:
    provider = scripted("One ", Chunk("usage", usage=Usage(9)), "two ", FINISH)
    async with clients(provider=provider, max_cost="5") as client:
        begun = (await client.post("/start", json={"prompt": "Hello"})).json()
        events = (await client.get(f"/{begun['stream']}&format=json")).text
        assert '"RunLimitReached"' in events
        assert "One" in events
        assert "two" not in events
        assert (await answered(client, "/v1/chat/completions")).status_code == 429


async def test_a_graph_ends_before_the_step_that_it_cannot_pay() -> None:
    provider = scripted()
    async with clients("twice.yaml", provider=provider, max_cost="2") as client:
        begun = (await client.post("/start", json={"prompt": "Hello"})).json()
        assert '"RunLimitReached"' in (await client.get(f"/{begun['stream']}&format=json")).text
    assert len(provider.requests) == 1


async def test_limits_of_a_run_apply_to_prompts() -> None:
    provider = scripted("One ", Chunk("usage", usage=Usage(9)), "two ", FINISH)
    async with clients(provider=provider, limits=RunLimits(max_cost=5)) as client:
        begun = (await client.post("/start", json={"prompt": "Hello"})).json()
        assert '"RunLimitReached"' in (await client.get(f"/{begun['stream']}&format=json")).text
        assert (await client.post("/start", json={"prompt": "Hello"})).status_code == 201  # no sum is kept


async def test_answers_in_a_relay_of_the_caller_count() -> None:
    async with Relay() as relay, clients(provider=scripted(), relay=relay, max_cost="1") as client:
        await answered(client, "/start")
        assert (await answered(client, "/start")).status_code == 429


async def test_a_new_period_begins_at_zero() -> None:
    now = 86_400.0 * 100 - 10
    spending = Spending(SpendingLimit(Decimal(5)), MemorySums(), lambda: now)
    spending.note("a", Decimal(3))
    assert [await spending.spent("a"), await spending.spent("b")] == [Decimal(3), Decimal(0)]
    assert spending.left_seconds == 10
    now += 10
    assert await spending.spent("a") == 0
    assert spending.left_seconds == 86_400


@pytest.mark.parametrize("given", ["5/fortnight", "0", "-1/day", "x/day", "/day", True, "5/"])
def test_a_limit_that_is_not_valid_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="max_cost"):
        SpendingLimit.of(given)


def test_a_limit_is_for_a_day_without_a_period() -> None:
    assert str(SpendingLimit.of(2.5)) == "2.5 US dollars per day"
    assert SpendingLimit.of("7/week").seconds == 7 * 86_400


async def test_workers_share_the_sums_in_redis(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        limit = SpendingLimit.of("5/month")
        one, two = (Spending(limit, RedisSums(redis.url, "shop", limit.seconds)) for _ in range(2))
        one.note("user a", Decimal("1.25"))
        await one.aclose()
        two.note("user a", Decimal("0.000001"))
        assert await two.spent("user a") == await one.spent("user a") == Decimal("1.250001")
        assert await two.spent("user b") == 0
        other = Spending(limit, RedisSums(redis.url, "other", limit.seconds))
        assert await other.spent("user a") == 0
        one.note("user c", Decimal("1e300"))  # from a gateway that reports nonsense
        assert await one.spent("user c") > limit.amount
        assert await one.spent("user a") == Decimal("1.250001")


async def test_amounts_are_kept_while_redis_is_away(tmp_path: Path) -> None:
    with RedisServer(tmp_path, keep=True) as redis:
        limit = SpendingLimit.of("5/month")
        spending = Spending(limit, RedisSums(redis.url, "shop", limit.seconds))
        redis.kill()
        spending.note("user a", Decimal(1))
        with pytest.raises(RelayError, match="sums of costs"):
            await spending.spent("user a")
        redis.start()
        assert await spending.spent("user a") == 1
