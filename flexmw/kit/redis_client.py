"""Redis clients: one factory for every component that stores state in redis or valkey.

:func:`connect` makes a blocking client of redis-py, :func:`connect_async` an asyncio client. Both accept every URL
whose family is ``redis`` (plain TCP, TLS, unix socket) or ``redis+cluster``. No client connects before its first
command, so a client can be made on an event loop.

This module imports redis-py, which is an extra: import it only when a URL of these families is in use.

>>> from flexmw.kit.store_url import parse
>>> connect(parse("valkey://cache:6380/2", "storage"), timeout=0.05, resend="closed").get_connection_kwargs()["db"]
2

The clients are redis-py's own, without a wrapper that a component would have to know. A component that calls nothing
but methods of redis-py can therefore also work with a client that the application has made.
"""

from __future__ import annotations

from threading import Lock
from typing import Any, Final, Literal, TypeAlias

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from flexmw.kit.store_url import StorageURL

__all__ = ["Resend", "connect", "connect_async"]

Resend: TypeAlias = Literal["never", "closed", "once", "driver"]
"""When the client itself sends a command a second time. A command whose reply was lost may have been executed.

==========  ============================================================================================
never       not at all
closed      once, after a connection error: a pooled connection was closed while it was idle
once        once, after a connection error or a timeout
driver      as redis-py decides: ten more times in redis-py 8, also after a timeout
==========  ============================================================================================
"""

_RETRIES: Final[dict[Resend, dict[str, Any]]] = {
    "never": {"retries": 0},
    "closed": {"retries": 1, "supported_errors": (RedisConnectionError,)},
    "once": {"retries": 1},
}


def connect(
    url: StorageURL,
    *,
    timeout: float | None,
    connect_timeout: float | None = None,
    resend: Resend = "never",
    cluster_resend: Resend | None = None,
) -> Any:
    """A blocking client: ``redis.Redis``, or an object that acts as a ``redis.cluster.RedisCluster``.

    :param url: a checked URL of the family ``redis`` or ``redis+cluster``.
    :param timeout: seconds until a command without a reply fails; ``None``: it never does.
    :param connect_timeout: seconds until a connection attempt fails; ``None``: the same as ``timeout``.
    :param resend: when the client sends a command again.
    :param cluster_resend: the same for a cluster; ``None``: the same as ``resend``.
    """
    is_cluster = url.scheme.family == "redis+cluster"
    options = _options(Retry, timeout, connect_timeout, (cluster_resend or resend) if is_cluster else resend)
    if is_cluster:
        return _LazyCluster(startup_nodes=[ClusterNode(*node) for node in url.nodes], **_credentials(url), **options)
    client: Any = Redis
    return client.from_url(_driver_url(url), **options)


def connect_async(
    url: StorageURL, *, timeout: float | None, connect_timeout: float | None = None, resend: Resend = "never"
) -> Any:
    """An asyncio client: ``redis.asyncio.Redis`` or ``redis.asyncio.RedisCluster``.

    Its connections belong to the event loop that opened them, so each event loop needs a client of its own. Await
    ``initialize()`` of a cluster client before its first commands: concurrent first commands fail while one of them
    asks the nodes for the slots.

    :param url: a checked URL of the family ``redis`` or ``redis+cluster``.
    :param timeout: seconds until a command without a reply fails; ``None``: it never does, and a command then needs
        neither a task nor timers of its own.
    :param connect_timeout: seconds until a connection attempt fails; ``None``: the same as ``timeout``.
    :param resend: when the client sends a command again.
    """
    options = _options(AsyncRetry, timeout, connect_timeout, resend)
    if url.scheme.family == "redis+cluster":
        cluster: Any = AsyncRedisCluster
        nodes = [AsyncClusterNode(*node) for node in url.nodes]
        return cluster(startup_nodes=nodes, **_credentials(url), **options)
    client: Any = AsyncRedis
    return client.from_url(_driver_url(url), **options)


def _options(retry: Any, timeout: float | None, connect_timeout: float | None, resend: Resend) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout if connect_timeout is None else connect_timeout,
    }
    if resend != "driver":
        options["retry"] = retry(NoBackoff(), **_RETRIES[resend])
    return options


def _rest(url: StorageURL) -> str:
    return url.url.partition("://")[2]


def _driver_url(url: StorageURL) -> str:
    scheme = "unix" if url.scheme.unix else "rediss" if url.scheme.tls else "redis"
    return f"{scheme}://{_rest(url)}"


def _credentials(url: StorageURL) -> dict[str, str | None]:
    """The user info of a cluster URL. redis-py reads that of all other URLs itself."""
    user_info = _rest(url).rpartition("@")[0]
    name, _, password = user_info.partition(":")
    return {"username": name or None, "password": password or None}


class _LazyCluster:
    """A ``RedisCluster`` that is made with the first command, because its constructor asks the nodes for the slots.

    A constructor that fails is tried again with the next command. After ``close()`` the next command makes a new one.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._cluster: Any = None
        self._lock = Lock()

    def close(self) -> None:
        with self._lock:
            cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()

    def __getattr__(self, name: str) -> Any:
        cluster = self._cluster
        if cluster is None:
            cluster = RedisCluster(**self._options)  # outside the lock: it blocks for as long as a node is silent
            with self._lock:
                if self._cluster is None:
                    self._cluster = cluster
        return getattr(cluster, name)
