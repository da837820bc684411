"""Read the documents of clients' requests, in the forms of the chat dialect and of the Responses API."""

from __future__ import annotations

from streamcore.request import Document
from streamcore.wire.encoding.reading import Fields, image_of


def document_at(url: str, where: Fields, key: str, name: str | None = None) -> Document:
    """Return the document at a URL; the data of a `data:` URL are decoded."""
    found = image_of(url, where, key)
    return Document(url=found.url, data=found.data, media_type=found.media_type, name=name)


def file_part(fields: Fields, *, url_key: str | None = None) -> Document:
    """Return the document of an object with `file_id`, or `file_data` and `filename`, or a URL under `url_key`.

    Raises:
        RequestRefused: there is not exactly one of them.
    """
    name, identity, data = fields.text("filename"), fields.text("file_id"), fields.text("file_data")
    url = None if url_key is None else fields.text(url_key)
    if sum(one is not None for one in (identity, data, url)) != 1:
        others = "" if url_key is None else f", {url_key}"
        raise fields.refuse("file_id", f"is required, or one of file_data{others}, and only one of them")
    if identity is not None:
        return Document(file_id=identity, name=name)
    if url is not None:
        return document_at(url, fields, url_key or "", name)
    return document_at(data or "", fields, "file_data", name)
