"""Test that private names of other libraries are used in one file a library, and that the installed versions have them.

A name is private if it begins with one underscore, or is in a module that does.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx2
import pytest
from yarl import URL

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("streamcore", "pytest_streamcore", *(path.name for path in (ROOT / "providers").iterdir() if path.is_dir()))
SOURCES = sorted(
    path for folder in ("streamcore", "pytest_streamcore", "providers") for path in (ROOT / folder).rglob("*.py")
)
DOCUMENTED = {"_replace", "_exit", "_typeshed"}  # of named tuples, of `os`, of type checkers: public all the same

# library: the file that uses its private names, and these as `module:path`
USED: dict[str, tuple[str, tuple[str, ...]]] = {
    "dbos": ("streamcore/durable/dbos_engine.py", ("dbos:DBOS._recover_pending_workflows",)),
    "aiohttp": (
        "streamcore/net/aiohttp_private.py",
        (
            "aiohttp.connector:BaseConnector._factory",
            *(f"aiohttp:ClientResponse.{name}" for name in ("_headers", "_raw_headers", "_request_info")),
            *(
                f"aiohttp.client_proto:ResponseHandler.{name}"
                for name in (
                    *("_loop", "_on_read_timeout", "_payload", "_read_timeout", "_read_timeout_handle"),
                    "_reschedule_timeout",
                )
            ),
            *(
                f"aiohttp:StreamReader.{name}"
                for name in ("_buffer", "_eof", "_exception", "_loop", "_low_water", "_protocol", "_size", "_waiter")
            ),
        ),
    ),
    "anthropic": (
        "providers/streamcore_anthropic/sdk_private.py",
        (
            "anthropic:AsyncAnthropic._client",
            "anthropic:AsyncAnthropic._prepare_url",
            "anthropic._models:construct_type",
        ),
    ),
    "google.genai": (
        "providers/streamcore_google/sdk_private.py",
        (
            *(f"google.genai._api_client:BaseApiClient.{name}" for name in ("_async_request_once", "_build_request")),
            *(
                f"google.genai._api_client:BaseApiClient.{name}"
                for name in ("_aiohttp_sessions", "_async_httpx_client", "_authorized_session", "_http_options")
            ),
            "google.genai._api_client:BaseApiClient._httpx_client",
            "google.genai.client:AsyncClient._api_client",
            "google.genai.types:GenerateContentResponse._from_response",
        ),
    ),
    "httpx2": (
        "streamcore/net/httpx2_private.py",
        (
            *(f"httpx2:AsyncClient.{name}" for name in ("_init_transport", "_init_proxy_transport")),
            *(f"httpx2:AsyncClient.{name}" for name in ("_mounts", "_transport")),
            "httpx2:AsyncHTTPTransport._pool",
            "httpcore2:AsyncHTTPProxy._proxy_headers",
            *(f"httpcore2:AsyncConnectionPool.{name}" for name in ("_connections", "_network_backend", "_requests")),
            "httpcore2:AsyncConnectionPool._max_keepalive_connections",
            "httpcore2._backends.anyio:AnyIOStream._stream",
            *(f"anyio._backends._asyncio:SocketStream.{name}" for name in ("_protocol", "_transport")),
            *(f"anyio._backends._asyncio:StreamProtocol.{name}" for name in ("is_at_eof", "read_queue")),
        ),
    ),
    "jinja2": ("streamcore/files/sandbox.py", ("jinja2.sandbox:SandboxedEnvironment._generate",)),
    "mistralai": (
        "providers/streamcore_mistral/http.py",
        ("mistralai.client.chat:Chat._build_request_async", "mistralai.client._hooks:HookContext"),
    ),
    "openai": (
        "providers/streamcore_openai/sdk_private.py",
        (
            "openai:AsyncOpenAI._client",
            "openai:AsyncOpenAI._prepare_url",
            "openai:AsyncOpenAI._custom_headers",
            "openai._models:construct_type",
        ),
    ),
    "re": ("streamcore/testing/simulator/example.py", ("re._parser:parse",)),
}
ALLOWED = {ROOT / path for path, _ in USED.values()}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def defined_in(tree: ast.Module) -> set[str]:
    """Return the private names that a file defines: functions, classes, variables, attributes and slots."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            # An attribute of another object is not defined by an assignment.
            if isinstance(node, ast.Name):
                names.add(node.id)
            elif isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                names.add(node.attr)
        elif isinstance(node, ast.Assign) and any(
            isinstance(to, ast.Name) and to.id == "__slots__" for to in node.targets
        ):
            names |= {one.value for one in ast.walk(node.value) if isinstance(one, ast.Constant)}  # type: ignore[misc]
    return {name for name in names if is_private(name)}


