"""Set up every test: both async backends, a simulated vendor, no keys from the environment, no network but loopback."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, cast

import certifi
import httpx2
import pytest
from hypothesis import HealthCheck, settings

from streamcore import provider_names
from streamcore.net.transports import AUTO_VARIABLE
from streamcore.testing import Simulator
from tests.node_clients import NODE, NodeClients
from tests.planted import Watch, watching
from tests.support import BACKENDS, require
from tests.warm_process import warm_process

__all__ = ["require"]

PREFIXES = (
    "AWS_",
    *(f"{name.upper().replace('-', '_')}_" for name in [*provider_names(), "streamcore"] if name != "openai-responses"),
)
# Examples have no deadline, and may take long to make: on a busy machine any of them may be slow.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

LOOPBACK = ("127.", "::1", "localhost")

# httpx2 gives a request five seconds, which a busy machine may need.
for name in ("get", "post", "put", "patch", "delete", "head", "options", "request", "stream"):
    ask: Any = getattr(httpx2, name)
    getattr(ask, "__wrapped__", ask).__kwdefaults__["timeout"] = 200.0

# The options of this run, such as a report's name, are not meant for the projects whose tests some tests run.
os.environ.pop("PYTEST_ADDOPTS", None)

# A script that starts the tests in the background ignores Ctrl-C, and processes inherit that: a typed ^C does nothing.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Without compiled files each Python process takes seconds longer to start. The processes of all tests share theirs.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(__file__).resolve().parents[1] / ".venv" / "pycache"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Let all workers of pytest-xdist run programs with one process, which ends with this one."""
    node.workerinput["warm_process"] = warm_process().address


def pytest_configure(config: pytest.Config) -> None:
    """Use the process that was started for all workers."""
    if "warm_process" in getattr(config, "workerinput", {}):
        warm_process(cast("Any", config).workerinput["warm_process"])


@pytest.fixture(scope="session", autouse=True)
def planted() -> Iterator[Watch]:
    """Check logs, expected errors and recordings for the tests' API key."""
    with pytest.MonkeyPatch.context() as patch:
        yield from watching(patch)


@pytest.fixture(autouse=True)
def no_key_is_shown(planted: Watch) -> Iterator[None]:
    """Fail a test that showed the API key."""
    before = len(planted.found)
    yield
    assert planted.found[before:] == []


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each async test on asyncio and on trio."""
    name: str = request.param
    return name


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """Serve all four wires on loopback."""
    with Simulator() as running:
        yield running


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once, except where a vendor asks to wait."""
    monkeypatch.setattr("streamcore.pipeline.retry.FIRST_PAUSE", 0.0)


@pytest.fixture(scope="session")
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a file with one certificate: reading all of them takes longer than most tests."""
    end = "-----END CERTIFICATE-----\n"
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    path.write_text(Path(certifi.where()).read_text("utf-8").partition(end)[0] + end, "utf-8")
    return str(path)


@pytest.fixture(scope="session")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's TLS context with a self-signed certificate."""
    require(shutil.which("openssl"), "the program openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the million objects of the collection of tests, and of its imports, from the garbage collector.

    All of them stay, and `gc.collect()`, which many tests call, would visit each of them in a half second.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that run Node.js as long: each starts a process that loads many files."""
    for item in items:
        if "node" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.long)


@pytest.fixture
def node() -> NodeClients:
    """Run scripts with Node.js and the npm packages of tests/node."""
    require(NODE.exists(), "the JavaScript clients are not installed (make node)")
    return NodeClients()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, one_authority: str) -> None:
    """Remove environment variables that connect a test to a real vendor or change its result."""
    monkeypatch.setenv("SSL_CERT_FILE", one_authority)
    kept = ("STREAMCORE_REQUIRE_ALL", AUTO_VARIABLE)
    for name in list(os.environ):
        if name == "PROVIDER" or (name.startswith(PREFIXES) and name not in kept):
            monkeypatch.delenv(name)
    # As the plugin does for every project: tests count reads and mock httpx2. tests/net has the real default.
    monkeypatch.setenv(AUTO_VARIABLE, "httpx2")
    # botocore must not ask the metadata service of the machine, nor read files of its user.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow connections to loopback only: other names are not resolved, other addresses not connected to."""
    resolve = socket.getaddrinfo
    connect = socket.socket.connect

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and not name.startswith(LOOPBACK):
            raise socket.gaierror(socket.EAI_NONAME, f"tests may not reach {name!r}")
        return resolve(host, *arguments, **options)

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(LOOPBACK):
            raise OSError(f"tests may not reach {address!r}")
        connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", guarded)
