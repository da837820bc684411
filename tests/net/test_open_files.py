"""Test what a caller sees when the process may open no more files, and that the limit is raised where it can be."""

from __future__ import annotations

import errno
import subprocess
import sys

import httpx2
import pytest

from streamcore.net.http_errors import map_transport_error
from streamcore.net.open_files import is_out_of_files
from streamcore.testing import FaultServer
from streamcore.testing.faults.fault_server import ANSWER
from streamcore.testing.faults.spoiled import begun, chunked
from streamcore.testing.faults.steps import Hold, Send
from tests.support import wire_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CHILD = """
import asyncio, os, resource, sys
from streamcore import Message, Request, StreamcoreError, get_provider, stream_request

url, transport, may_raise, retries = sys.argv[1:]
provider = get_provider("openai", api_key="k", base_url=url, model="m", transport=transport)
request = Request([Message("user", "hi")])

async def main():
    async with stream_request(request, provider=provider) as first:
        await anext(first)
        fill = [os.dup(0)]
        lowest = max(map(int, os.listdir("/proc/self/fd"))) + 1
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        try:
            while fill[-1] < lowest:
                fill.append(os.dup(0))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (fill[-1] + 1, hard if may_raise == "yes" else fill[-1] + 1))
        try:
            async with stream_request(request, provider=provider, max_retries=int(retries)) as second:
                print((await anext(second)).kind)
        except StreamcoreError as error:
            print(type(error).__name__, error, error.retryable)

asyncio.run(main())
"""


def run_child(url: str, transport: str, *, may_raise: bool, retries: int) -> str:
    given = [url, transport, "yes" if may_raise else "no", str(retries)]
    done = subprocess.run([sys.executable, "-c", CHILD, *given], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.long
@pytest.mark.parametrize("transport", ["httpx2", "aiohttp"])
def test_the_limit_is_raised_and_the_request_sent_again(transport: str) -> None:
    with FaultServer([Send(chunked(*begun(wire_of("openai"), ANSWER))), Hold()], wire=wire_of("openai")) as server:
        url = server.url + "/v1"
        assert run_child(url, transport, may_raise=True, retries=1) == "start"
        failed = run_child(url, transport, may_raise=True, retries=0)
        assert failed.startswith("ConnectionFailed")
        assert "has reached its limit of" in failed
        assert "so try again" in failed
        refused = run_child(url, transport, may_raise=False, retries=0)
        assert "raise the hard limit (`ulimit -Hn 65536`" in refused


def test_the_error_of_a_system_is_found_in_causes_and_groups() -> None:
    system = OSError(errno.EMFILE, "Too many open files")
    failed = httpx2.ConnectError("All connection attempts failed")
    failed.__cause__ = OSError("several")
    failed.__cause__.__cause__ = ExceptionGroup("several", [OSError(errno.ECONNREFUSED, "refused"), system])
    assert is_out_of_files(failed)
    assert "open files" in str(map_transport_error(failed, streaming=False, provider="p"))
    assert not is_out_of_files(httpx2.ConnectError("refused"))
