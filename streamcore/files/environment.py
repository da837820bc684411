"""Replace `${VAR}` in a value of a file by an environment variable, so that secrets are not in files."""

from __future__ import annotations

import os
import re

from streamcore.errors import ConfigError


def expanded(value: str, where: str) -> str:
    """Return a text with each `${VAR}` replaced by the environment variable.

    Args:
        value: the text.
        where: what names the text in an error, as "checkpointer: `url`".

    Raises:
        ConfigError: a variable is not set, or is empty.
    """

    def look_up(found: re.Match[str]) -> str:
        name = found[1]
        if not os.environ.get(name):
            raise ConfigError(f"{where} names ${{{name}}}, and the environment variable {name} is not set")
        return os.environ[name]

    return re.sub(r"\$\{([^{}]*)\}", look_up, value)
