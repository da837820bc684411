"""Keep an import path of earlier tests; the server is in `tests/servers.py`."""

from tests.servers import RedisServer as RedisServer
