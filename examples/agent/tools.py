"""Define the tools of the agent: search the notes of a folder, and save a note."""

from __future__ import annotations

import os
import re
from pathlib import Path


def folder() -> Path:
    """Return the folder of the notes: `NOTES`, or the one beside this file."""
    return Path(os.environ.get("NOTES") or Path(__file__).with_name("notes"))


def search_notes(words: str) -> list[dict[str, str]]:
    """Find the notes that have at least one of the words.

    Args:
        words: words, with spaces between them.
    """
    wanted = [word for word in re.findall(r"\w+", words.lower()) if len(word) > 2]
    notes = {path.stem: path.read_text("utf-8") for path in sorted(folder().glob("*.md"))}
    return [
        {"title": title, "text": text} for title, text in notes.items() if any(word in text.lower() for word in wanted)
    ]


def save_note(title: str, text: str) -> str:
    """Save a note; one with the same title is replaced.

    Args:
        title: a short title, of letters, digits and hyphens.
        text: the note, as Markdown.
    """
    if not re.fullmatch(r"[\w-]{1,60}", title):
        raise ValueError("a title has letters, digits and hyphens only")
    (folder() / f"{title}.md").write_text(text + "\n", "utf-8")
    return f"saved {title}"
