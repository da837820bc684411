"""Keep the old import path of `streamcore.testing.suites.checkpointer`."""

from streamcore.testing.suites.checkpointer import *  # noqa: F403
