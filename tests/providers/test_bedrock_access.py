"""Test how Bedrock's provider finds region, endpoint and credentials, signs, refreshes, and hides secrets."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import botocore.auth
import botocore.session
import httpx2
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError, EndpointConnectionError
from botocore.loaders import JSONFileLoader

from streamcore import (
    AuthenticationError,
    ConfigError,
    ConnectionFailed,
    MissingAPIKey,
    ProviderError,
    Request,
    get_provider,
    stream_request,
    warm_up,
)
from streamcore.testing import Answer
from streamcore_bedrock.access import Account
from tests.support import DEADLINE, KEY, Vendor, ask, body_of, eventually

pytestmark = pytest.mark.anyio

KEY_ID = "AKIAIOSFODNN7PLANTED"
SECRET = "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"
TOKEN = "IQoJb3JpZ2luX2VjPLANTED//////////wEaCXVzLWVhc3QtMSJ"
BODY = body_of("bedrock-converse", Answer.of("ok"))


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that hold AWS's credentials, of a session."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)


async def asked(request: Request | None = None, vendor: Vendor | None = None, **settings: Any) -> httpx2.Request:
    """Return the request that a provider with these settings sends."""
    vendor = vendor or Vendor(BODY)
    given: dict[str, Any] = {"model": "m", "http_client": vendor.client(), **settings}
    provider = get_provider("bedrock", **given)
    await stream_request(request or ask(), provider=provider, max_retries=0).collect()
    return vendor.requests[-1]


def signed_by_botocore(request: httpx2.Request, region: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the header that botocore itself makes for what was received, at the same time."""
    now = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)

    def clock(*_: object, **__: object) -> datetime:
        return now

    monkeypatch.setattr(botocore.auth, "get_current_datetime", clock)
    made = AWSRequest("POST", str(request.url), data=request.content)
    SigV4Auth(Credentials(KEY_ID, SECRET, TOKEN), "bedrock", region).add_auth(made)
    return str(made.headers["Authorization"])


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    "model",
    ["m", "us.anthropic.claude-x-v1:0", "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova"],
)
async def test_a_request_is_signed_for_what_is_sent(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    request = await asked(region="eu-west-1", model=model)
    assert request.url.host == "bedrock-runtime.eu-west-1.amazonaws.com"
    path = request.url.raw_path.decode()
    assert path == f"/model/{model.replace(':', '%3A').replace('/', '%2F')}/converse-stream"
    authorization = request.headers["authorization"]
    assert authorization.startswith(f"AWS4-HMAC-SHA256 Credential={KEY_ID}/")
    assert "/eu-west-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token, " in authorization
    assert request.headers["x-amz-security-token"] == TOKEN
    assert authorization == signed_by_botocore(request, "eu-west-1", monkeypatch)


@pytest.mark.parametrize("variable", ["BEDROCK_API_KEY", "AWS_BEARER_TOKEN_BEDROCK", None])
async def test_an_api_key_replaces_the_signature(variable: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"api_key": KEY} if variable is None else {}
    if variable is not None:
        monkeypatch.setenv(variable, KEY)
    request = await asked(region="us-east-1", **settings)
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert "x-amz-date" not in request.headers


@pytest.mark.usefixtures("keys")
async def test_the_region_is_the_settings_the_environments_or_the_profiles(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"[default]\nregion = eu-north-1\n[profile other]\nregion = ca-central-1\n"
        f"aws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n",
        "utf-8",
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    async def host(**settings: Any) -> str:
        return (await asked(**settings)).url.host.split(".")[1]

    assert await host() == "eu-north-1"
    assert await host(profile="other") == "ca-central-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    assert await host() == "ap-south-1"
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert await host() == "us-west-2"
    assert await host(region="eu-west-3") == "eu-west-3"
    with pytest.raises(ConfigError, match="nobody"):
        await host(profile="nobody")


@pytest.mark.usefixtures("keys")
async def test_other_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await asked(region="cn-north-1")).url.host == "bedrock-runtime.cn-north-1.amazonaws.com.cn"
    given: dict[str, Any] = {"region": "us-east-1", "base_url": "https://vpce-1.example/"}
    assert str((await asked(**given)).url) == "https://vpce-1.example/model/m/converse-stream"
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "https://endpoint.example")
    assert (await asked(region="us-east-1")).url.host == "endpoint.example"


async def test_without_credentials_or_a_region_the_error_names_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingAPIKey, match=r"AWS_ACCESS_KEY_ID.*AWS_BEARER_TOKEN_BEDROCK.*profile="):
        await asked(region="us-east-1")
    with pytest.raises(ConfigError, match=r"region=.*AWS_REGION"):
        await asked(api_key=KEY)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    with pytest.raises(ConfigError, match="Partial credentials"):
        await asked(region="us-east-1")


async def test_a_client_of_botocore_is_refused() -> None:
    with pytest.raises(ConfigError, match="session="):
        get_provider("bedrock", client=object())
    with pytest.raises(ConfigError, match="did you mean 'region'"):
        get_provider("bedrock", regoin="us-east-1")


class Boto3Session:
    """The part of a boto3 session that is used: it wraps a botocore session."""

    region_name = "eu-west-2"

    def __init__(self) -> None:
        self._inner: Any = botocore.session.Session()
        self._inner.set_credentials(KEY_ID, SECRET)
        self.client = self._inner.create_client
        self.get_credentials: Callable[[], Any] = self._inner.get_credentials


async def test_a_session_has_credentials_and_a_region() -> None:
    session: Any = botocore.session.Session()
    session.set_credentials(KEY_ID, SECRET)
    assert f"Credential={KEY_ID}/" in (await asked(region="us-east-1", session=session)).headers["authorization"]
    request = await asked(session=Boto3Session())
    assert request.url.host == "bedrock-runtime.eu-west-2.amazonaws.com"
    assert f"Credential={KEY_ID}/" in request.headers["authorization"]


