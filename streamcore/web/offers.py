"""Decide which files and which models the users of a target may choose."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread

from streamcore.errors import ConfigError, UnsupportedField
from streamcore.parts import Part
from streamcore.provider import Provider
from streamcore.request import Message, Request, Text
from streamcore.web.endpoints.catalog import is_name
from streamcore.web.files import FileOptions, FilesRefused, UserFile, check_files, read_files
from streamcore.web.models import SentFile
from streamcore.web.prompt_target import PromptTarget
from streamcore.web.target import ServedTarget

log = logging.getLogger("streamcore")


async def takes_file(provider: Provider, media_type: str) -> bool:
    """Return whether the API of a provider can be sent a file of a type, as far as its adapter knows.

    The adapters build the body of a request when `stream` is called, and raise for what their API has no form for.
    Nothing is sent, since the stream is not read.
    """
    parts: list[Part] = [UserFile("file", media_type, b"file").part(), Text("text")]
    try:
        stream = provider.stream(Request([Message("user", parts)]))
    except UnsupportedField:
        return False
    except ConfigError:  # something else is missing, which the first answer reports
        return True
    await stream.aclose()
    return True


@dataclass(slots=True)
class Offers:
    """What users of a target may choose; `files` are the operator's, None: no files."""

    target: ServedTarget
    files: FileOptions | None = None
    models: Sequence[str] = ()
    _types: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def __post_init__(self) -> None:
        if not isinstance(self.target, PromptTarget):
            self.models = ()
            if self.files is not None:
                raise ConfigError(
                    f"graph {self.target.about.name!r} takes no files; leave out files= (--accept-files), or serve a "
                    "prompt first"
                )

    async def types(self, model: str = "") -> list[str]:
        """Return the types of files that the model may be sent."""
        if self.files is None or not isinstance(self.target, PromptTarget):
            return []
        if model not in self._types:
            try:
                provider = self.target.provider_for(model)
            except ConfigError as error:
                log.warning("files are not accepted, since the provider cannot be loaded: %s", error)
                return []
            self._types[model] = [one for one in self.files.types if await takes_file(provider, one)]
            if not self._types[model]:
                log.warning("files are not accepted, since the API of %s takes none of their types", provider.name)
        return self._types[model]

    async def about(self) -> dict[str, Any]:
        """Return the fields of `GET /about`."""
        types = await self.types()
        found: dict[str, Any] = {"models": [*self.models]}
        if types and self.files is not None:
            found |= {"accepts": types, "max_file_bytes": self.files.max_bytes, "max_files": self.files.max_files}
            found["max_files_bytes"] = self.files.max_total
        return found

    def refuse_model(self, model: str) -> str | None:
        """Return why a model may not be chosen, None if it may."""
        if not model or model in self.models:
            return None
        return f"the model {model!a} may not be chosen; available are: {', '.join(self.models) or 'none'}."

    async def read(self, sent: Sequence[SentFile], earlier: Sequence[UserFile], model: str) -> list[UserFile]:
        """Return the files of a message: those of an earlier one, and those that a client has sent.

        Raises:
            FilesRefused: they are not accepted; see `read_files` and `check_files`.
        """
        if not sent and not earlier:
            return []
        types = await self.types(model)
        if self.files is None or not types:
            raise FilesRefused("this service takes no files.")
        files = [*earlier, *await anyio.to_thread.run_sync(read_files, sent, self.files, types)]
        check_files(files, self.files, types)
        return files


def offers_of(targets: Sequence[ServedTarget], files: bool | FileOptions, allowed: Sequence[str]) -> Offers | None:
    """Return what users of the first target may choose, None without one; `allowed` are those of `allow_models`.

    Raises:
        ConfigError: the target takes no files.
    """
    if not targets:
        return None
    target, options = targets[0], FileOptions() if files is True else files or None
    return Offers(target, options, [name for name in allowed if "/" in name and is_name(name)])
