"""Define the parts of a message's content: text, images and documents."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
PDF = "application/pdf"


@dataclass(frozen=True, slots=True)
class Text:
    """Represent text in the content of a message."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """Represent an image in the content of a message, given either by `url`, or by `data` and `media_type`.

    Raises:
        TypeError: `data` is not bytes.
        ValueError: neither or both of `url` and `data` are given, or `data` without `media_type`.
    """

    url: str | None = None
    """The image's URL, which the vendor loads."""
    data: bytes | None = None
    """The bytes of the image's file."""
    media_type: str | None = None
    """The format of `data`, as in `image/png`."""

    def __post_init__(self) -> None:
        if (self.url is None) == (self.data is None):
            raise ValueError("an Image takes either url= or data=")
        _check_data("an Image", self.data, self.media_type, "image/png")

    @property
    def base64(self) -> str:
        """The bytes in base64; "" for an image given by URL."""
        return base64.b64encode(self.data or b"").decode("ascii")

    @property
    def as_url(self) -> str:
        """The image as a URL; bytes become a `data:` URL."""
        return self.url if self.url is not None else f"data:{self.media_type};base64,{self.base64}"


@dataclass(frozen=True, slots=True)
class Document:
    """Represent a document in the content of a message: a PDF, a text, or another format that the vendor accepts.

    Give exactly one of `url`, `data` (with `media_type`) and `file_id`. A provider raises `ConfigError` for a document
    that its API cannot be sent; the guide "Providers" has a table of what each one accepts.

    Raises:
        TypeError: `data` is not bytes.
        ValueError: not exactly one of `url`, `data` and `file_id` is given, or `data` without `media_type`.
    """

    url: str | None = None
    """The document's URL, which the vendor loads."""
    data: bytes | None = None
    """The bytes of the document's file."""
    file_id: str | None = None
    """The vendor's id of a file that was uploaded before; Google's is the file's URI."""
    media_type: str | None = None
    """The format, as in `application/pdf` or `text/plain`."""
    name: str | None = None
    """The document's name, for the model, as in `contract.pdf`."""

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.url, self.data, self.file_id)) != 1:
            raise ValueError("a Document takes exactly one of url=, data= and file_id=")
        _check_data("a Document", self.data, self.media_type, PDF)

    @property
    def form(self) -> str:
        """How the document is given: `url`, `data` or `file_id`."""
        return "url" if self.url is not None else "data" if self.data is not None else "file_id"

    @property
    def base64(self) -> str:
        """The bytes in base64; "" for a document without `data`."""
        return base64.b64encode(self.data or b"").decode("ascii")

    @property
    def as_url(self) -> str:
        """The document as a URL; bytes become a `data:` URL. "" for a document given by the vendor's id."""
        if self.data is not None:
            return f"data:{self.media_type};base64,{self.base64}"
        return self.url or ""

    @property
    def is_pdf(self) -> bool:
        """False if `media_type` names another format than PDF."""
        return self.media_type in (None, PDF)

    @property
    def is_text(self) -> bool:
        """True if `media_type` names a text, such as `text/plain` or `text/markdown`."""
        return (self.media_type or "").startswith("text/")

    @property
    def text(self) -> str:
        """The text of a text's bytes, read as UTF-8.

        Raises:
            UnicodeDecodeError: the bytes are not UTF-8.
        """
        return (self.data or b"").decode("utf-8")

    @property
    def file_name(self) -> str:
        """The name; if there is none, `document` with the ending of the format."""
        import mimetypes

        return self.name or f"document{mimetypes.guess_extension(self.media_type or PDF) or ''}"


def _check_data(what: str, data: object, media_type: str | None, example: str) -> None:
    """Refuse data that are not bytes, or have no type; `example` is a type that the error shows."""
    if data is None:
        return
    if media_type is None:
        raise ValueError(f"{what} with data= needs media_type=, as in {example!r}")
    if not isinstance(data, bytes | bytearray | memoryview):
        kind = type(data).__name__
        raise TypeError(f"data= of {what} is the bytes of the file, not a {kind}; decode base64 with base64.b64decode")


Part = Text | Image | Document


def write_part(part: Part) -> Json:
    """Return a part as JSON."""
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Document):
        fields = {"url": part.url, "file_id": part.file_id, "media_type": part.media_type, "name": part.name}
        written = {key: value for key, value in fields.items() if value is not None}
        return {"type": "document", **written, **({} if part.data is None else {"data": part.base64})}
    if part.url is not None:
        return {"type": "image", "url": part.url}
    return {"type": "image", "media_type": part.media_type, "data": part.base64}


def read_part(given: Json) -> Part:
    """Return the part that `write_part` wrote.

    Raises:
        ValueError: a later version wrote it.
    """
    if given["type"] == "text":
        return Text(given["text"])
    if given["type"] not in ("image", "document"):
        raise ValueError(f"this streamcore does not know parts of the type {given['type']!r}: update it")
    url, encoded, media_type = given.get("url"), given.get("data"), given.get("media_type")
    data = None if encoded is None else base64.b64decode(encoded)
    if given["type"] == "image":
        return Image(url=url, data=data, media_type=media_type)
    return Document(url=url, data=data, file_id=given.get("file_id"), media_type=media_type, name=given.get("name"))
