"""Keep the old import path of `streamcore.structured.json_text`."""

from streamcore.structured.json_text import *  # noqa: F403
