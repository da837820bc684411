"""Check the files that users send with messages: their number, their sizes, and their types, by content."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from streamcore.errors import ConfigError
from streamcore.parts import PDF, Document, Image, Part
from streamcore.web.input_check import is_unicode, shown

IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
TEXT_TYPES = ("text/plain", "text/markdown", "text/csv")
FILE_TYPES = (*IMAGE_TYPES, PDF, *TEXT_TYPES)
"""The types whose content can be checked; no others are accepted."""

MAX_NAME = 200
"""The maximum number of characters of a file's name."""

_BEGINNINGS: Mapping[str, re.Pattern[bytes]] = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    PDF: re.compile(rb"%PDF-\d"),
}
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f/\\]")


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Describe which files users may send with their messages.

    Raises:
        ConfigError: a type is unknown, or a limit is not a number above 0.
    """

    types: Sequence[str] = FILE_TYPES
    """The types that are accepted, as far as the model's API takes them; the content must fit, not only the name."""
    max_bytes: int = 5_000_000
    """The maximum number of bytes of one file."""
    max_files: int = 5
    """The maximum number of files of one message."""
    max_total: int = 10_000_000
    """The maximum number of bytes of all files of one message."""

    def __post_init__(self) -> None:
        unknown = [one for one in self.types if one not in FILE_TYPES]
        if unknown or not self.types:
            listed = ", ".join(map(repr, unknown)) or "none"
            raise ConfigError(f"types= of FileOptions takes {', '.join(FILE_TYPES)}, not {listed}")
        for name in ("max_bytes", "max_files", "max_total"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}= of FileOptions must be 1 or more, not {getattr(self, name)!r}")

    @property
    def body_bytes(self) -> int:
        """How many bytes the files of one message may add to the body of a request."""
        return self.max_total * 4 // 3 + self.max_files * 8 * MAX_NAME


def file_options(accept: bool, max_bytes: int | None) -> FileOptions | bool:
    """Return what the options of the command line say.

    Raises:
        ConfigError: there is a size, but no files are accepted.
    """
    if not accept and max_bytes is not None:
        raise ConfigError("--max-file-bytes limits files, which only --accept-files accepts; give both")
    default = FileOptions()
    if not accept or max_bytes is None:
        return accept
    return FileOptions(max_bytes=max_bytes, max_total=max(max_bytes, default.max_total))


@dataclass(frozen=True, slots=True)
class UserFile:
    """A file that a user has sent with a message."""

    name: str
    media_type: str
    data: bytes = field(repr=False)

    def part(self) -> Part:
        """Return the part of a message that has the file."""
        if self.media_type in IMAGE_TYPES:
            return Image(data=self.data, media_type=self.media_type)
        return Document(data=self.data, media_type=self.media_type, name=self.name)

    def to_data(self) -> dict[str, str]:
        """Return the file as JSON data for the store."""
        return {"name": self.name, "media_type": self.media_type, "data": base64.b64encode(self.data).decode("ascii")}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> UserFile:
        """Return the file that `to_data` wrote."""
        return cls(data["name"], data["media_type"], base64.b64decode(data["data"]))


class SentFile(Protocol):
    """A file as a client sends it: `data` is its bytes in base64."""

    name: str
    media_type: str
    data: str


class FilesRefused(Exception):  # noqa: N818
    """The files of a message are not accepted; the message says why, for the client."""

    def __init__(self, why: str, *, too_large: bool = False) -> None:
        super().__init__(why)
        self.too_large = too_large


def read_files(sent: Sequence[SentFile], options: FileOptions, types: Sequence[str]) -> list[UserFile]:
    """Return the files that a client has sent. `types` are those that the model's API takes.

    Raises:
        FilesRefused: there are too many, one is too large or not of an accepted type, or is not what it says.
    """
    _check_count(len(sent), options)
    return [_read(one, options, types) for one in sent]


def check_files(files: Sequence[UserFile], options: FileOptions, types: Sequence[str]) -> None:
    """Check all files of a message, those of an earlier one that are sent again included.

    Raises:
        FilesRefused: there are too many, they are too large together, or the model's API does not take one.
    """
    _check_count(len(files), options)
    total = sum(len(one.data) for one in files)
    if total > options.max_total:
        raise FilesRefused(
            f"the files of a message may have at most {options.max_total} bytes together; these have {total}.",
            too_large=True,
        )
    for one in files:
        _check_type(one.name, one.media_type, types)


def _check_count(count: int, options: FileOptions) -> None:
    if count > options.max_files:
        raise FilesRefused(f"a message may have at most {options.max_files} files; this one has {count}.")


def _check_type(name: str, media_type: str, types: Sequence[str]) -> None:
    if media_type not in types:
        raise FilesRefused(
            f"the file {shown(name)} has the type {shown(media_type)}; types that are accepted: {', '.join(types)}."
        )


def _read(sent: SentFile, options: FileOptions, types: Sequence[str]) -> UserFile:
    name = sent.name
    if not name or len(name) > MAX_NAME or _NOT_IN_NAMES.search(name) or not is_unicode(name):
        raise FilesRefused(f"{shown(name)} is not a file's name: 1 to {MAX_NAME} characters, without folders.")
    _check_type(name, sent.media_type, types)
    if len(sent.data) > options.max_bytes * 4 // 3 + 4:
        raise _too_large(name, options)
    try:
        data = base64.b64decode(sent.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FilesRefused(f"the data of the file {shown(name)} are not base64.") from error
    if len(data) > options.max_bytes:
        raise _too_large(name, options)
    if not is_of_type(data, sent.media_type):
        raise FilesRefused(f"the content of the file {shown(name)} is not {shown(sent.media_type)}.")
    return UserFile(name, sent.media_type, data)


def _too_large(name: str, options: FileOptions) -> FilesRefused:
    return FilesRefused(f"the file {shown(name)} has more than {options.max_bytes} bytes.", too_large=True)


def is_of_type(data: bytes, media_type: str) -> bool:
    """Return whether bytes begin as files of this type do; a text must be UTF-8 without control characters."""
    beginning = _BEGINNINGS.get(media_type)
    if beginning is not None:
        return beginning.match(data) is not None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return bool(text) and not _NOT_TEXT.search(text)
