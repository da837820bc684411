"""Warn an operator whose traces and metrics nothing receives."""

from __future__ import annotations

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
