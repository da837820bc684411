"""Keep the old import path of `streamcore.testing.suites.provider`."""

from streamcore.testing.suites.provider import *  # noqa: F403
