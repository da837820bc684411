"""Warn an operator whose traces and metrics nothing receives."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support import DEADLINE

SET_UP = """
from streamcore.cli.observing import set_up_observing
{provider}
set_up_observing(log_json=False, telemetry=True, warns={warns})
"""
PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("provider", "warns", "warned"), [("", True, True), ("", False, False), (PROVIDER, True, False)]
)
def test_telemetry_without_a_set_up_sdk_is_a_warning(provider: str, warns: bool, warned: bool) -> None:
    program = SET_UP.format(provider=provider, warns=warns)
    ended = subprocess.run(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=True
    )
    assert ("--telemetry sends nothing" in ended.stderr) == warned, ended.stderr


LIBRARIES = """
import logging
from streamcore.cli.observing import set_up_observing
from streamcore.cli.serve import new_server
set_up_observing(log_json=True, telemetry=False)

async def app(scope, receive, send): ...

new_server(app)
for name in ("asyncio", "dbos", "uvicorn.error", "streamcore"):
    try:
        int("broken")
    except ValueError:
        logging.getLogger(name).exception("failed")
"""


@pytest.mark.long
def test_with_log_json_every_record_is_one_line_of_json_also_those_of_libraries() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIBRARIES], stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=True
    )
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["logger"] for line in lines] == ["asyncio", "dbos", "uvicorn.error", "streamcore"]
    assert all("ValueError" in line["exception"] for line in lines)
