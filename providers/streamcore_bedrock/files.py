"""Encode images and documents as content blocks; the API takes bytes, or an object in S3."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Mapping
from typing import Any

from streamcore.provider import Vendor
from streamcore.request import Document, Image

_IMAGES: Mapping[str, str] = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS: Mapping[str, str] = {
    "application/msword": "doc",
    "application/pdf": "pdf",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "text/plain": "txt",
}
_ENDINGS: Mapping[str, str] = {"htm": "html", "jpg": "jpeg", "jpe": "jpeg"}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9\s()\[\]-]+")
_MOST_CHARACTERS = 200
_ADVICE = "give data= and media_type=, or the URL of an object in S3 (s3://...)"


def file_block(part: Image | Document, vendor: Vendor) -> dict[str, Any]:
    """Return the content block of an image or a document.

    Raises:
        ConfigError: the format is unknown, or the file is given by another URL than S3's, or by an id.
    """
    if isinstance(part, Image):
        return {"image": {"format": _format(part, _IMAGES, "an image", vendor), "source": _source(part, vendor)}}
    kind = _format(part, _DOCUMENTS, "a document", vendor)
    return {"document": {"format": kind, "name": _name(part), "source": _source(part, vendor)}}


def _source(part: Image | Document, vendor: Vendor) -> dict[str, Any]:
    if part.data is not None:
        return {"bytes": part.base64}
    url = part.url or ""
    if url.startswith("s3://"):
        return {"s3Location": {"uri": url}}
    if url.startswith("data:") and ";base64," in url:
        return {"bytes": url.partition(";base64,")[2]}
    form = "file_id=" if isinstance(part, Document) and part.file_id is not None else "a URL that is not in S3"
    what = "an image" if isinstance(part, Image) else "a document"
    raise vendor.unsupported(f"{what} by {form}", _ADVICE)


def _format(part: Image | Document, formats: Mapping[str, str], what: str, vendor: Vendor) -> str:
    """Return the API's name for a format: of `media_type`, else of the URL."""
    url = part.url or ""
    media_type = part.media_type
    if media_type is None and url.startswith("data:"):
        media_type = url[5:].partition(";")[0]
    media_type = media_type or mimetypes.guess_type(url.partition("?")[0])[0]
    found = formats.get((media_type or "").partition(";")[0].strip().lower())
    if found is not None:
        return found
    ending = url.partition("?")[0].rpartition(".")[2].lower()
    ending = _ENDINGS.get(ending, ending)
    if ending in formats.values():
        return ending
    if url and not url.startswith(("s3://", "data:")):
        raise vendor.unsupported(f"{what} by a URL that is not in S3", _ADVICE)
    known = ", ".join(sorted(formats.values()))
    raise vendor.unsupported(f"{what} of the type {media_type!r}", f"its API accepts {known}; set media_type=")


def _name(document: Document) -> str:
    """Return the name with the characters that the API accepts: no dots, and single blanks.

    It must have one; the vendor warns that models read names like instructions, so no other text is used.
    """
    stem = (document.name or "").rpartition(".")[0] or document.name or ""
    name = " ".join(_NOT_IN_NAMES.sub(" ", stem).split())
    return name[:_MOST_CHARACTERS].strip() or "document"


def name_documents(messages: Iterable[dict[str, Any]], vendor: Vendor) -> None:
    """Give each document a name of its own, in order, since models refuse two documents with one name.

    Raises:
        ConfigError: a message has a document and no text, which the API refuses.
    """
    used: set[str] = set()
    for message in messages:
        blocks: list[dict[str, Any]] = message["content"]
        if any("document" in block for block in blocks) and not any("text" in block for block in blocks):
            raise vendor.unsupported("a document without a text in the same message", "add a text to the message")
        inner = [part for block in blocks for part in block.get("toolResult", {}).get("content", ())]
        for block in [*blocks, *inner]:
            if "document" in block:
                block["document"]["name"] = _unused(block["document"]["name"], used)


def _unused(name: str, used: set[str]) -> str:
    found, number = name, 1
    while found in used:
        number += 1
        found = f"{name[: _MOST_CHARACTERS - 8].strip()} {number}"
    used.add(found)
    return found
