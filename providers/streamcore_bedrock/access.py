"""Find the region, the endpoint and the credentials of AWS as botocore does, and sign requests.

botocore reads files and asks servers with blocking calls, so all that may block runs in a thread, once for all streams
of an event loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from streamcore.concurrency.resources import known_resources
from streamcore.errors import AuthenticationError, ConfigError, ConnectionFailed, MissingAPIKey, StreamcoreError
from streamcore.net.clients import environment, shared_client

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

T = TypeVar("T")

SERVICE = "bedrock-runtime"
SIGNING_NAME = "bedrock"
BEARER = "AWS_BEARER_TOKEN_BEDROCK"
"""The variable with an API key of Bedrock, which replaces the signature."""
REGION = "AWS_REGION"
"""The variable of AWS's newer SDKs and of its runtimes; botocore itself reads `AWS_DEFAULT_REGION`."""


@dataclass(frozen=True, slots=True)
class ResolvedAccount:
    """What botocore found for an account: region, endpoint and credentials."""

    region: str
    endpoint: str
    credentials: Any
    """botocore's credentials, which may refresh themselves; None if an API key replaces them."""


@dataclass(frozen=True, slots=True)
class Account:
    """Say which account and region to use; what is None is left to botocore."""

    region: str | None = None
    profile: str | None = None
    base_url: str | None = None
    session: Any = None
    """A session of botocore or boto3 to use instead of a new one."""
    signs: bool = True
    """False if an API key of Bedrock replaces the signature, so that no credentials are needed."""

    def find(self) -> ResolvedAccount:
        """Return what botocore finds; this may block for seconds.

        Raises:
            ConfigError: there is no region, or no such profile.
            MissingAPIKey: there are no credentials.
            ConnectionFailed: a server that gives credentials cannot be reached.
            AuthenticationError: the credentials cannot be loaded.
        """
        return _mapped(self._find)

    def _find(self) -> ResolvedAccount:
        import botocore.session
        from botocore import UNSIGNED
        from botocore.config import Config

        session: Any = self.session
        if session is None:
            session = botocore.session.Session(profile=self.profile)
            session.register_component("data_loader", _data_loader(session.get_config_variable("data_path")))
        of_boto3 = not hasattr(session, "create_client")
        credentials = session.get_credentials() if self.signs else None
        if self.signs and credentials is None:
            raise MissingAPIKey(
                "provider 'bedrock' found no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                f"AWS_PROFILE, or an API key of Bedrock in {BEARER} or BEDROCK_API_KEY; or give profile=, session= or "
                "api_key= to get_provider('bedrock', ...)"
            )
        region = self.region or os.environ.get(REGION)
        region = region or (session.region_name if of_boto3 else session.get_config_variable("region"))
        if not region:
            raise ConfigError(
                "provider 'bedrock' has no region; give region= to get_provider('bedrock', ...), or set AWS_REGION or "
                "the region of the AWS profile"
            )
        # The client knows the endpoint, from files, variables and botocore's rules. It sends nothing.
        unsigned = Config(signature_version=UNSIGNED)
        create = session.client if of_boto3 else session.create_client
        client = create(SERVICE, region_name=region, endpoint_url=self.base_url, config=unsigned)
        endpoint: str = client.meta.endpoint_url
        client.close()
        return ResolvedAccount(region, endpoint, credentials)

    def key(self) -> Hashable:
        """Return what tells this account from others; a change of AWS's variables makes another one."""
        return "aws", self, environment("AWS_")


class Access:
    """Share what botocore finds among the streams of an event loop."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._lock = anyio.Lock()
        self._resolved: ResolvedAccount | None = None

    async def resolved(self) -> ResolvedAccount:
        """Return region, endpoint and credentials; the first call finds them in a thread."""
        if self._resolved is None:
            async with self._lock:
                if self._resolved is None:
                    self._resolved = await anyio.to_thread.run_sync(self._account.find, abandon_on_cancel=True)
        return self._resolved

    async def credentials(self) -> ReadOnlyCredentials:
        """Return credentials that are valid now; a refresh runs in a thread, once for all that wait for it.

        Raises:
            AuthenticationError, ConnectionFailed: they cannot be refreshed; see also `Account.find`.
        """
        credentials = (await self.resolved()).credentials
        stale: Callable[[], bool] = getattr(credentials, "refresh_needed", bool)
        if stale():
            async with self._lock:
                if stale():
                    refresh = partial(_mapped, credentials.get_frozen_credentials)
                    return await anyio.to_thread.run_sync(refresh, abandon_on_cancel=True)
        frozen: ReadOnlyCredentials = credentials.get_frozen_credentials()
        return frozen


async def shared_access(account: Account) -> Access:
    """Return the access of an account that the streams of the running loop share."""
    return await shared_client(account.key(), lambda: (Access(account), _nothing))


@lru_cache(maxsize=4)
def _data_loader(data_path: str | None) -> Any:
    """Return what reads and keeps botocore's data files: parsing them again for each session takes 0.1 s of CPU."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


def forget_access(account: Account) -> None:
    """Find the credentials anew for the next request, since the server refused these."""
    resources = known_resources()
    if resources is not None:
        resources.clients.pop(account.key(), None)


async def _nothing() -> None:
    """Close nothing: an access holds no connection."""


def signature(
    url: str, body: bytes, resolved: ResolvedAccount, credentials: ReadOnlyCredentials, headers: Mapping[str, str]
) -> dict[str, str]:
    """Return the headers that sign a POST request with this body: Signature Version 4.

    Only the host, the date and the session's token are signed besides the body; `headers` may name another host.
    `SigV4Auth.add_auth` does the same, but writes the token and the signature to botocore's debug log.
    """
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    added = {"X-Amz-Date": now} | ({"X-Amz-Security-Token": credentials.token} if credentials.token else {})
    host = {name: value for name, value in headers.items() if name.lower() == "host"}
    request = AWSRequest(method="POST", url=url, data=body, headers={**host, **added})
    request.context["timestamp"] = now
    signer = SigV4Auth(credentials, SIGNING_NAME, resolved.region)
    signed = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    names = signer.signed_headers(signer.headers_to_sign(request))
    scope = signer.scope(request)
    added["Authorization"] = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signed}"
    return added


def _mapped(find: Callable[[], T]) -> T:
    """Return the result of a call of botocore, with its errors as streamcore's."""
    from botocore import exceptions

    wrong = (
        exceptions.ConfigNotFound,
        exceptions.ConfigParseError,
        exceptions.InvalidConfigError,
        exceptions.InvalidRegionError,
        exceptions.PartialCredentialsError,
        exceptions.ProfileNotFound,
        exceptions.UnknownCredentialError,
    )
    unreachable = (exceptions.HTTPClientError, exceptions.ConnectionError)
    try:
        return find()
    except StreamcoreError:
        raise
    except wrong as error:
        raise ConfigError(f"the AWS settings of provider 'bedrock' are not valid: {error}") from error
    except unreachable as error:
        message = f"the AWS credentials could not be loaded: {error}"
        raise ConnectionFailed(message, provider="bedrock", retryable=True) from error
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        message = f"the AWS credentials could not be loaded: {error}"
        raise AuthenticationError(message, provider="bedrock", retryable=False) from error