def private_uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of each private name that a file uses and does not define."""
    known = defined_in(tree) | DOCUMENTED
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] not in (*PACKAGES, "__future__"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            if node.func.id in ("getattr", "hasattr", "setattr", "delattr", "import_module"):
                names = [part for text in texts for part in text.split(".")]
        for name in names:
            if is_private(name) and name not in known:
                yield getattr(node, "lineno", 0), name


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@pytest.mark.parametrize(
    "source",
    [
        "def run(client): return client._transport",
        "class Ours(Theirs):\n    def run(self): return self._theirs",
        "def run(client): client._hidden = 1",
        "def run(client): return getattr(client, '_hidden')",
        "from lib._hidden import Name",
        "from lib import _hidden",
        "import lib._hidden",
        "import_module('lib._hidden')",
    ],
)
def test_a_private_name_is_seen(source: str) -> None:
    assert len(list(private_uses(ast.parse(source)))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "class Ours:\n    def __init__(self): self._own = 1\n    def run(self, other): return other._own",
        "class Ours:\n    __slots__ = ('_own',)\n    def run(self): return self._own",
        "def run(point): return point._replace(x=1)",
        "from streamcore.lib import _own",
        "for _ in range(3): pass",
        "def run(item): return item.__class__",
    ],
)
def test_a_name_of_this_package_is_not_a_private_one(source: str) -> None:
    assert not list(private_uses(ast.parse(source)))


@pytest.mark.parametrize("path", [path for path in SOURCES if path not in ALLOWED], ids=lambda path: path.stem)
def test_no_private_name_of_another_library_is_used(path: Path) -> None:
    uses = [f"line {line}: {name}" for line, name in private_uses(parsed(path))]
    assert not uses, "use these in the library's one file; see USED in this test"


def foreign_bases(kind: type) -> list[type]:
    roots = {*PACKAGES, *sys.stdlib_module_names}
    return [base for base in kind.__mro__ if base.__module__.split(".")[0] not in roots]


def overridden(module: ModuleType) -> Iterator[str]:
    """Yield the private names of another library's class that a class of this module overrides."""
    for kind in vars(module).values():
        if isinstance(kind, type) and kind.__module__ == module.__name__:
            for name in filter(is_private, vars(kind)):
                if name != "_abc_impl" and any(name in vars(base) for base in foreign_bases(kind)):
                    yield f"{kind.__qualname__}.{name}"


def module_name(path: Path) -> str:
    relative = path.relative_to(ROOT / "providers" if path.is_relative_to(ROOT / "providers") else ROOT)
    return ".".join(relative.with_suffix("").parts).removesuffix(".__init__")


def test_no_private_method_of_another_library_is_overridden() -> None:
    found: list[str] = []
    for path in SOURCES:
        if path not in ALLOWED and "__main__" not in path.name and "starter" not in path.parts:
            found += [f"{path.relative_to(ROOT)}: {name}" for name in overridden(import_module(module_name(path)))]
    assert not found


@pytest.mark.parametrize("library", USED)
def test_the_list_of_private_names_is_whole(library: str) -> None:
    path, names = USED[library]
    source = ROOT / path
    listed = {part for name in names for part in name.replace(":", ".").split(".") if is_private(part)}
    used = {name for _, name in private_uses(parsed(source))}
    used |= {name.rpartition(".")[2] for name in overridden(import_module(module_name(source)))}
    assert used <= listed
    used |= defined_in(parsed(source))  # assigned through `self`, to an attribute of the library's class
    code = source.read_text("utf-8")
    for name in (name.rpartition(".")[2].rpartition(":")[2] for name in names):
        assert name in used if is_private(name) else re.search(rf"\b{name}\b", code), f"{name} is not used"


def sample(owner: Any) -> Any:
    """Return an object of a class whose private attributes are set when it is made; other objects as they are."""
    import aiohttp
    from aiohttp.base_protocol import BaseProtocol
    from aiohttp.client_proto import ResponseHandler

    loop = asyncio.get_running_loop()
    if owner is ResponseHandler:
        return ResponseHandler(loop)
    if owner is aiohttp.StreamReader:
        return aiohttp.StreamReader(BaseProtocol(loop), 1024, loop=loop)
    if owner is aiohttp.ClientResponse:
        given: dict[str, Any] = dict.fromkeys(("writer", "continue100", "timer", "request_info", "session"))
        writer: Any = SimpleNamespace(output_size=0)
        return owner("GET", URL("http://host"), loop=loop, traces=[], stream_writer=writer, **given)
    if owner is aiohttp.connector.BaseConnector:
        return aiohttp.TCPConnector()
    name = getattr(owner, "__name__", "")
    if name == "BaseApiClient":
        return owner(api_key="none")
    if getattr(owner, "__module__", "") == "google.genai.client":
        from google import genai

        return genai.Client(api_key="none").aio
    if name in ("AsyncOpenAI", "AsyncAnthropic"):
        return owner(api_key="none")
    if owner in (httpx2.AsyncClient, httpx2.AsyncHTTPTransport):
        return owner()
    if name == "AsyncConnectionPool":
        return owner()
    if name == "AsyncHTTPProxy":
        return owner("http://proxy:1")
    if name == "AnyIOStream":
        return owner(None)
    if name == "SocketStream":
        return owner(None, None)
    if name == "StreamProtocol":
        protocol = owner()
        protocol.connection_made(SimpleNamespace(set_write_buffer_limits=lambda high: None))
        return protocol
    return owner


@pytest.mark.parametrize(("library", "place"), [(library, name) for library in USED for name in USED[library][1]])
def test_the_installed_version_has_it(library: str, place: str) -> None:
    module, _, path = place.partition(":")
    *outer, last = path.split(".")
    installed = sys.version if library == "re" else version(library)
    lacks = f"{library} {installed} has no {place}; correct {USED[library][0]}"

    async def check() -> bool:
        owner: Any = import_module(module)
        for part in outer:
            owner = getattr(owner, part)
        found = sample(owner) if outer else owner
        try:
            return hasattr(found, last)
        finally:
            close = getattr(found, "close", None)
            if found is not owner and close is not None and inspect.iscoroutinefunction(close):
                await close()

    try:
        has_it = asyncio.run(check())
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{lacks} ({error})")
    assert has_it, lacks