def test_botocores_data_files_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account(region="us-east-1", signs=False)
    place = account.find()
    load = JSONFileLoader.load_file
    parsed: list[str] = []

    def noting(self: JSONFileLoader, file_path: str) -> Any:
        parsed.append(file_path)
        return load(self, file_path)

    monkeypatch.setattr(JSONFileLoader, "load_file", noting)
    assert account.find() == place
    assert parsed == []


# Credentials that expire


class Role:
    """Credentials of a role, which count their refreshes and the threads of these."""

    def __init__(
        self, *, lifetime: float = 3600, fails: Exception | None = None, blocks: threading.Event | None = None
    ) -> None:
        self.threads: list[int] = []
        self.blocks = blocks
        self._lifetime = lifetime
        self.fails: Exception | None = fails
        expired = datetime.now(UTC) - timedelta(seconds=60)
        self.session = cast("Any", botocore.session.Session())
        credentials = RefreshableCredentials("old", "old", "old", expired, self._refresh, "role")
        self.session.get_credentials = lambda: credentials

    def _refresh(self) -> dict[str, str]:
        self.threads.append(threading.get_ident())
        if self.blocks is not None:
            self.blocks.wait(DEADLINE)
        time.sleep(0.05)  # it blocks, as the request of a real refresh does
        if self.fails is not None:
            raise self.fails
        expires = datetime.now(UTC) + timedelta(seconds=self._lifetime)
        return {
            "access_key": KEY_ID,
            "secret_key": SECRET,
            "token": TOKEN,
            "expiry_time": expires.isoformat(),
        }


async def test_credentials_are_refreshed_in_a_thread_once_for_all_streams() -> None:
    role = Role()
    sent: list[httpx2.Request] = []

    async def one() -> None:
        sent.append(await asked(region="us-east-1", session=role.session))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(one)
    assert len(role.threads) == 1
    assert role.threads != [threading.get_ident()]
    assert all(f"Credential={KEY_ID}/" in request.headers["authorization"] for request in sent)


async def test_a_reader_that_is_cancelled_does_not_wait_for_the_refresh() -> None:
    role = Role(blocks=threading.Event())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(asked, region="us-east-1", session=role.session))
        await eventually(lambda: role.threads, "the refresh began")
        tasks.cancel_scope.cancel()
    assert role.blocks is not None
    assert not role.blocks.is_set(), "the refresh still waits"
    role.blocks.set()


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (
            CredentialRetrievalError(provider="sso", error_msg=f"expired {TOKEN}"),
            AuthenticationError,
        ),
        (EndpointConnectionError(endpoint_url="https://sts.example"), ConnectionFailed),
    ],
)
async def test_a_refresh_that_fails_is_an_error_of_ours(failure: Exception, kind: type[ProviderError]) -> None:
    with pytest.raises(kind, match="credentials could not be loaded") as caught:
        await asked(region="us-east-1", session=Role(fails=failure).session)
    assert caught.value.provider == "bedrock"


async def test_refused_credentials_are_looked_up_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def write(key_id: str) -> None:
        file.write_text(f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {SECRET}\n", "utf-8")

    write("AKIAOLDOLDOLDOLDOLD1")
    expired = Vendor(b'{"message": "The security token included in the request is expired"}', status=403)
    with pytest.raises(AuthenticationError, match="expired"):
        await asked(vendor=expired, region="us-east-1")
    write(KEY_ID)
    assert f"Credential={KEY_ID}/" in (await asked(region="us-east-1")).headers["authorization"]


async def test_warm_up_finds_what_is_missing() -> None:
    with pytest.raises(MissingAPIKey):
        await warm_up(get_provider("bedrock", region="us-east-1"))
    await warm_up(get_provider("bedrock", region="us-east-1", api_key=KEY))


# Secrets


@pytest.mark.usefixtures("keys")
async def test_no_secret_is_in_an_error_or_a_log(caplog: pytest.LogCaptureFixture) -> None:
    received: list[httpx2.Request] = []

    def echo(request: httpx2.Request) -> httpx2.Response:
        received.append(request)
        shown = f"The signature of {dict(request.headers)} with {SECRET} is wrong"
        return httpx2.Response(403, json={"message": shown}, headers={"x-amzn-requestid": TOKEN})

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(echo))
    provider = get_provider("bedrock", model="m", region="us-east-1", http_client=client)
    with caplog.at_level(logging.DEBUG), pytest.raises(AuthenticationError) as caught:
        await stream_request(ask(), provider=provider, max_retries=0).collect()
    shown = "".join([*traceback.format_exception(caught.value), repr(vars(caught.value)), caplog.text])
    signature = received[0].headers["authorization"].rpartition("Signature=")[2]
    for secret in (KEY_ID, SECRET, TOKEN, signature):
        assert secret not in shown


@pytest.mark.usefixtures("keys")
async def test_a_redirect_is_not_followed() -> None:
    vendor = Vendor(status=307, headers=[("location", "https://elsewhere.example/model/m/converse-stream")])
    client = httpx2.AsyncClient(transport=vendor, follow_redirects=True)
    provider = get_provider("bedrock", model="m", region="us-east-1", http_client=client)
    with pytest.raises(ProviderError, match="elsewhere"):
        await stream_request(ask(), provider=provider, max_retries=0).collect()
    assert len(vendor.requests) == 1


def test_a_second_event_loop_finds_its_own_credentials() -> None:
    role = Role()
    for _ in range(2):
        request = asyncio.run(asked(region="us-east-1", session=role.session))
        assert f"Credential={KEY_ID}/" in request.headers["authorization"]
    assert len(role.threads) == 1
