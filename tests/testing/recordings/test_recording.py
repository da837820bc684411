"""Test recordings: the bytes of their file, times and cuts, which requests match, and removed secrets."""

from __future__ import annotations

import gzip
import json
import re
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamcore import ConfigError, StreamInterrupted, get_provider, stream_request
from streamcore.testing import (
    Answer,
    Exchange,
    Read,
    RecordedRequest,
    Recording,
    RecordingError,
    UnrecordedRequest,
    record,
)
from streamcore.testing.recordings.matching import Player
from streamcore.testing.recordings.scrub import scrub_bytes
from tests.support import KEY, Vendor, ask, body_of

pytestmark = pytest.mark.anyio

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
EVENTS = st.sampled_from(
    [b"data: {}\n\n", b"\n", b"\r\n", b" x\n", b"a \n \n", b"\xc3", b"\xa9", b"\xef\xbb\xbf", b"# c"]
)
DATA = st.binary(max_size=30) | st.lists(EVENTS, max_size=6).map(b"".join) | st.text(max_size=30).map(str.encode)
READS = st.lists(st.builds(Read, st.floats(0, 1e6), DATA), max_size=5).map(tuple)
WORD = st.text("abcdefgh-", min_size=1, max_size=8)
HEADERS = st.lists(
    st.tuples(WORD, st.text(st.characters(max_codepoint=255), max_size=9)), max_size=3, unique_by=lambda item: item[0]
)
EXCHANGES = st.builds(
    Exchange,
    st.builds(RecordedRequest, st.just("POST"), st.text(), JSON | st.just(b"\xffno")),
    st.integers(100, 599),
    HEADERS.map(tuple),
    READS,
    st.none() | WORD,
    st.sampled_from(["whole", "broken", "left"]),
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(EXCHANGES, max_size=3).map(tuple))
def test_the_file_keeps_every_byte(tmp_path: Path, exchanges: tuple[Exchange, ...]) -> None:
    recording = Recording(exchanges)
    recording.save(tmp_path / "a.yaml")
    assert Recording.load(tmp_path / "a.yaml") == recording


def exchange(
    *reads: bytes, body: Any = None, url: str = "https://api.example/v1/chat/completions", **more: Any
) -> Exchange:
    return Exchange(
        RecordedRequest("POST", url, body), 200, (("content-type", "text/event-stream"),),
        tuple(Read(number / 8, data) for number, data in enumerate(reads)), **more,
    )  # fmt: skip


