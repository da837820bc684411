"""Test that secrets are found in texts by value, by encoding and by shape, and that other words stay."""

from __future__ import annotations

import base64
import json
from typing import cast
from urllib.parse import quote

import pytest

from streamcore.base.redact import redact, redact_json, secret_forms

SECRET = 'PLANTED/key+0123"456789=='

SHAPES = [
    "sk-ant-api03-abcdefghijkl",
    "sk-proj-ABCDEFGHIJKL0123",
    "sk_live_0123456789abcdef",
    "AKIAIOSFODNN7EXAMPLE",
    "xoxb-123456789012-abcdef",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "github_pat_0123456789abcdefghij",
    "AIzaSyA0123456789abcdefghijklmnopqrstuv",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "hf_0123456789abcdefghij",
    "gsk_0123456789abcdefghij",
    "ya29.0123456789abcdefghij",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
]
LABELLED = [
    ("Authorization: Bearer %s", "abcdefgh12345678"),
    ("basic %s is wrong", "dXNlcjpwYXNzd29yZA=="),
    ("GET https://gateway.test/v1?api_key=%s&x=1", "abcdefgh123"),
    ("no proxy at http://%s@proxy.test:3128/", "user:hunter22"),
    ('{"api-key": "%s"}', "abcdefgh12345678"),
    ("password=%s", "correct0horse"),
]


WRITTEN = {
    "plain": SECRET,
    "upper case": SECRET.upper(),
    "URL": quote(SECRET, safe=""),
    "URL in a URL": quote(quote(SECRET, safe=""), safe=""),
    "JSON": json.dumps(SECRET)[1:-1],
    "JSON in JSON": json.dumps({"error": json.dumps({"key": SECRET})}),
    "Base64": base64.b64encode(SECRET.encode()).decode(),
    "Python": repr(SECRET),
    "cut": SECRET[:15],
}


@pytest.mark.parametrize("how", WRITTEN)
def test_a_known_secret_is_found_however_it_is_written(how: str) -> None:
    clean = redact(f"the key {WRITTEN[how]} is wrong", [SECRET])
    assert "[secret]" in clean
    assert "PLANTED" not in clean.upper()
    assert "0123" not in clean
    assert WRITTEN[how] not in clean


@pytest.mark.parametrize("key", SHAPES)
@pytest.mark.parametrize("around", ["%s", "no '%s'", "x=%s, y", "[%s]"])
def test_a_key_is_found_by_its_shape(key: str, around: str) -> None:
    assert redact(around % key) == around % "[secret]"


@pytest.mark.parametrize(("text", "secret"), LABELLED)
def test_a_key_is_found_by_its_label(text: str, secret: str) -> None:
    assert redact(text % secret) == text % "[secret]"
    assert redact(redact(text % secret)) == text % "[secret]"


@pytest.mark.parametrize(
    "text",
    [
        "Bearer authentication is required; give api_key= to get_provider('openai', ...)",
        "the task-force asks for risk-averse-behaviour-of-models",
        "set OPENAI_API_KEY, or api_key: a text",
        "could not connect to https://api.test:443/v1/chat/completions?stream=true",
        "gpt-4o-mini-2024-07-18 is not available; max_tokens=4096 exceeds 2048",
    ],
)
def test_other_words_stay(text: str) -> None:
    assert redact(text) == text


def test_half_a_surrogate_pair_becomes_a_character_that_can_be_written() -> None:
    assert redact("\ud800 a lone surrogate") == "\ufffd a lone surrogate"
    assert redact("\ud800 sk-0123456789abcdef01") == "\ufffd [secret]"


def test_json_keeps_its_form_and_loses_what_is_too_deep() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    value = {"message": f"bad {SECRET}", SECRET: [1, None, True, 2.5, SECRET], "deep": deep}
    clean = redact_json(value, secret_forms([SECRET]))
    assert clean["message"] == "bad [secret]"
    assert clean["[secret]"] == [1, None, True, 2.5, "[secret]"]
    assert "nested too deeply" in str(clean["deep"])
    while deep:  # freeing it at once would recurse
        deep = cast("list[object]", deep.pop())
