"""Keep the old import path of `streamcore.net.raw_response`."""

from streamcore.net.raw_response import *  # noqa: F403
