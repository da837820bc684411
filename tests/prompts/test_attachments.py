"""Send images and documents with a prompt: by URL, as a file below the prompt's folder, or by the vendor's id."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from streamcore import Document, Image, PromptError, Text
from streamcore.prompts import attachments
from streamcore.prompts.prompt_file import load_prompt
from streamcore.request import Part


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts" / "files").mkdir(parents=True)
    (tmp_path / "prompts" / "files" / "terms.pdf").write_bytes(b"%PDF")
    (tmp_path / "prompts" / "chart.png").write_bytes(b"\x89PNG")
    (tmp_path / "secret.txt").write_bytes(b"secret")
    return tmp_path


def parts(text: str, **variables: Any) -> tuple[Part, ...]:
    Path("prompts/p.yaml").write_text(f"system: Be brief.\nuser: What is it?\n{text}", "utf-8")
    system, user = load_prompt("p").render(variables, {})
    assert (system.role, system.content, user.role) == ("system", "Be brief.", "user")
    *attached, question = user.parts
    assert question == Text("What is it?")
    return tuple(attached)


def test_images() -> None:
    text = """\
images:
  - https://example.org/{name}.png
  - url: "{{ photo }}"
  - path: chart.png
  - {url: "https://example.org/x", media_type: image/webp}
"""
    assert parts(text, name="a", photo="data:image/gif;base64,R0lG") == (
        Image(url="https://example.org/a.png"),
        Image(data=b"GIF", media_type="image/gif"),
        Image(data=b"\x89PNG", media_type="image/png"),
        Image(url="https://example.org/x", media_type="image/webp"),
    )


def test_documents() -> None:
    text = """\
documents:
  - "{link}"
  - path: files/terms.pdf
  - {path: files/terms.pdf, name: Terms, media_type: text/plain}
  - {file_id: "{upload}", media_type: application/pdf}
  - data:text/plain,Hello%20there
"""
    assert parts(text, link="https://example.org/a.pdf", upload="file-7") == (
        Document(url="https://example.org/a.pdf"),
        Document(data=b"%PDF", media_type="application/pdf", name="terms.pdf"),
        Document(data=b"%PDF", media_type="text/plain", name="Terms"),
        Document(file_id="file-7", media_type="application/pdf"),
        Document(data=b"Hello there", media_type="text/plain"),
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("images: ['{missing}']", "p.yaml:3: .*'missing'"),
        ("images: ['{empty}']", "p.yaml:3: .*'url' is empty"),
        ("images:\n  - path: ../secret.txt", "p.yaml:4: .*leads out of the prompt's folder"),
        ("images:\n  - path: link.png", "p.yaml:4: .*leads out of the prompt's folder"),
        ("images:\n  - path: none.png", "p.yaml:4: .*cannot be read"),
        ("documents:\n  - path: files", "p.yaml:4: .*cannot be read"),
        ("documents:\n  - path: unknown", "p.yaml:4: .*set 'media_type'"),
        ("images: ['data:image/png;base64,***']", "not valid base64"),
        ("images: ['data:image/png']", "no comma"),
    ],
)
def test_what_cannot_be_sent_names_file_and_line(text: str, why: str) -> None:
    Path("prompts/unknown").write_bytes(b"?")
    Path("prompts/link.png").symlink_to(Path("secret.txt").resolve())
    with pytest.raises(PromptError, match=re.compile(why, re.DOTALL)):
        parts(text, empty=" ")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("images:\n  - path: '{name}.png'", "a path has no variables"),
        ("images:\n  - {url: a, path: b}", "exactly one of 'url', 'path'"),
        ("documents:\n  - {name: a}", "exactly one of 'url', 'path', 'file_id'"),
        ("images:\n  - {urll: a}", "urll"),
        ("images: ['{{ a']", "p.yaml:3"),
    ],
)
def test_a_file_that_is_not_valid_is_refused_when_it_is_loaded(text: str, why: str) -> None:
    Path("prompts/p.yaml").write_text(f"system: Be brief.\nuser: What is it?\n{text}", "utf-8")
    with pytest.raises(PromptError, match=why):
        load_prompt("p")


def test_a_large_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "MAX_BYTES", 3)
    with pytest.raises(PromptError, match="more than 3 bytes"):
        parts("images:\n  - path: chart.png")


def test_variables_of_attachments_are_among_those_of_the_prompt() -> None:
    Path("prompts/p.yaml").write_text("user: Hi {name}\nimages: ['{photo}']\n", "utf-8")
    assert [text for _, text in load_prompt("p").file.templates()] == ["Hi {name}", "{photo}"]
