"""Write a recording as YAML that is easy to read and compare, and read it back to the same bytes.

A read is a block of text if its bytes are plain UTF-8 with LF line ends, a double-quoted text with escapes if they are
UTF-8 that a block would change (CR, control characters, a blank at the start), else base64.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import Field, model_validator

from streamcore.files.yaml_file import parse_yaml, read_yaml
from streamcore.files.yaml_model import FileModel, validate, wrong
from streamcore.testing.recordings.exchange import (
    End,
    Exchange,
    Read,
    RecordedRequest,
    RecordingError,
    is_array,
    is_object,
    json_or_bytes,
)

MAX_BYTES = 64 * 1024 * 1024
"""The largest size of a file: a long answer has some hundred bytes a token."""

HEADER = """\
# Recorded by streamcore (guide "Testing"). Each exchange has a request, to be matched, and the response to play.
# A key that is deleted from a request's body matches anything. `at` is in seconds after the response's headers.
"""

_BLOCK = re.compile(r"(?!\s)[\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]+")
_DEEPEST = 48  # levels of a request's body; yaml_file reads no file with more than 64


class BytesBlock(FileModel):
    """Bytes: as text if they are UTF-8, else in base64."""

    text: str | None = None
    base64: str | None = None

    @model_validator(mode="after")
    def _one(self) -> BytesBlock:
        if (self.text is None) == (self.base64 is None):
            raise wrong("expected either text: or base64:")
        self.data()
        return self

    def data(self) -> bytes:
        if self.base64 is not None:
            return _decoded(self.base64, "base64")
        try:
            return str(self.text).encode()
        except UnicodeEncodeError as error:
            raise wrong("half a surrogate pair is no text in UTF-8; write base64: instead", "text") from error


class ReadBlock(BytesBlock):
    """One network read of a response, with its time in seconds after the headers."""

    at: Annotated[float, Field(ge=0)]


class RequestBlock(FileModel):
    """A recorded request, which a later one must match."""

    method: str
    url: str
    body: Any = None
    body_base64: str | None = None

    @model_validator(mode="after")
    def _one(self) -> RequestBlock:
        if self.body_base64 is not None:
            if self.body is not None:
                raise wrong("expected either body: or body_base64:")
            _decoded(self.body_base64, "body_base64")
        return self

    def data(self) -> RecordedRequest:
        body = self.body
        if self.body_base64 is not None:
            body = json_or_bytes(_decoded(self.body_base64, "body_base64"))
        return RecordedRequest(self.method, self.url, body)


class ResponseBlock(FileModel):
    """A recorded response: status, headers, the reads of its body, and how it ended."""

    status: Annotated[int, Field(ge=100, le=599)] = 200
    headers: dict[str, str | list[str]] = Field(default_factory=dict)
    reads: list[ReadBlock] = Field(default_factory=list[ReadBlock])
    end: End = "whole"


class ExchangeBlock(FileModel):
    """A request and its response."""

    provider: str | None = None
    request: RequestBlock
    response: ResponseBlock


class RecordingFile(FileModel):
    """The keys of a recording file."""

    streamcore_recording: Literal[1]
    exchanges: list[ExchangeBlock]


def _decoded(text: str, key: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise wrong(f"this is not base64: {error}", key) from error


def load(path: Path) -> tuple[Exchange, ...]:
    """Return the exchanges in a file; see `Recording.load`."""
    try:
        known = path.stat()
    except OSError:
        return _load(path, 0, 0)  # whose error names the problem
    return _load(path.absolute(), known.st_mtime_ns, known.st_size)


@lru_cache(
    maxsize=32
)  # reading takes a millisecond for each read, and every call of the provider `replay` would pay it
def _load(path: Path, _changed: int, _size: int) -> tuple[Exchange, ...]:
    source = parse_yaml(path, read_yaml(path, RecordingError, MAX_BYTES), RecordingError)
    return tuple(_exchange(one) for one in validate(RecordingFile, source, RecordingError).exchanges)


def _exchange(found: ExchangeBlock) -> Exchange:
    response = found.response
    return Exchange(
        found.request.data(),
        response.status,
        tuple(
            (name, value)
            for name, values in response.headers.items()
            for value in ([values] if isinstance(values, str) else values)
        ),
        tuple(Read(float(read.at), read.data()) for read in response.reads),
        found.provider,
        response.end,
    )


def save(exchanges: Iterable[Exchange], path: Path) -> None:
    """Write exchanges to a file; see `Recording.save`."""
    data = {"streamcore_recording": 1, "exchanges": [_plain(exchange) for exchange in exchanges]}
    text = yaml.dump(  # pyright: ignore[reportUnknownMemberType]
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + text, "utf-8", newline="\n")


def _plain(exchange: Exchange) -> dict[str, Any]:
    request = exchange.request
    headers: dict[str, str | list[str]] = {}
    for name, value in exchange.headers:
        before = headers.get(name)
        headers[name] = value if before is None else [*([before] if isinstance(before, str) else before), value]
    return {
        **({"provider": exchange.provider} if exchange.provider else {}),
        "request": {"method": request.method, "url": request.url, **_body(request.body)},
        "response": {
            "status": exchange.status,
            "headers": headers,
            "reads": [{"at": read.at, **_bytes(read.data)} for read in exchange.reads],
            **({"end": exchange.end} if exchange.end != "whole" else {}),
        },
    }


def _body(body: Any) -> dict[str, Any]:
    if body is None:
        return {}
    if isinstance(body, bytes):
        return {"body_base64": base64.b64encode(body).decode("ascii")}
    if _depth(body) > _DEEPEST:
        return {"body_base64": base64.b64encode(json.dumps(body).encode()).decode("ascii")}
    return {"body": body}


def _depth(value: Any) -> int:
    inner: Iterable[Any] = ()
    if is_object(value):
        inner = value.values()
    elif is_array(value):
        inner = value
    return 1 + max(map(_depth, inner), default=0)


def _bytes(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


class _Dumper(yaml.SafeDumper):
    """Write text in blocks, and quote what `yaml_file` would read as a number though PyYAML would not."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> Any:
    style = None
    if not _BLOCK.fullmatch(text):
        style = '"'
    elif "\n" in text:
        style = "|"
    elif text[0] in "+-.0123456789":
        style = "'"
    return cast("Any", dumper).represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
