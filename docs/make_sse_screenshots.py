"""Make the pictures of the example pages in docs/img, with Debian's Chromium and the provider demo.

python docs/make_sse_screenshots.py
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "img"
PICTURES = (
    ("fastapi-sse.png", "examples/fastapi_sse.py", "/", "#state:text-is('done')"),
    ("htmx2.png", "examples/htmx/app.py", "/htmx2", "article .answer:has-text('nothing lost.')"),
    ("htmx4.png", "examples/htmx/app.py", "/htmx4", "article .answer:has-text('nothing lost.')"),
)


@contextmanager
def serving(script: str) -> Iterator[str]:
    """Run an example; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    environment = {**os.environ, "STREAMCORE_PROVIDER": "demo"}
    server = subprocess.Popen([sys.executable, str(ROOT / script), "--port", str(port)], env=environment)  # noqa: S603  our own examples
    try:
        while server.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Ask on every page, wait for the end, take the picture."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 760, "height": 420}, color_scheme="light")
        for picture, script, path, end in PICTURES:
            with serving(script) as address:
                page.goto(address + path)
                page.click("button")
                page.wait_for_selector(end)
                page.screenshot(path=IMAGES / picture)
        browser.close()


if __name__ == "__main__":
    main()
