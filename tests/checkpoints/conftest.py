"""Share one Redis and one PostgreSQL among the tests of checkpointers."""

from tests.servers import postgres_url, redis_url

__all__ = ["postgres_url", "redis_url"]
