"""Encode documents as the `file` parts of Chat Completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamcore.provider import Vendor
from streamcore.request import Document

FORMS = ("data", "file_id")
"""The forms in which OpenAI accepts documents."""


def file_part(vendor: Vendor, forms: Sequence[str], document: Document) -> dict[str, Any]:
    """Return the content part of a document. Source: "File inputs", in the API's documentation: PDFs only.

    Raises:
        ConfigError: the server accepts no document of this type or in this form.
    """
    if document.form not in forms or not document.is_pdf:
        accepted = (
            f"its API accepts PDFs as {' or '.join(f'{form}=' for form in forms)}" if forms else "it accepts none"
        )
        raise vendor.unsupported(
            f"a document of the type {document.media_type!r} as {document.form}=",
            f"{accepted}; send its text as Text, or use another provider, such as 'openai-responses'",
        )
    if document.file_id is not None:
        return {"type": "file", "file": {"file_id": document.file_id}}
    return {"type": "file", "file": {"filename": document.file_name, "file_data": document.as_url}}
