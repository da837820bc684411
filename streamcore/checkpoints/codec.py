"""Turn a checkpoint into bytes and back: one header line with format, version, writer and checksum, then JSON.

    streamcore/1 7 4be0643f1d98573b 9c1185a5c5e9fc54612808977ee8f548
    {"state":{"name":"Ada"}}

The checksum covers the thread's name, too, so that data that was copied to another name is detected. The writer is
random for each save: if a save is repeated because its response was lost, the store recognizes the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from streamcore.checkpoints.protocol import Saved
from streamcore.errors import CheckpointError, ThreadConflict

FORMAT = "streamcore/1"


def encode(thread: str, data: Mapping[str, Any], version: int) -> bytes:
    """Return the bytes of a checkpoint.

    Raises:
        CheckpointError: the data is not plain JSON; the message names the place.
    """
    try:
        problem = next(_not_json(dict(data), ""), None)
        text = "" if problem else json.dumps(dict(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError as error:
        raise CheckpointError(f"thread {thread!r} cannot be saved: its data is nested too deeply") from error
    if problem:
        raise CheckpointError(
            f"thread {thread!r} cannot be saved: {problem}. Keep plain JSON in the state: text, finite numbers, "
            "true, false, null, lists, and mappings whose keys are text"
        )
    body = text.encode("utf-8", "surrogatepass")  # vendors do send lone surrogates
    writer = secrets.token_hex(8)
    head = f"{FORMAT} {version} {writer}"
    return f"{head} {_checksum(thread, head, body)}\n".encode() + body


def decode(thread: str, stored: bytes, where: str) -> Saved:
    """Return the checkpoint of these bytes; `where` names the store in messages.

    Raises:
        CheckpointError: they are damaged, or have a format that this version of streamcore does not know.
    """
    line, _, body = stored.partition(b"\n")
    words = line.decode("ascii", "replace").split(" ")
    if words[0].startswith("streamcore/") and words[0] != FORMAT and words[0][11:].isdigit():
        raise CheckpointError(
            f"thread {thread!r} in {where} has the format {words[0]!r}, and this version of streamcore reads "
            f"{FORMAT!r}: run the version that wrote it, or a newer one"
        )
    head, _, checksum = line.decode("ascii", "replace").rpartition(" ")
    if len(words) != 4 or words[0] != FORMAT or checksum != _checksum(thread, head, body):
        damaged(thread, where)
    return Saved(int(words[1]), json.loads(body.decode("utf-8", "surrogatepass")))


def damaged(thread: str, where: str, why: BaseException | None = None) -> NoReturn:
    """Raise the error for a checkpoint that is damaged."""
    cause = f" ({why})" if why else ""
    raise CheckpointError(
        f"the checkpoint of thread {thread!r} in {where} is damaged{cause}; it was not changed. Restore it from a "
        "backup, or delete the thread to start a new one"
    ) from why


def conflict(thread: str, where: str, expected: int, found: int) -> ThreadConflict:
    """Return the error for a thread whose stored version is not the one that its writer expected."""
    if found:
        what = f"another worker has changed thread {thread!r} in {where}: it has version {found}"
        todo = "Run the thread again to continue from there, and run a thread in only one worker at a time"
    else:
        what = f"thread {thread!r} is no longer in {where}"
        todo = "It was deleted, expired (`ttl`), or the store lost its data; run the thread again to start over"
    message = f"{what}, and {expected or 'none'} was expected; nothing was saved. {todo}"
    return ThreadConflict(message, thread=thread, expected=expected, found=found)


def _checksum(thread: str, head: str, body: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{thread}\0{head}\0".encode("utf-8", "surrogatepass"))
    digest.update(body)
    return digest.hexdigest()


def _not_json(value: object, at: str) -> Iterator[str]:
    """Yield a description of every value that JSON cannot represent, or would silently change."""
    kind = type(value)  # a subclass, such as an enum's or numpy's, would be loaded as its base class
    if isinstance(value, dict) and kind is dict:
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            if type(key) is not str:  # pyright: ignore[reportUnknownArgumentType]
                yield f"{at or 'the data'} has the key {key!r}, which is not text"
            yield from _not_json(item, f"{at}.{key}" if at else str(key))  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list) and kind is list:
        for number, item in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield from _not_json(item, f"{at}[{number}]")  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, float) and kind is float:
        if not math.isfinite(value):
            yield f"{at or 'the data'} is {value}, which JSON has no number for"
    elif value is not None and kind not in (str, int, bool):
        yield f"{at or 'the data'} is a {kind.__name__}"
