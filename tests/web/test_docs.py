"""Run the snippets of docs/serve.md, and compare its tables with the routes."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest

from streamcore.prompts.message_variable import INPUTS
from streamcore.web.sessions import MAX_SESSIONS
from tests.serving import listen, serving
from tests.snippets import blocks, run_script

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "serve.md"


@pytest.mark.long
def test_the_pages_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("prompts", "graphs"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    branded, with_files, mounted, guarded, cookies = blocks(PAGE, "python")
    with serving(run_script(branded)["app"]) as url:
        assert httpx2.get(f"{url}/assets/settings.json").json()["title"] == "Ask the library"
    with serving(run_script(with_files)["app"]) as url:
        about = httpx2.get(f"{url}/about").json()
        assert (about["accepts"], about["max_file_bytes"]) == (
            ["image/png", "image/jpeg", "application/pdf"],
            2_000_000,
        )
    with serving(run_script(mounted)["app"]) as url:
        assert listen(url, "/interview/stream?format=json")[1].json["message"] == "What is your name?"
        assert httpx2.get(f"{url}/interview/").status_code == 200
        assert listen(url, "/chat/stream?prompt=Hi")[-1].data == "[DONE]"
    with serving(run_script(guarded)["app"]) as url:
        assert httpx2.get(f"{url}/stream?prompt=Hi").status_code == 401
        assert listen(url, "/stream?prompt=Hi", headers={"Authorization": "Bearer s3cret"})[-1].data == "[DONE]"
    with serving(run_script(cookies)["app"]) as url:
        assert httpx2.get(f"{url}/chat/").status_code == 200
        assert httpx2.get(f"{url}/chat/stream?prompt=Hi").status_code == 401
        assert httpx2.post(f"{url}/login", json={"name": "ada", "password": "wrong"}).status_code == 401
        cookie = httpx2.post(f"{url}/login", json={"name": "ada", "password": "s3cret"}).headers["set-cookie"]
        headers = {"Cookie": cookie.partition(";")[0]}
        assert listen(url, "/chat/stream?prompt=Hi", headers=headers)[-1].data == "[DONE]"


def test_the_page_names_the_real_routes_and_figures() -> None:
    from streamcore.web import create_app

    text = PAGE.read_text("utf-8")
    documented = set(re.findall(r"`(?:GET|POST) (/[\w{}/]*)", text))
    spec = create_app(ROOT / "graphs" / "interview.yaml", provider="demo").openapi()
    assert documented - {"/openapi"} == set(spec["paths"])
    assert f"{MAX_SESSIONS:,}" in text
    for name in INPUTS:
        assert f"`{name}`" in text
