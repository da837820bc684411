"""Keep the old import path of `streamcore.testing.suites.run_log`."""

from streamcore.testing.suites.run_log import *  # noqa: F403
