"""Check the sources of a provider, its model, key and address, and the lifetime of its clients."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from streamcore import (
    BadRequestError,
    ConfigError,
    MissingAPIKey,
    NotFoundError,
    ProviderNotFound,
    aclose_providers,
    get_provider,
    lifespan,
    provider_names,
    stream_prompt,
    stream_request,
)
from streamcore.concurrency.resources import OpenResources, known_resources, open_resources
from streamcore.provider import Provider, vendor
from streamcore.testing import Answer, Simulator
from tests.support import (
    EVERY_RUN,
    GATEWAYS,
    KEY,
    VENDORS,
    Vendor,
    ask,
    body_of,
    eventually,
    first_short,
    provider_at,
    require,
    wait_until,
)

KEYLESS = ("ollama", "vllm", "lmstudio")
asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"])


def variable(name: str, what: str) -> str:
    """Return the environment variable of a provider, as the documentation names it."""
    return f"{'OPENAI' if name == 'openai-responses' else name.upper()}_{what}"


@pytest.fixture
def environment(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Let every provider's variables point at the simulator."""
    for name in [*VENDORS, *GATEWAYS]:
        monkeypatch.setenv(variable(name, "BASE_URL"), simulator.base_url(name))
        monkeypatch.setenv(variable(name, "API_KEY"), KEY)
    return simulator


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    (tmp_path / "plain.yaml").write_text("user: Hi", "utf-8")
    (tmp_path / "full.yaml").write_text("user: Hi\nprovider: openai\nmodel: from-the-file\ntemperature: 0.1\n", "utf-8")
    (tmp_path / "thinker.yaml").write_text("user: Hi\nprovider: openai\nreasoning: low\n", "utf-8")
    return tmp_path


def used(simulator: Simulator) -> tuple[str, str, float | None]:
    """Return the path, the model and the temperature of the last request."""
    request = simulator.requests[-1]
    if request.path.startswith("/model/"):
        return request.path, request.body["model"], request.body["inferenceConfig"].get("temperature")
    return request.path, request.body["model"], request.body.get("temperature")


# Finding a provider


def test_the_promised_providers_are_installed() -> None:
    gateways = {"ollama", "openrouter", "groq", "deepseek", "xai", "together", "gemini", "vllm", "lmstudio"}
    assert {*VENDORS, *gateways, "demo"} <= set(provider_names())
    assert set(GATEWAYS) >= gateways
    assert provider_names() == sorted(provider_names())


@pytest.mark.parametrize("name", [*VENDORS, *GATEWAYS, "demo"])
def test_a_provider_has_its_name_with_and_without_its_sdk(name: str) -> None:
    provider = get_provider(name)
    assert isinstance(provider, Provider)
    assert provider.name == name
    row = vendor(name)
    assert row is not None
    assert row.name == name


@pytest.mark.parametrize(
    ("wrong", "near"), [("antropic", "anthropic"), ("open-ai", "openai"), ("OpenAI", "openai"), ("mistrall", "mistral")]
)
def test_an_unknown_name_is_an_error_with_a_suggestion(wrong: str, near: str) -> None:
    with pytest.raises(ProviderNotFound, match=f"did you mean '{near}'") as caught:
        get_provider(wrong)
    assert repr(wrong) in str(caught.value)
    assert all(name in str(caught.value) for name in provider_names())


@pytest.mark.parametrize("given", [None, 5])
def test_what_is_no_name_is_an_error(given: Any) -> None:
    with pytest.raises(ConfigError, match="of get_provider is a provider's name, a mapping of name and settings, or "):
        get_provider(given)


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(ProviderNotFound) as caught:
        get_provider("zzzzzz")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", [*VENDORS, *GATEWAYS, "demo"])
def test_an_unknown_setting_names_itself(name: str) -> None:
    with pytest.raises(ConfigError, match="tempo") as caught:
        get_provider(name, tempo=3)
    assert repr(name) in str(caught.value)