def test_the_file_is_readable(tmp_path: Path) -> None:
    events = [b'data: {"n": 1}\n\n', b"data: caf\xc3", b"\xa9\r\n\r\n", b": caf\xc3\xa9\r\n"]
    body = {"model": "m", "messages": [{"role": "user", "content": "One\nTwo\n"}], "seed": 7, "stop": ["1e3", "no"]}
    Recording((exchange(*events, body=body, provider="openai"),)).save(tmp_path / "new" / "folder.yaml")
    text = (tmp_path / "new" / "folder.yaml").read_text("utf-8")
    assert text.partition("streamcore_recording:")[2] == (
        """\
 1
exchanges:
- provider: openai
  request:
    method: POST
    url: https://api.example/v1/chat/completions
    body:
      model: m
      messages:
      - role: user
        content: |
          One
          Two
      seed: 7
      stop:
      - '1e3'
      - 'no'
  response:
    status: 200
    headers:
      content-type: text/event-stream
    reads:
    - at: 0.0
      text: |+
        data: {"n": 1}

    - at: 0.125
      base64: ZGF0YTogY2Fmww==
    - at: 0.25
      base64: qQ0KDQo=
    - at: 0.375
      text: ": café\\r\\n"
"""
    )
    assert yaml.safe_load(text)["exchanges"][0]["request"]["body"] == body  # any other tool reads the same


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("status: 200", "status: twohundred"), r"a.yaml:8: .*status: expected a whole number, not 'two"),
        (("text: hi", "txet: hi"), r"a.yaml:13: unknown key 'exchanges.0.response.reads.0.txet'; did you mean 'text'"),
        (("text: hi", "base64: hi!"), r"a.yaml:13: .*base64: this is not base64"),
        (("text: hi", "text: hi\n        base64: aGk="), r"a.yaml:1[23]: .*expected either text: or base64:"),
        (("at: 0", "at: -1"), r"a.yaml:12: .*at: expected at least 0, not -1"),
        (("recording: 1", "recording: 2"), r"a.yaml:1: streamcore_recording: expected 1, not 2"),
        (("    url: http://x/", "    urls: http://x/"), r"a.yaml:5: unknown key 'exchanges.0.request.urls'"),
        (("exchanges:", "exchanges: ["), r"a.yaml:\d+:\d+: this is not valid YAML"),
    ],
)  # fmt: skip
def test_errors_have_file_and_line(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    text = """\
streamcore_recording: 1
exchanges:
  - request:
      method: POST
      url: http://x/
      body: {model: m}
    response:
      status: 200
      headers:
        content-type: text/plain
      reads:
      - at: 0
        text: hi
"""
    path = tmp_path / "a.yaml"
    path.write_text(text, "utf-8")
    assert Recording.load(path).exchanges[0].body == b"hi"
    path.write_text(text.replace(*change), "utf-8")
    with pytest.raises(RecordingError, match=says):
        Recording.load(path)


def test_a_header_may_come_twice(tmp_path: Path) -> None:
    headers = (("link", "<a>"), ("link", "<b>"), ("via", "x"))
    Recording((Exchange(RecordedRequest("GET", "http://x/"), headers=headers),)).save(tmp_path / "a.yaml")
    assert Recording.load(tmp_path / "a.yaml").exchanges[0].headers == headers


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for body in (b"one", b"two", b"three"):
        Recording((exchange(body),)).save(path)
        assert Recording.load(path).exchanges[0].body == body
        assert Recording.load(path).exchanges is Recording.load(path).exchanges


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"nowhere.yaml: cannot be read: No such file"):
        Recording.load(tmp_path / "nowhere.yaml")


@given(st.lists(st.binary(max_size=9), max_size=6), st.lists(st.integers(-3, 60)))
def test_cutting_anew_keeps_bytes_and_never_makes_one_early(data: list[bytes], cuts: list[int]) -> None:
    before = exchange(*data)
    after = Recording((before,)).recut(cuts).exchanges[0]
    assert after.body == before.body
    assert all(read.data for read in after.reads)
    assert [read.at for read in after.reads] == sorted(read.at for read in after.reads)
    came = [read.at for read in before.reads for _ in read.data]
    shown = [read.at for read in after.reads for _ in read.data]
    assert all(late >= early for early, late in zip(came, shown, strict=True))


def test_cutting_by_a_function_that_loses_bytes_is_refused() -> None:
    recording = Recording((exchange(b"abc", b"def"),))
    halves = recording.recut(lambda body: [body[:1], body[1:]])
    assert halves.exchanges[0].reads == (Read(0.0, b"a"), Read(0.125, b"bcdef"))
    with pytest.raises(ValueError, match=r"joined, are not the body of https://api.example"):
        recording.recut(lambda body: [body[1:]])


def test_pace_sets_the_times() -> None:
    recording = Recording((exchange(b"a", b"b", b"c"),))
    times = [[read.at for read in recording.at_pace(pace).exchanges[0].reads] for pace in ("recorded", 2, 0)]
    assert times == [[0.0, 0.125, 0.25], [0.0, 0.5, 1.0], [0.0, 0.0, 0.0]]
    for wrong in (-1, float("nan"), float("inf"), "fast"):
        with pytest.raises(ConfigError, match="give 'recorded', a number"):
            recording.at_pace(wrong)  # type: ignore[arg-type]


BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.7, "n": 1}


