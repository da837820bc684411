"""Read `images:` and `documents:` of a prompt file: what is sent with the user's message, beside its text."""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote_to_bytes

from pydantic import Field, model_validator

from streamcore.files.yaml_model import FileModel, wrong
from streamcore.request import Document, Image, Part

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
MAX_BYTES = 32 * 1024 * 1024
"""The maximum size of a file that a prompt sends."""


class ImageBlock(FileModel):
    """One entry of `images:`: a URL, with variables, or a file below the prompt's folder."""

    url: str | None = None
    path: str | None = None
    media_type: str | None = Field(default=None, pattern=r"^[\w.+-]+/[\w.+-]+$")

    @model_validator(mode="after")
    def _one_source(self) -> ImageBlock:
        sources = self.sources()
        if len(sources) != 1:
            raise wrong(f"expected exactly one of {', '.join(map(repr, self.known_sources()))}")
        if self.path is not None and ("{" in self.path or not self.path):
            raise wrong("a path has no variables, so that no value can name another file; use 'url'", "path")
        if self.url is not None and "{" not in self.url and self.url.strip():
            try:
                check_url(self.url)
            except ValueError as error:
                raise wrong(str(error), "url") from error
        return self

    def known_sources(self) -> tuple[str, ...]:
        """Return the keys of which an entry has one."""
        return ("url", "path")

    def sources(self) -> Mapping[str, str]:
        """Return the key that the entry has, with its text."""
        found = ((key, getattr(self, key)) for key in self.known_sources())
        return {key: text for key, text in found if text is not None}

    def templates(self) -> Mapping[str, str]:
        """Return the texts that may have variables, by key."""
        return {key: text for key, text in self.sources().items() if key != "path"}

    def part(self, filled: Mapping[str, str], folder: Path) -> Part:
        """Return the image, with the texts of `templates` filled in.

        Raises:
            ValueError: a file cannot be read, a URL is empty or not valid, or the type of a file is not known.
        """
        data, media_type = self._data(filled, folder)
        if data is None:
            return Image(url=filled["url"], media_type=media_type)
        return Image(data=data, media_type=_required(media_type))

    def _data(self, filled: Mapping[str, str], folder: Path) -> tuple[bytes | None, str | None]:
        """Return the bytes of a file or of a `data:` URL, None for another source; and the type."""
        if self.path is not None:
            return read_file(folder, self.path), self.media_type or mimetypes.guess_type(self.path)[0]
        for key, text in filled.items():
            if not text.strip():
                raise ValueError(f"{key!r} is empty")
        url = filled.get("url", "")
        if url:
            check_url(url)
        if url.startswith("data:"):
            data, found = data_url(url)
            return data, self.media_type or found
        return None, self.media_type


class DocumentBlock(ImageBlock):
    """One entry of `documents:`: as an image, or the vendor's id of a file."""

    file_id: str | None = None
    name: str | None = None

    def known_sources(self) -> tuple[str, ...]:
        """Return the keys of which an entry has one."""
        return ("url", "path", "file_id")

    def part(self, filled: Mapping[str, str], folder: Path) -> Part:
        """Return the document; see `ImageBlock.part`."""
        data, media_type = self._data(filled, folder)
        name = self.name or (Path(self.path).name if self.path is not None else None)
        if data is not None:
            return Document(data=data, media_type=_required(media_type), name=name)
        return Document(url=filled.get("url"), file_id=filled.get("file_id"), media_type=media_type, name=name)


def check_url(url: str) -> None:
    """Raise ValueError for a text without a scheme, which is the path of a file in most cases."""
    if not _SCHEME.match(url.strip()):
        raise ValueError(f"{url!r} is not a URL; for a file below the prompt's folder, write {{path: {url}}}")


def _required(media_type: str | None) -> str:
    if media_type is None:
        raise ValueError("the type of the file is not known; set 'media_type', as in application/pdf")
    return media_type


def read_file(folder: Path, path: str) -> bytes:
    """Return the bytes of a file below a folder; neither `..` nor a link leads out of it.

    Raises:
        ValueError: there is no such file below the folder, or it has more than `MAX_BYTES`.
    """
    target = folder / path
    try:
        if not target.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{path!r} leads out of the prompt's folder, {folder}")
        with target.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{target} cannot be read ({error.strerror})") from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"{target} has more than {MAX_BYTES} bytes")
    return data


def data_url(url: str) -> tuple[bytes, str | None]:
    """Return the bytes and the type of a `data:` URL (RFC 2397).

    Raises:
        ValueError: it is not valid.
    """
    head, comma, data = url.removeprefix("data:").partition(",")
    if not comma:
        raise ValueError("the data URL has no comma")
    media_type = head.partition(";")[0] or None
    if not head.endswith(";base64"):
        return unquote_to_bytes(data), media_type
    try:
        return base64.b64decode(data, validate=True), media_type
    except (binascii.Error, ValueError) as error:
        raise ValueError("the data URL is not valid base64") from error
