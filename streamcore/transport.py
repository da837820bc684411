"""Keep an old import path of `streamcore.net.raw_response`, `http_errors` and `credentials`."""

from streamcore.net.credentials import *  # noqa: F403
from streamcore.net.http_errors import *  # noqa: F403
from streamcore.net.raw_response import *  # noqa: F403