OWN = """
    from streamcore import Chunk

    class Echo:
        name = "echo"
        def __init__(self, *, model=None, shout=False):
            self.shout = shout
        async def stream(self, request):
            text = request.messages[-1].text
            yield [Chunk("start", id="1", model=request.model)]
            yield [Chunk("text", text.upper() if self.shout else text), Chunk("finish", finish_reason="stop")]
        async def aclose(self):
            pass

    class Folder:
        make = Echo

    ready = Echo(shout=True)
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(OWN), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)  # pyright: ignore[reportUnknownMemberType]
    return name


@pytest.mark.anyio
async def test_a_custom_provider(own_module: str) -> None:
    shouting = get_provider(f"{own_module}:Echo", shout=True)
    assert (await stream_request(ask("hi"), provider=shouting).collect()).text == "HI"
    for name, text in (("Echo", "hi"), ("Folder.make", "hi"), ("ready", "HI")):
        answer = await stream_request(ask("hi"), provider=f"{own_module}:{name}").collect()
        assert (answer.text, answer.complete, answer.attempts[0].provider) == (text, True, "echo")


def test_an_invalid_custom_provider(own_module: str) -> None:
    with pytest.raises(ConfigError, match="volume"):
        get_provider(f"{own_module}:Echo", volume=11)
    with pytest.raises(ConfigError, match="takes no settings"):
        get_provider(f"{own_module}:ready", model="x")
    for name in (f"{own_module}:Missing", "no_such_module:Echo", f"{own_module}:", ":Echo"):
        with pytest.raises(ProviderNotFound) as caught:
            get_provider(name)
        assert repr(name) in str(caught.value)
        assert caught.value.__cause__ is not None


def python(code: str, *path: Path, **variables: str) -> str:
    """Run a script with warnings as errors; it must write nothing to stderr. Return what it prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **variables}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return result.stdout


def test_a_third_partys_provider_is_found_by_its_entry_point(tmp_path: Path) -> None:
    (tmp_path / "acme_streams.py").write_text(textwrap.dedent(OWN))
    info = tmp_path / "acme_streams-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-streams\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[streamcore.providers]\nacme = acme_streams:Echo\n")
    (tmp_path / "hello.yaml").write_text("user: Hello {name}\nprovider: acme\n")
    code = """
        import asyncio
        from streamcore import execute_prompt_async, get_provider, provider_names
        assert "acme" in provider_names()
        assert type(get_provider("acme", shout=True)).__module__ == "acme_streams"
        print(asyncio.run(execute_prompt_async("hello", {"name": "World"})), end="")
    """
    assert python(code, tmp_path, STREAMCORE_PROMPTS_DIR=str(tmp_path)) == "Hello World"


def test_a_missing_sdk_says_what_to_install() -> None:
    code = """
        import importlib.abc, sys

        class Blocked(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("anthropic", "openai", "mistralai"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Blocked())
        import streamcore
        for name in streamcore.provider_names():
            try:
                streamcore.get_provider(name)
            except streamcore.ProviderNotInstalled as error:
                print(name, str(error).rpartition("run: ")[2])
            else:
                print(name, "works")
    """
    expected = dict.fromkeys([*GATEWAYS, "openai", "openai-responses"], 'pip install -e ".[openai]"')
    expected |= {name: f'pip install -e ".[{name}]"' for name in ("anthropic", "mistral")}
    expected |= {"demo": "works", "replay": "works"}
    reported = dict(line.split(" ", 1) for line in python(code).splitlines())
    assert expected.items() <= reported.items()


# Precedence


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("name", VENDORS)
async def test_the_model_is_the_requests_the_providers_the_environments_or_the_default(
    name: str, environment: Simulator, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    default = vendor(name)
    assert default is not None
    await stream_request(ask(), provider=name).collect()
    assert used(environment)[1] == default.default_model
    monkeypatch.setenv(variable(name, "MODEL"), "from-the-environment")
    await stream_request(ask(), provider=name).collect()
    assert used(environment)[1] == "from-the-environment"
    await stream_request(ask(), provider=get_provider(name, model="from-the-provider")).collect()
    assert used(environment)[1] == "from-the-provider"
    request = ask(model="from-the-request")
    await stream_request(request, provider=get_provider(name, model="from-the-provider")).collect()
    assert used(environment)[1] == "from-the-request"


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["vllm", "lmstudio", "together"])
async def test_without_any_model_the_error_names_every_way_to_set_one(name: str, environment: Simulator) -> None:
    with pytest.raises(ConfigError) as caught:
        await stream_request(ask(), provider=name).collect()
    assert all(word in str(caught.value) for word in (repr(name), "model=", "`model:`", variable(name, "MODEL")))
    assert environment.requests == []


