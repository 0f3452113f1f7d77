"""The value of a ``storage`` option: a URL, or a client of redis-py whose settings are used.

>>> parse_storage("redis://:secret@cache/2", "RateLimit(storage=...)")
StorageURL('redis://***@cache/2')
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol, runtime_checkable

from flexmw.errors import ConfigError
from flexmw.kit.store_url import SCHEMES, StorageURL, mask, parse

__all__ = ["RedisClient", "is_redis_client", "parse_storage", "shown_storage"]


@runtime_checkable
class RedisClient(Protocol):
    """A client of redis-py as the value of an option: ``redis.asyncio.Redis``, ``redis.asyncio.RedisCluster``, the
    client of a Sentinel's primary, or one of their blocking counterparts.

    flexmw takes its settings (addresses, database, credential provider, TLS) for connections of its own, and does not
    use, change or close the client.
    """

    def execute_command(self, *args: Any, **options: Any) -> Any: ...


def is_redis_client(value: object) -> bool:
    """Whether a value is a client of redis-py. Does not import redis-py."""
    return any(
        cls.__module__.partition(".")[0] == "redis" and cls.__name__ in ("Redis", "RedisCluster")
        for cls in type(value).__mro__
    )


def parse_storage(value: object, option: str, *, schemes: Collection[str] = tuple(SCHEMES)) -> StorageURL:
    """Check a URL, or take the settings of a client. See :func:`flexmw.kit.store_url.parse`.

    :raises ConfigError: for a URL or a client that a component cannot use.
    """
    if not is_redis_client(value):
        return parse(value, option, schemes=schemes)
    from flexmw.kit.redis_client import url_of_client  # imports redis-py, which is an extra

    url = url_of_client(value, option)
    if url.scheme.family not in {SCHEMES[name].family for name in schemes if name in SCHEMES}:
        names = ", ".join(sorted(schemes))
        raise ConfigError(option, url.shown, f"a storage URL whose scheme is one of {names}")
    return url


def shown_storage(value: object) -> str:
    """What may be shown of a ``storage`` option: a URL without credentials, else the type of the object.

    >>> shown_storage("memory://"), shown_storage("redis://app:secret@cache:6379/2")
    ('memory://', 'redis://***@cache:6379/2')
    """
    return str(mask(value)) if isinstance(value, str) else f"{type(value).__module__}.{type(value).__qualname__}"
