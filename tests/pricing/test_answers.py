"""Price real answers of every vendor, by prices that were added up by hand, and sum attempts and steps."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streamcore import Attempt, Completion, Cost, Usage, stream_request
from streamcore.pricing import CostSum, Prices, answer_usage, cost_of, use_prices
from streamcore.pricing.answers import price
from tests.support import Vendor, ask

pytestmark = pytest.mark.anyio
RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"
DAY = datetime(2026, 11, 29, 12, tzinfo=UTC)
MILLION = Decimal(1_000_000)
CLAUDE = "global.anthropic.claude-haiku-4-5-20251001-v1:0"

# The recording, the provider, and the sum by hand: tokens times dollars for a million of them.
ANSWERS: list[tuple[str, str, str, str]] = [
    ("anthropic-thinking-and-tool.sse", "anthropic", "421*1 + 300*0.1 + 12*1.25 + 89*5", "anthropic/claude-haiku-4-5"),
    ("openai-text.sse", "openai", "11*0.75 + 8*0.075 + 130*4.5", "openai/gpt-5.4-mini"),
    (
        "openai-responses-reasoning-and-call.sse",
        "openai-responses",
        "39*0.75 + 16*0.075 + 48*4.5",
        "openai/gpt-5.4-mini",
    ),
    ("mistral-thinking.sse", "mistral", "14*0.5 + 24*1.5", "mistral/magistral-small"),
    ("google-thought-and-calls.sse", "google", "61*1.5 + 85*9", "google/gemini-3.5-flash"),
    ("bedrock-thinking-and-tool.bin", "bedrock", "412*1 + 1000*0.1 + 97*5", f"aws/{CLAUDE}"),
    ("groq-text.sse", "groq", "36*0.59 + 3*0.79", "groq/llama-3.3-70b-versatile"),
]


def added_up(terms: str) -> Decimal:
    products = (term.split("*") for term in terms.split(" + "))
    return sum((Decimal(count) * Decimal(rate) for count, rate in products), Decimal(0)) / MILLION


async def recorded(file: str, provider: str) -> Completion:
    more: dict[str, Any] = {}
    if file.endswith(".bin"):
        more = {"headers": [("content-type", "application/vnd.amazon.eventstream")]}
    vendor = Vendor((RECORDINGS / file).read_bytes(), **more)
    settings = {"model": CLAUDE} if provider == "bedrock" else {}
    return await stream_request(ask(), provider=vendor.provider(provider, **settings)).collect()


@pytest.mark.parametrize(("file", "provider", "terms", "name"), ANSWERS, ids=[answer[1] for answer in ANSWERS])
async def test_an_answer_of_each_vendor(
    file: str, provider: str, terms: str, name: str, anyio_backend_name: str
) -> None:
    if provider == "mistral" and anyio_backend_name == "trio":
        pytest.skip("the SDK of Mistral runs on asyncio only")
    answer = await recorded(file, provider)
    cost = cost_of(answer, at=DAY)
    assert cost is not None
    assert (cost.amount, cost.currency, cost.source, cost.price) == (added_up(terms), "USD", "prices", name)
    assert cost.price_list.startswith("genai-prices ")
    assert answer.provider == provider
    assert Completion.from_json(answer.to_json()).cost == answer.cost


async def test_what_a_gateway_reports_comes_first() -> None:
    answer = await recorded("openrouter-reasoning.sse", "openrouter")
    assert answer.cost == answer.reported_cost == Cost(Decimal("0.0003"), price="usage.cost")
    own = {"*": {"input": 1000, "output": 1000}}
    assert cost_of(answer, prices=own) == answer.reported_cost


@pytest.mark.parametrize(
    ("provider", "model"),
    [("ollama", "llama3.2"), ("openai", "no-such-model"), ("no-such-provider", "gpt-4o"), ("demo", "demo")],
)
def test_an_unknown_price_is_none_and_never_0(provider: str, model: str) -> None:
    assert price(provider, model, Usage(1, 1), at=DAY) is None
    assert Completion(model=model, provider=provider, usage=Usage(1, 1)).cost is None


def test_without_counts_there_is_no_cost() -> None:
    assert Completion(text="Hello").cost is None
    assert Completion(provider="openai", model="gpt-4o", attempts=(Attempt("openai", "gpt-4o"),)).cost is None
    assert price("openai", "gpt-4o", Usage(cache_read_tokens=3), at=DAY) is None


def test_a_long_prompt_has_the_price_of_its_tier() -> None:
    short = price("google", "gemini-2.5-pro", Usage(200_000, 1000), at=DAY)
    long = price("google", "gemini-2.5-pro", Usage(200_001, 1000), at=DAY)
    assert short is not None
    assert long is not None
    assert short.amount == added_up("200000*1.25 + 1000*10")
    assert long.amount == added_up("200001*2.5 + 1000*15")


def test_a_price_has_the_day_from_which_it_applies() -> None:
    before = price("mistral", "mistral-small-latest", Usage(1_000_000, 0), at=datetime(2026, 1, 1, tzinfo=UTC))
    after = price("mistral", "mistral-small-latest", Usage(1_000_000, 0), at=DAY)
    assert before is not None
    assert after is not None
    assert before.amount != after.amount
    assert after.since == "2026-03-16"


def test_the_tier_of_a_service_has_its_price() -> None:
    plain = price("openai", "gpt-5.4-mini", Usage(1_000_000, 0), at=DAY)
    flex = price("openai", "gpt-5.4-mini", Usage(1_000_000, 0), at=DAY, tier="flex")
    assert plain is not None
    assert flex is not None
    assert flex.amount == plain.amount / 2


def test_writing_to_the_cache_for_an_hour_costs_more() -> None:
    raw = {"cache_creation": {"ephemeral_5m_input_tokens": 1_000_000, "ephemeral_1h_input_tokens": 2_000_000}}
    cost = price("anthropic", "claude-haiku-4-5", Usage(0, 0, cache_write_tokens=3_000_000, raw=raw), at=DAY)
    assert cost is not None
    assert cost.amount == Decimal("1.25") + 2 * Decimal(2)


def test_counts_that_contradict_each_other_are_priced_without_details() -> None:
    raw = {"completion_tokens_details": {"audio_tokens": 900}}
    assert price("openai", "gpt-4o-audio-preview", Usage(10, 5, raw=raw), at=DAY) is not None


def test_reasoning_that_a_vendor_leaves_out_of_its_count_is_billed() -> None:
    apart = Usage(10, 20, reasoning_tokens=70, raw={"total_tokens": 100})
    within = Usage(10, 90, reasoning_tokens=70, raw={"total_tokens": 100})
    assert price("xai", "grok-4.3", apart, at=DAY) == price("xai", "grok-4.3", within, at=DAY)


TRIED = Usage(1_000_000, 0)
OWN = {"m": {"input": 1, "output": 2}}


def test_failed_attempts_that_were_billed_count() -> None:
    failed = Attempt("own", "m", "StreamInterrupted: cut", TRIED)
    unbilled = Attempt("own", "m", "RateLimitError: later")
    last = Usage(0, 1_000_000)
    answer = Completion(
        usage=last, model="m", provider="own", attempts=(failed, unbilled, Attempt("own", "m", None, last))
    )
    cost = cost_of(answer, prices=OWN)
    assert cost is not None
    assert cost.amount == 3
    assert answer_usage(answer) == Usage(1_000_000, 1_000_000)


def test_an_attempt_that_was_cancelled_counts() -> None:
    failed = Attempt("own", "m", "StreamInterrupted: cut", TRIED)
    answer = Completion(usage=Usage(2_000_000, 0), model="m", provider="own", attempts=(failed,))
    cost = cost_of(answer, prices=OWN)
    assert cost is not None
    assert cost.amount == 3


def test_the_steps_of_an_agent_are_added_up() -> None:
    reported = Attempt("gateway", "x", None, TRIED, Cost(Decimal("0.5"), price="usage.cost"))
    first = Completion(usage=TRIED, reported_cost=reported.reported_cost, attempts=(reported,))
    second = Completion(usage=TRIED, model="m", provider="own", attempts=(Attempt("own", "m", None, TRIED),))
    run = Completion(usage=Usage(2_000_000, 0), steps=(first, second), attempts=(*first.attempts, *second.attempts))
    assert cost_of(run, prices=OWN) == Cost(Decimal("1.5"), "USD", "prices", "usage.cost, m", "own prices")
    assert cost_of(run, prices={}) is None  # the price of the second step is unknown, so there is no sum


def test_currencies_are_not_mixed() -> None:
    euros = {"m": {"input": 1, "output": 2, "currency": "EUR"}}
    one = Completion(usage=TRIED, model="m", provider="own", attempts=(Attempt("own", "m", None, TRIED),))
    other = Completion(usage=TRIED, reported_cost=Cost(Decimal(1)))
    assert cost_of(one, prices=euros) == Cost(Decimal(1), "EUR", "prices", "m", "own prices")
    assert cost_of(Completion(steps=(one, other)), prices=euros) is None


def test_a_sum_says_how_many_answers_have_no_price() -> None:
    total = CostSum()
    assert not total.known
    total.add(Completion(usage=TRIED, reported_cost=Cost(Decimal("0.25"))))
    assert total.known
    total.add(Completion(usage=Usage(0, 5), model="no-such-model", provider="openai"))
    assert (total.amount, total.answers, total.unpriced) == (Decimal("0.25"), 2, 1)
    assert total.usage == Usage(1_000_000, 5)
    assert not total.known


async def test_a_stream_that_is_left_has_what_it_cost() -> None:
    body = (RECORDINGS / "anthropic-thinking-and-tool.sse").read_bytes()
    end = body.index(b"event: content_block_start")
    vendor = Vendor(body[:end], body[end:])
    stream = stream_request(ask(), provider=vendor.provider("anthropic"))
    async with stream:
        await anext(stream)
    cost = cost_of(stream.partial, at=DAY)
    assert cost is not None
    assert cost.amount == added_up("421*1 + 300*0.1 + 12*1.25 + 2*5")


def test_prices_of_the_process() -> None:
    given = Completion(usage=TRIED, model="m", provider="own")
    use_prices(OWN)
    try:
        assert given.cost == Cost(Decimal(1), "USD", "prices", "m", "own prices")
    finally:
        use_prices(None)
    assert given.cost is None


def test_nothing_is_imported_before_a_cost_is_asked_for() -> None:
    code = (
        "import sys, streamcore; from streamcore import Completion, Cost\n"
        "Completion(text='Hello').to_json()\n"
        "print([name for name in sys.modules if 'pric' in name and not name.startswith('encodings')])\n"
        "from decimal import Decimal\n"
        "print(Completion(reported_cost=Cost(Decimal(1))).cost.amount, 'genai_prices' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines() == ["[]", "1 False"]


def test_prices_may_be_given_ready() -> None:
    ready = Prices.of(OWN)
    assert Prices.of(ready) is ready