@pytest.mark.anyio
async def test_arguments_override_the_prompts_model_and_temperature_which_override_the_environment(
    environment: Simulator, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "from-the-environment")
    chat = "/v1/chat/completions"

    async def run(prompt: str, **arguments: Any) -> tuple[str, str, float | None]:
        await stream_prompt(prompt, prompts_dir=prompts, **arguments).collect()
        return used(environment)

    assert await run("plain", provider="openai") == (chat, "from-the-environment", 0.7)
    assert await run("full") == (chat, "from-the-file", 0.1)
    assert await run("full", model="from-the-call", temperature=0.0) == (chat, "from-the-call", 0.0)
    assert await run("full", provider="openai-responses") == ("/v1/responses", "from-the-file", 0.1)
    ready = get_provider("groq", model="from-the-provider")
    assert await run("plain", provider=ready) == (chat, "from-the-provider", 0.7)
    assert await run("thinker") == (chat, "from-the-environment", None)
    # The file's model is a name of the file's vendor: another vendor is not asked for it.
    assert await run("full", provider="groq") == (chat, vendor("groq").default_model, 0.1)  # type: ignore[union-attr]


@pytest.mark.anyio
async def test_the_provider_is_the_arguments_the_files_or_the_environments(
    environment: Simulator, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(prompt: str, **arguments: Any) -> str:
        stream = stream_prompt(prompt, prompts_dir=prompts, **arguments)
        await stream.collect()
        return stream.partial.attempts[0].provider

    with pytest.raises(ConfigError) as caught:
        await run("plain")
    assert all(word in str(caught.value) for word in ("provider=", "`provider:`", "plain.yaml", "STREAMCORE_PROVIDER"))
    monkeypatch.setenv("PROVIDER", "groq")
    assert await run("plain") == "groq"
    monkeypatch.setenv("STREAMCORE_PROVIDER", "anthropic")
    assert await run("plain") == "anthropic"
    assert await run("full") == "openai"
    assert await run("full", provider="xai") == "xai"


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("name", [*VENDORS, *GATEWAYS])
async def test_key_and_address_of_the_caller_override_the_environment(
    name: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    monkeypatch.setenv(variable(name, "BASE_URL"), simulator.base_url(name))
    monkeypatch.setenv(variable(name, "API_KEY"), "sk-from-the-environment")
    await stream_request(ask(model="m"), provider=name).collect()
    await stream_request(ask(model="m"), provider=get_provider(name, api_key="sk-from-the-caller")).collect()
    monkeypatch.setenv(variable(name, "BASE_URL"), "http://nowhere.invalid")
    await stream_request(ask(model="m"), provider=provider_at(simulator, name, api_key=None)).collect()
    seen = [str(dict(request.headers)) for request in simulator.requests]
    keys = ["sk-from-the-environment", "sk-from-the-caller", "sk-from-the-environment"]
    assert [key in headers for key, headers in zip(keys, seen, strict=True)] == [True] * 3


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("name", [name for name in [*VENDORS, *GATEWAYS] if name not in KEYLESS])
async def test_a_missing_key_names_the_variable(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # the SDK looks for profiles there
    if name in GATEWAYS:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-vendor")
    with pytest.raises(MissingAPIKey) as caught:
        await stream_request(ask(model="m"), provider=name).collect()
    assert variable(name, "API_KEY") in str(caught.value)
    assert "api_key=" in str(caught.value)


@pytest.mark.anyio
async def test_anthropic_accepts_a_token_instead_of_a_key(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-0123456789")
    provider = get_provider("anthropic", base_url=simulator.base_url("anthropic"))
    assert (await stream_request(ask(), provider=provider).collect()).complete
    assert simulator.requests[0].headers["authorization"] == "Bearer token-0123456789"


# A default temperature that the model refuses


def picky(monkeypatch: pytest.MonkeyPatch) -> tuple[Provider, list[float | None]]:
    """Return a provider whose vendor refuses every temperature, and the ones that it is asked for."""
    asked: list[float | None] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        asked.append(body.get("temperature"))
        if "temperature" in body:
            message = "Unsupported value: 'temperature' does not support 0.7 with this model."
            return httpx2.Response(400, json={"error": {"message": message, "code": "unsupported_value"}})
        return httpx2.Response(200, content=body_of("openai-chat", Answer.of("ok")))

    monkeypatch.setattr("streamcore.pipeline.adapt._refusing", set[Any]())
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(handle))
    return get_provider("openai", api_key=KEY, http_client=http), asked


@pytest.mark.anyio
async def test_a_refused_default_temperature_is_left_out_and_not_tried_again(
    prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, asked = picky(monkeypatch)
    for _ in range(2):
        answer = await stream_prompt("plain", provider=provider, model="picky", prompts_dir=prompts).collect()
        assert (answer.text, answer.complete) == ("ok", True)
    assert asked == [0.7, None, None]
    await stream_prompt("plain", provider=provider, model="another", prompts_dir=prompts).collect()
    assert asked[3:] == [0.7, None], "what one model refuses, another may take"


@pytest.mark.anyio
async def test_a_temperature_that_was_set_and_is_refused_raises(prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, asked = picky(monkeypatch)
    for prompt, temperature in (("full", None), ("plain", 0.7)):
        with pytest.raises(BadRequestError, match="temperature"):
            await stream_prompt(prompt, provider=provider, prompts_dir=prompts, temperature=temperature).collect()
    assert asked == [0.1, 0.7]


# OpenAI's settings are not sent to gateways

OPENAI_ENVIRONMENT = {
    "OPENAI_API_KEY": "leaked-key",
    "OPENAI_ADMIN_KEY": "leaked-admin-key",
    "OPENAI_ORG_ID": "leaked-organization",
    "OPENAI_PROJECT_ID": "leaked-project",
    "OPENAI_CUSTOM_HEADERS": "X-Custom: leaked-header",
    "OPENAI_WEBHOOK_SECRET": "leaked-secret",
}


@pytest.mark.anyio
@asyncio_only
@pytest.mark.parametrize("name", GATEWAYS)
@pytest.mark.parametrize("ready_client", [False, True])
async def test_nothing_of_openai_reaches_a_gateway(
    name: str, ready_client: bool, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    for key, value in OPENAI_ENVIRONMENT.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://leaked.invalid/v1")
    monkeypatch.setenv(variable(name, "BASE_URL"), simulator.base_url(name))

    async with httpx2.AsyncClient() as http:
        settings: dict[str, Any] = {"http_client": http} if ready_client else {}
        if name not in KEYLESS:
            settings["api_key"] = "sk-of-the-gateway"
        await stream_request(ask(model="m"), provider=get_provider(name, **settings)).collect()
    (request,) = simulator.requests
    assert "leaked" not in str(dict(request.headers))
    assert "leaked" not in str(request.body)
    assert not {"openai-organization", "openai-project", "x-custom"} & set(request.headers)
    key = settings.get("api_key", "none")
    assert (request.headers.get("api-key") if name == "azure" else request.headers["authorization"]) in (
        key,
        f"Bearer {key}",
    )


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["openai", "openai-responses"])
async def test_openai_uses_the_settings_that_its_sdk_reads(
    name: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in OPENAI_ENVIRONMENT.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url(name))
    await stream_request(ask(), provider=name).collect()
    headers = simulator.requests[0].headers
    assert headers["authorization"] == "Bearer leaked-key"
    assert (headers["openai-organization"], headers["openai-project"]) == ("leaked-organization", "leaked-project")


# Clients


@pytest.mark.anyio
@pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)
async def test_other_settings_have_another_client_and_share_connections(
    name: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable(name, "BASE_URL"), simulator.base_url(name))
    for key in ("sk-first-key", "sk-second-key", "sk-first-key"):
        monkeypatch.setenv(variable(name, "API_KEY"), key)
        await stream_request(ask(), provider=name).collect()
        assert key in str(dict(simulator.requests[-1].headers))
    assert simulator.connections == 1


@pytest.mark.anyio
@pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)
async def test_a_ready_provider_sees_another_key_and_address_at_once(
    name: str, environment: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = get_provider(name)
    with Simulator() as elsewhere:
        for key in ("sk-first-key", "sk-second-key"):
            monkeypatch.setenv(variable(name, "API_KEY"), key)
            for _ in range(2):
                await stream_request(ask(), provider=provider).collect()
                assert key in str(dict(environment.requests[-1].headers))
        monkeypatch.setenv(variable(name, "BASE_URL"), elsewhere.base_url(name))
        await stream_request(ask(), provider=provider).collect()
        assert len(elsewhere.requests) == 1
        assert environment.connections == 1
        await aclose_providers()


@pytest.mark.parametrize("sdk", ["openai.AsyncOpenAI", "anthropic.AsyncAnthropic"])
def test_the_sdks_still_have_the_method_whose_answer_is_remembered(sdk: str) -> None:
    module, _, client = sdk.partition(".")
    assert callable(getattr(getattr(importlib.import_module(module), client), "_prepare_url", None))


@pytest.mark.anyio
@pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)
async def test_clients_can_be_closed_and_come_back(name: str, simulator: Simulator) -> None:
    provider = provider_at(simulator, name)
    await stream_request(ask(), provider=provider).collect()
    await aclose_providers()
    await eventually(lambda: not simulator.clients, "the connection was closed")
    assert (await stream_request(ask(), provider=provider).collect()).complete
    assert simulator.connections == 2
    async with lifespan(object()):
        await stream_request(ask(), provider=provider).collect()
    await eventually(lambda: not simulator.clients, "the connection was closed")
    assert simulator.connections == 2
    await aclose_providers()


@pytest.mark.anyio
async def test_closing_clients_where_there_are_none_does_nothing() -> None:
    await aclose_providers()
    async with lifespan():
        pass


@pytest.mark.anyio
async def test_one_client_that_cannot_be_closed_does_not_keep_the_others_open(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []

    async def fail() -> None:
        raise OSError("no")

    async def close() -> None:
        closed.append("second")

    resources = await open_resources()
    resources.clients.update({"a": (object(), fail), "b": (object(), close)})
    await aclose_providers()
    assert closed == ["second"]
    assert "closing 'object' failed" in caplog.text


@pytest.mark.parametrize("name", VENDORS)
def test_two_loops_at_once_do_not_share_a_client(name: str, simulator: Simulator) -> None:
    provider = provider_at(simulator, name)
    meeting = threading.Barrier(2)
    texts: list[str] = []

    async def run() -> None:
        for _ in range(3):
            meeting.wait(60)
            texts.append((await stream_request(ask(), provider=provider).collect()).text)

    threads = [threading.Thread(target=asyncio.run, args=[run()]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(texts)) == 1
    assert len(texts) == 6
    assert simulator.connections == 2


@pytest.mark.parametrize(("backend", "name"), EVERY_RUN)
def test_every_loop_closes_its_clients(backend: str, name: str, simulator: Simulator) -> None:
    provider = provider_at(simulator, name)

    async def run() -> str:
        return (await stream_request(ask(), provider=provider).collect()).text

    assert anyio.run(run, backend=backend) == anyio.run(run, backend=backend)
    wait_until(lambda: not simulator.clients, "the connections were closed")
    assert simulator.connections == 2


FORK = """
    import asyncio, os, warnings
    from streamcore import Message, Request, get_provider, stream_request

    provider = get_provider({name!r}, api_key="sk-0123456789", model="m", base_url={url!r})

    async def ask():
        return (await stream_request(Request([Message("user", "Hi")]), provider=provider).collect()).complete

    async def main():
        assert await ask()
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork beside threads
        child = os.fork()
        if child == 0:
            os._exit(0 if asyncio.run(ask()) else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert await ask()

    asyncio.run(main())
"""


@pytest.mark.parametrize("name", first_short(VENDORS))
def test_a_fork_has_its_own_clients_and_does_not_close_its_parents(name: str, simulator: Simulator) -> None:
    require(hasattr(os, "fork"), "this system cannot fork")
    python(FORK.format(name=name, url=simulator.base_url(name)), STREAMCORE_TRANSPORT="httpx2")
    assert len(simulator.requests) == 3
    assert simulator.connections == 2


@pytest.mark.anyio
async def test_resources_opened_before_a_fork_are_not_the_childs(monkeypatch: pytest.MonkeyPatch) -> None:
    resources = await open_resources()
    assert known_resources() is resources
    with monkeypatch.context() as patch:
        patch.setattr("streamcore.concurrency.resources.os.getpid", lambda: resources.pid + 1)
        assert known_resources() is None
    closed: list[str] = []

    async def close() -> None:
        closed.append("client")

    inherited = OpenResources()
    inherited.clients["key"] = (object(), close)
    await anext(inherited.guard)
    inherited.pid += 1
    await inherited.guard.aclose()
    assert closed == []


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_mistral_under_trio_says_what_to_do(simulator: Simulator, anyio_backend: str) -> None:
    with pytest.raises(ConfigError, match="asyncio") as caught:
        await stream_request(ask(), provider=provider_at(simulator, "mistral")).collect()
    assert "provider 'openai' with base_url=" in str(caught.value)
    assert simulator.requests == []


@pytest.mark.anyio
@pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)
async def test_the_error_of_a_wrong_address_shows_no_secrets(name: str) -> None:
    provider = Vendor(status=404).provider(name, base_url="http://me:hidden@somewhere.test/api")
    with pytest.raises(
        NotFoundError, match=r"404 Not Found to http://somewhere\.test/api/.+; is the base URL"
    ) as caught:
        await stream_request(ask(), provider=provider).collect()
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("name", [*VENDORS, *GATEWAYS])
def test_only_an_async_client_of_httpx2_is_accepted(name: str) -> None:
    httpx = pytest.importorskip("httpx")
    for client, kind in ((httpx.AsyncClient(), "httpx.AsyncClient"), (httpx2.Client(), "httpx2.Client")):
        settings: dict[str, Any] = {"api_key": "sk-0123456789", "base_url": "http://127.0.0.1:1", "http_client": client}
        with pytest.raises(ConfigError, match=f"must be an httpx2.AsyncClient, not a {kind};"):
            get_provider(name, **settings)


@pytest.mark.anyio
@pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)
async def test_a_client_that_is_closed_is_a_config_error(name: str) -> None:
    http_client = httpx2.AsyncClient()
    await http_client.aclose()
    provider = get_provider(name, api_key=KEY, base_url="http://127.0.0.1:1", http_client=http_client)
    with pytest.raises(ConfigError, match=rf"the HTTP client of provider '{name}' is closed; keep the http_client= or"):
        await stream_request(ask(), provider=provider).collect()


def test_a_client_of_another_sdk_is_refused() -> None:
    anthropic, openai = pytest.importorskip("anthropic"), pytest.importorskip("openai")
    clients = {"anthropic": openai.AsyncOpenAI(api_key="k"), "openai": anthropic.AsyncAnthropic(api_key="k")}
    clients |= dict.fromkeys(("openai-responses", "mistral"), "sk-key")
    for name, client in clients.items():
        with pytest.raises(ConfigError, match=f"client= of provider '{name}' is a client of the package "):
            get_provider(name, client=client)


@pytest.mark.parametrize("setting", ["api_key", "http_client"])
def test_a_client_has_its_own_settings(setting: str) -> None:
    client = pytest.importorskip("openai").AsyncOpenAI(api_key="k")
    settings: dict[str, Any] = {
        "api_key": "k",
        "base_url": "http://127.0.0.1:1/v1",
        "http_client": httpx2.AsyncClient(),
    }
    with pytest.raises(ConfigError, match=f"has {setting}= and client=, which has its own"):
        get_provider("openai", client=client, **{setting: settings[setting]})


def test_demo_says_that_it_takes_no_client() -> None:
    with pytest.raises(ConfigError, match=r"'demo'.*sends nothing over a network, so leave out http_client$"):
        get_provider("demo", http_client=httpx2.AsyncClient())
    with pytest.raises(ConfigError, match=r"'demo'.*unexpected keyword argument 'speed'$"):
        get_provider("demo", speed=3)
