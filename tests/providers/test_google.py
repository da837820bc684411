"""Send requests to Google: both platforms, settings of its own, and errors that only it has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from streamcore import (
    AuthenticationError,
    BadRequestError,
    Completion,
    ConfigError,
    ContentRefused,
    Document,
    Image,
    Message,
    MissingAPIKey,
    RateLimitError,
    Request,
    Text,
    Tool,
    ToolCall,
    execute_prompt_async,
    get_provider,
    stream_request,
)
from streamcore.testing import Answer
from tests.support import KEY, Vendor, ask, body_of

Json = dict[str, Any]
OK = body_of("gemini", Answer.of("ok"))
PLAIN = Request([Message("user", "Hi")], model="gemini-3.5-flash", default_temperature=None)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_CLOUD_PROJECT", "GOOGLE_GENAI_USE_VERTEXAI"):
        monkeypatch.delenv(name, raising=False)


def asked(request: Request = PLAIN, **settings: Any) -> httpx2.Request:
    vendor = Vendor(OK)
    given: Json = {"http_client": vendor.client(), "api_key": KEY, **settings}
    provider = get_provider("google", **{key: value for key, value in given.items() if value is not None})
    answer = asyncio.run(stream_request(request, provider=provider, max_retries=0).collect())
    assert answer.text == "ok"
    (found,) = vendor.requests
    return found


def sent(request: Request = PLAIN, **settings: Any) -> Json:
    body: Json = json.loads(asked(request, **settings).content)
    return body


class Credentials:
    """Credentials of google-auth that never expire."""

    token = "ya29.a-token-of-google-cloud"
    expired = False
    quota_project_id = "billed"


# Addresses and keys


def test_the_gemini_api() -> None:
    request = asked()
    assert str(request.url) == (
        "https://generativelanguage.googleapis.com/v1/models/gemini-3.5-flash:streamGenerateContent?alt=sse"
    )
    assert request.headers["x-goog-api-key"] == KEY


@pytest.mark.parametrize(
    ("region", "host", "path"),
    [
        ("europe-west4", "europe-west4-aiplatform", "projects/p/locations/europe-west4/"),
        (None, "aiplatform", "projects/p/locations/global/"),
    ],
)
def test_vertex_ai_with_credentials(region: str | None, host: str, path: str) -> None:
    request = asked(vertexai=True, project="p", location=region, credentials=Credentials(), api_key=None)
    assert str(request.url) == (
        f"https://{host}.googleapis.com/v1beta1/{path}publishers/google/models/gemini-3.5-flash"
        ":streamGenerateContent?alt=sse"
    )
    assert request.headers["authorization"] == f"Bearer {Credentials.token}"
    assert request.headers["x-goog-user-project"] == "billed"
    assert "x-goog-api-key" not in request.headers


def test_vertex_ai_with_a_key() -> None:
    request = asked(vertexai=True)
    assert request.url.path == "/v1beta1/publishers/google/models/gemini-3.5-flash:streamGenerateContent"
    assert request.headers["x-goog-api-key"] == KEY


def test_the_environment_chooses_vertex_ai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "from-environment")
    assert "/projects/from-environment/" in asked(api_key=None, credentials=Credentials()).url.path


def test_vertex_ai_without_project_and_key_says_what_to_give() -> None:
    with pytest.raises(ConfigError, match="project="):
        asked(vertexai=True, api_key=None)


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"GEMINI_API_KEY": "gemini-key"}, "gemini-key"),
        ({"GEMINI_API_KEY": "gemini-key", "GOOGLE_API_KEY": "google-key"}, "google-key"),
    ],
)
def test_both_variables_have_the_key(variables: Mapping[str, str], key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert asked(api_key=None).headers["x-goog-api-key"] == key


def test_without_a_key() -> None:
    with pytest.raises(MissingAPIKey, match="GOOGLE_API_KEY"):
        asked(api_key=None)


@pytest.mark.parametrize(
    ("model", "vertex", "path"),
    [
        ("models/m", False, "models/m"),
        ("tunedModels/m", False, "tunedModels/m"),
        ("meta/llama-4", True, "publishers/meta/models/llama-4"),
        ("publishers/google/models/m", True, "publishers/google/models/m"),
    ],
)
def test_names_of_models(model: str, vertex: bool, path: str) -> None:
    assert asked(replace(PLAIN, model=model), vertexai=vertex).url.path.endswith(f"/{path}:streamGenerateContent")


@pytest.mark.parametrize("model", ["../secret", "m?key=1", "m#x", "m\n"])
def test_a_name_that_a_url_cannot_have_is_refused(model: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        asked(replace(PLAIN, model=model))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_credentials_need_asyncio(anyio_backend: str) -> None:
    provider = get_provider(
        "google", vertexai=True, project="p", credentials=Credentials(), http_client=Vendor(OK).client()
    )
    with pytest.raises(ConfigError, match="asyncio"):
        await stream_request(PLAIN, provider=provider).collect()


# What is sent


@pytest.mark.parametrize(
    ("settings", "config"),
    [
        ({"temperature": 0.2, "max_tokens": 9, "seed": 1}, {"temperature": 0.2, "maxOutputTokens": 9, "seed": 1}),
        ({"stop": "END"}, {"stopSequences": ["END"]}),
        ({"reasoning": "low"}, {"thinkingConfig": {"includeThoughts": True, "thinkingLevel": "low"}}),
        ({"reasoning": 500}, {"thinkingConfig": {"includeThoughts": True, "thinkingBudget": 500}}),
        ({"reasoning": "none"}, {"thinkingConfig": {"thinkingBudget": 0}}),
        (
            {"reasoning": "low", "model": "gemini-2.5-flash"},
            {"thinkingConfig": {"includeThoughts": True, "thinkingBudget": 1024}},
        ),
        (
            {"output_schema": {"type": "object"}},
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}},
        ),
    ],
)
def test_the_generation_config(settings: Json, config: Json) -> None:
    assert sent(replace(PLAIN, **settings))["generationConfig"] == config


def test_extra_keys_merge_and_tools_are_appended() -> None:
    extra: Json = {
        "tools": [{"googleSearch": {}}],
        "generationConfig": {"topP": 0.5},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    }
    body = sent(replace(PLAIN, tools=[Tool("f")], temperature=0, extra=extra))
    assert [[*tool] for tool in body["tools"]] == [["functionDeclarations"], ["googleSearch"]]
    assert body["generationConfig"] == {"temperature": 0, "topP": 0.5}
    assert body["safetySettings"] == extra["safetySettings"]


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ("f", {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_the_choice_of_a_tool(choice: str, config: Json) -> None:
    body = sent(replace(PLAIN, tools=[Tool("f", "Do.", {"type": "object"})], tool_choice=choice))
    assert body["toolConfig"] == {"functionCallingConfig": config}
    declared = {"name": "f", "description": "Do.", "parametersJsonSchema": {"type": "object"}}
    assert body["tools"] == [{"functionDeclarations": [declared]}]


CALLS = (ToolCall("a", "tide", '{"at": "Brest"}'), ToolCall("b", "moon", "", 1))


def turns(*results: Message, calls: tuple[ToolCall, ...] = CALLS) -> Request:
    messages = [Message("user", "Hi"), Message("assistant", "Wait.", tool_calls=calls), *results]
    return replace(PLAIN, messages=messages)


def test_results_of_one_turn_are_one_turn_and_have_the_names_of_their_calls() -> None:
    body = sent(turns(Message("tool", "5 m", tool_call_id="a"), Message("tool", '{"phase": 0.5}', tool_call_id="b")))
    assert body["contents"][2] == {
        "role": "user",
        "parts": [
            {"functionResponse": {"name": "tide", "response": {"output": "5 m"}}},
            {"functionResponse": {"name": "moon", "response": {"phase": 0.5}}},
        ],
    }


@pytest.mark.parametrize(("model", "signed"), [("gemini-3.5-flash", True), ("gemini-2.5-flash", False), ("m", False)])
def test_the_first_call_of_another_vendors_answer_gets_a_signature_for_gemini_3(model: str, signed: bool) -> None:
    parts = sent(replace(turns(), model=model))["contents"][1]["parts"]
    assert ["thoughtSignature" in part for part in parts] == [False, signed, False]


def test_a_result_without_its_call_is_refused() -> None:
    with pytest.raises(ConfigError, match="'c'"):
        sent(turns(Message("tool", "5 m", tool_call_id="c")))


def test_pictures_go_into_a_result_and_never_into_a_system_message() -> None:
    picture = Image(data=b"\x89PNG", media_type="image/png")
    result = Message("tool", [Text("Here."), picture], tool_call_id="a")
    part = sent(turns(result, calls=CALLS[:1]))["contents"][2]["parts"][0]["functionResponse"]
    assert part["response"] == {"output": "Here."}
    assert part["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}}]
    with pytest.raises(ConfigError, match="system message"):
        sent(replace(PLAIN, messages=[Message("system", [picture]), Message("user", "Hi")]))


def test_vertex_ai_needs_the_type_of_a_file() -> None:
    request = replace(PLAIN, messages=[Message("user", [Document(url="gs://bucket/file")])])
    assert sent(request)["contents"][0]["parts"] == [{"fileData": {"fileUri": "gs://bucket/file"}}]
    with pytest.raises(ConfigError, match="media_type"):
        sent(request, vertexai=True)


# Errors


def failure(vendor: Vendor) -> Exception:
    with pytest.raises(Exception) as caught:
        asyncio.run(stream_request(ask(), provider=vendor.provider("google"), max_retries=0).collect())
    return caught.value


def error_body(code: int, status: str, *details: Json) -> bytes:
    return json.dumps({"error": {"code": code, "message": "No.", "status": status, "details": details}}).encode()


def test_a_refused_key_has_the_status_of_a_bad_request() -> None:
    body = error_body(400, "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"})
    error = failure(Vendor(body, status=400))
    assert isinstance(error, AuthenticationError)
    assert (error.status, error.code, error.retryable) == (400, "API_KEY_INVALID", False)


def test_the_time_to_wait_is_in_the_details() -> None:
    error = failure(Vendor(error_body(429, "RESOURCE_EXHAUSTED", {"retryDelay": "22.5s"}), status=429))
    assert isinstance(error, RateLimitError)
    assert (error.code, error.retry_after) == ("RESOURCE_EXHAUSTED", 22.5)


def test_another_status_than_200_is_an_error_also_as_an_event_stream() -> None:
    assert isinstance(failure(Vendor(error_body(400, "INVALID_ARGUMENT"), status=400)), BadRequestError)


def test_a_blocked_prompt_is_refused(tmp_path: Any) -> None:
    (tmp_path / "p.yaml").write_text("user: Hi\n", "utf-8")
    vendor = Vendor(b'data: {"promptFeedback": {"blockReason": "SAFETY"}}\n\n')
    with pytest.raises(ContentRefused):
        asyncio.run(execute_prompt_async("p", provider=vendor.provider("google"), prompts_dir=tmp_path))
    vendor = Vendor(b'data: {"promptFeedback": {"blockReason": "SAFETY"}}\n\n')
    answer: Completion = asyncio.run(stream_request(ask(), provider=vendor.provider("google")).collect())
    assert (answer.finish_reason, answer.finish_detail) == ("content_filter", {"blockReason": "SAFETY"})