BODIES: list[tuple[Any, Any, str | None]] = [
    (BODY, BODY, None),
    (BODY, BODY | {"user": "more"}, None),
    ({"model": "m"}, BODY, None),
    (None, BODY, None),
    (BODY, BODY | {"temperature": 0.70}, None),
    (BODY, BODY | {"model": "k"}, "body.model is 'k', recorded is 'm'"),
    (BODY, BODY | {"n": True}, "body.n is True, recorded is 1"),
    (BODY, {"model": "m"}, "body.temperature is missing, recorded is 0.7"),
    (BODY, BODY | {"messages": []}, "body.messages has 0 items, recorded are 1"),
    (BODY, BODY | {"messages": [{"role": "user", "content": "Ho"}]}, r"body.messages\[0\].content is 'Ho', .*'Hi'"),
    (BODY, BODY | {"messages": "Hi"}, "body.messages is 'Hi', recorded is"),
]  # fmt: skip


@pytest.mark.parametrize(("recorded", "asked", "says"), BODIES)
def test_a_recorded_body_is_a_subset(recorded: Any, asked: Any, says: str | None) -> None:
    kept = exchange(b"x", body=recorded)
    player = Player((kept,))
    if says is None:
        assert player.find("POST", "http://127.0.0.1:1/v1/chat/completions?key=1", json.dumps(asked).encode()) is kept
    else:
        with pytest.raises(UnrecordedRequest, match=says):
            player.find("POST", "http://127.0.0.1:1/v1/chat/completions", json.dumps(asked).encode())


def test_method_and_endpoint_count_and_what_a_gateway_puts_before_does_not() -> None:
    player = Player((exchange(b"x"),))
    assert player.find("post", "https://openrouter.ai/api/v1/chat/completions", b"")
    with pytest.raises(UnrecordedRequest, match=r"the path is /v1/responses, recorded is /v1/chat/completions"):
        player.find("POST", "https://api.example/v1/responses?api_key=" + KEY, b"")
    with pytest.raises(UnrecordedRequest, match=r"the method is GET, recorded is POST"):
        player.find("GET", "https://api.example/v1/chat/completions", b"")
    with pytest.raises(UnrecordedRequest, match="the recording is empty"):
        Player(()).find("GET", "https://api.example/", b"")


def test_the_same_question_gets_its_answers_in_order_then_the_last_again() -> None:
    recording = Recording((exchange(b"first", body={"a": 1}), exchange(b"other"), exchange(b"second", body={"a": 1})))
    player = Player(recording.exchanges)
    received = [player.find("POST", "http://x/v1/chat/completions", b'{"a": 1}').body for _ in range(5)]
    assert received == [b"first", b"other", b"second", b"second", b"second"]
    assert player.unplayed == ()


# Secrets are removed from recordings


async def recorded_from(vendor: Vendor, request: httpx2.Request) -> tuple[Recording, list[bytes]]:
    recorder = record(vendor)
    async with httpx2.AsyncClient(transport=recorder) as client:
        response = await client.send(request, stream=True)
        received = [data async for data in response.aiter_raw()]
        await response.aclose()
    return recorder.recording, received


