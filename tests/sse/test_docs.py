"""Run the snippets of docs/web.md, and the measurement that it names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.snippets import blocks, run_script
from tests.sse.test_response import get
from tests.sse_support import ROOT, parse, service

PAGE = ROOT / "docs" / "web.md"


def test_the_pages_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    text_app, html_app = (run_script(code)["app"] for code in blocks(PAGE, "python") if "FastAPI" in code)
    with service(text_app) as port:
        text = parse(get(port, "/stream?prompt=hello")[2])
        assert "".join(event.data for event in text).startswith("Hello!")
        assert text[-1].data == "[DONE]"
    with service(html_app) as port:
        fragments = parse(get(port, "/stream/session123")[2])
        assert fragments[0].data == "<span>Hello</span>"
        assert fragments[-1].event == "done"


@pytest.mark.long
def test_the_measurement_runs() -> None:
    """Its figures depend on the machine; that no client loses anything does not."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/sse.py"), "--events", "50", "--rounds", "1", "--clients", "20"],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert "20 of 20 simultaneous clients received all of 200 events" in done.stdout, done.stdout + done.stderr