SECRET = "sk/ab+cd0123456789=="


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization"])
@pytest.mark.parametrize("cut", range(1, 40, 5))
async def test_a_key_is_found_wherever_it_recurs(header: str, cut: int, tmp_path: Path) -> None:
    echo = b'data: {"error": "bad key sk\\/ab+cd0123456789== or sk/ab+cd0123456789=="}\n\n'
    vendor = Vendor(echo[:-cut], echo[-cut:], headers=[("set-cookie", "session=me"), ("x-echo", SECRET)])
    value = f"Bearer {SECRET}" if "auth" in header else SECRET
    # A user in the address would replace the header `authorization`.
    user = "" if header == "authorization" else "me:pass-word-1@"
    url = f"https://{user}api.example/v1/messages?key=query-secret-1&q=sk%2Fab%2Bcd0123456789%3D%3D"
    body = {"model": "m", "user": SECRET, "tools": [{SECRET: f"{SECRET} query-secret-1"}]}
    recording, received = await recorded_from(
        vendor, httpx2.Request("POST", url, headers={header: value}, json=body)
    )  # fmt: skip
    assert received == [echo[:-cut], echo[-cut:]]  # the caller gets what the vendor sent
    recording.save(tmp_path / "a.yaml")
    text = (tmp_path / "a.yaml").read_text("utf-8")
    for secret in (SECRET, "ab+cd", "pass-word-1", "query-secret-1", "session=me", "ab%2Bcd"):
        assert secret not in text
    assert "ab+cd" not in recording.exchanges[0].body.decode()
    assert [len(read.data) for read in recording.exchanges[0].reads] == [len(echo) - cut, cut]


async def test_a_key_in_a_packed_body_is_found() -> None:
    packed = gzip.compress(f'{{"error": "bad key {KEY}"}}'.encode())
    headers = [("content-encoding", "gzip"), ("content-length", str(len(packed)))]
    vendor = Vendor(packed[:9], packed[9:], headers=headers)
    request = httpx2.Request("POST", "https://api.example/", headers={"x-api-key": KEY})
    recording, received = await recorded_from(vendor, request)
    assert b"".join(received) == packed
    assert vendor.requests[0].headers["accept-encoding"] == "identity"
    (kept,) = recording.exchanges
    assert re.fullmatch(rb'{"error": "bad key SCRUBBED-+"}', kept.body)
    assert not kept.headers


async def test_a_compressed_body_without_a_key_is_recorded_unchanged() -> None:
    packed = gzip.compress(b"hello")
    vendor = Vendor(packed, headers=[("content-encoding", "gzip")])
    recording, _ = await recorded_from(vendor, httpx2.Request("GET", "https://api.example/"))
    assert recording.exchanges[0].body == packed
    assert recording.exchanges[0].headers == (("content-encoding", "gzip"),)


async def test_basic_credentials_are_unpacked() -> None:
    request = httpx2.Request("GET", "https://api.example/", headers={"authorization": "Basic bWU6cGFzcy13b3JkLTE="})
    recording, _ = await recorded_from(Vendor(b"you are me:pass-word-1"), request)
    assert recording.exchanges[0].body == b"you are SCRUBBED------"  # the pair is a secret, too


def test_a_key_of_one_request_is_taken_out_of_all() -> None:
    assert scrub_bytes(b"abcdefghij abcdefgh", ["abcdefghij", "abcdefgh"]) == b"SCRUBBED-- SCRUBBED"


async def test_a_recorder_tells_how_a_response_ended() -> None:
    whole = body_of("openai-chat", Answer(["a", "b"]))
    recorder = record(Vendor(whole))
    async with httpx2.AsyncClient(transport=recorder) as http:
        await stream_request(ask(), provider=get_provider("openai", api_key=KEY, http_client=http)).collect()
    assert (recorder.recording.exchanges[0].end, recorder.recording.exchanges[0].body) == ("whole", whole)
    recorder = record(Vendor(whole[:99], httpx2.ReadError("gone")))
    async with httpx2.AsyncClient(transport=recorder) as http:
        with pytest.raises(StreamInterrupted, match="gone"):
            await stream_request(ask(), provider=get_provider("openai", api_key=KEY, http_client=http)).collect()
    assert (recorder.recording.exchanges[0].end, recorder.recording.exchanges[0].body) == ("broken", whole[:99])
    recorder = record(Vendor(b"a", b"b"))
    async with httpx2.AsyncClient(transport=recorder) as http, http.stream("GET", "https://x/") as response:
        async with aclosing(response.aiter_raw()) as reads:
            await anext(reads)
    assert (recorder.recording.exchanges[0].end, recorder.recording.exchanges[0].body) == ("left", b"a")
