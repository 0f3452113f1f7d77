"""Connections to redis and valkey: make redis-py clients from the settings of a storage URL or of a client object.

A :class:`Connector` makes blocking and asyncio clients with the same settings, for one server, for a node of a cluster
or for the primary that Sentinel names. :mod:`flexmw.kit.redis_blocking` and :mod:`flexmw.kit.redis_async` send commands
over the clients. No client connects before its first command, so a client can be made on an event loop.

This module imports redis-py, which is an extra: import it only when a URL of these families is in use.

>>> from flexmw.kit.store_url import parse
>>> client = Connector(parse("valkey://cache:6380/2", "storage")).blocking(timeout=0.05)
>>> client.get_connection_kwargs()["db"]
2

All clients have these settings, because the defaults of redis-py break the promises of a store:

- No command is sent twice. redis-py 8 sends a command up to eleven times, also after a timeout, when it may have been
  executed.
- Maintenance notifications are off. While they are on, an asyncio client does not notice that a pooled connection was
  closed, and one command fails for each such connection.
- The protocol is RESP2, and no client says which library it is, unless the URL or client object asks for either.
  redis-py 8 begins with ``HELLO`` and ``CLIENT SETINFO``. Redis 5 and proxies do not know them: envoy sends an error,
  twemproxy ends the connection.
- A blocking operation ends in time even if its reply arrives byte by byte: see :mod:`flexmw.kit.time_limit`.
"""

from __future__ import annotations

import inspect
from typing import Any, Final, Literal, TypeAlias

import redis
import redis.asyncio
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from flexmw.errors import ConfigError
from flexmw.kit import time_limit
from flexmw.kit.redis_flow import Address, Remap
from flexmw.kit.store_url import SCHEMES, StorageURL

__all__ = ["Connector", "url_of_client"]

Kind: TypeAlias = Literal["redis", "redis+cluster", "redis+sentinel"]

_UNBOUNDED: Final = 2**31
"""The bound of an unbounded pool. In redis-py 8 the default is 100, and a command fails if more connections are needed.
If the URL has ``max_connections``, a command waits for a connection instead."""

_DROPPED: Final = frozenset({
    "connection_pool", "decode_responses", "encoding", "encoding_errors", "event_dispatcher", "himport_registry",
    "host", "maint_notifications_config", "maint_notifications_pool_handler", "oss_cluster_maint_notifications_handler",
    "orig_host_address", "orig_socket_connect_timeout", "orig_socket_timeout", "parser_class", "path", "port",
    "redis_connect_func", "reader_class", "response_callbacks", "retry", "retry_on_error", "retry_on_timeout",
    "socket_connect_timeout", "socket_timeout", "maintenance_state", "maintenance_notification_hash",
    "connection_class", "max_connections", "cache", "cache_config", "command_packer",
})  # fmt: skip
"""Settings of a client object that flexmw does not copy: it sets them itself, or they belong to the object."""


_PARAMETERS: Final = inspect.signature(AbstractConnection.__init__).parameters
_LIBRARY_OPTIONS: Final = ("driver_info",) if "driver_info" in _PARAMETERS else ("lib_name", "lib_version")
"""The options of a connection that say which library it is: those of redis-py 8, and those before it."""


class _TimeLimited:
    """A blocking connection whose socket obeys :mod:`flexmw.kit.time_limit`."""

    def _connect(self) -> Any:
        return time_limit.Socket(super()._connect())  # type: ignore[misc]


class _Connection(_TimeLimited, redis.Connection):
    pass


class _SSLConnection(_TimeLimited, redis.SSLConnection):
    pass


class _UnixConnection(_TimeLimited, redis.UnixDomainSocketConnection):
    pass


class _SentinelConnection(_TimeLimited, redis.sentinel.SentinelManagedConnection):
    pass


class _SentinelSSLConnection(_TimeLimited, redis.sentinel.SentinelManagedSSLConnection):
    pass


_BLOCKING: Final = {"tcp": _Connection, "tls": _SSLConnection, "unix": _UnixConnection}
_ASYNC: Final[dict[str, Any]] = {
    "tcp": redis.asyncio.Connection,
    "tls": redis.asyncio.SSLConnection,
    "unix": redis.asyncio.UnixDomainSocketConnection,
}
_HAS_NOTIFICATIONS: Final = "maint_notifications_config" in inspect.signature(redis.ConnectionPool.__init__).parameters


class Connector:
    """Makes the clients of one store.

    :param url: a checked URL of a redis family, or one that :func:`url_of_client` has made.
    """

    def __init__(self, url: StorageURL) -> None:
        self.url = url
        self.kind: str = url.scheme.family
        self.nodes: tuple[Address, ...] = url.nodes
        transport = "unix" if url.scheme.unix else "tls" if url.scheme.tls else "tcp"
        self._transport = transport
        options = dict(url.options)
        self.max_connections: int | None = options.pop("max_connections", None)
        self._sentinel_options = {
            name: options.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in options
        }
        self._timeouts = {
            name: options.pop(name) for name in ("socket_timeout", "socket_connect_timeout") if name in options
        }
        self.remap: Remap | None = getattr(getattr(url.client, "nodes_manager", None), "address_remap", None)
        """What a client object of a cluster makes of the addresses that the nodes announce."""
        self._options = options
        options.setdefault("protocol", 2)
        if not options.keys() & {"driver_info", "lib_name", "lib_version"}:
            options.update(dict.fromkeys(_LIBRARY_OPTIONS))
        if options.get("ssl_certfile") and _takes(_ASYNC["tls"], "ssl_password"):
            # Without a password, OpenSSL asks for that of an encrypted key on the terminal. The asyncio connections of
            # redis-py 5.2 take no password, and raise TypeError.
            options.setdefault("ssl_password", "")
        if url.username is not None:
            options["username"] = url.username
        if url.password is not None:
            options["password"] = url.password

    def blocking(self, address: Address | None = None, *, timeout: float, connect_timeout: float | None = None) -> Any:
        """A blocking client of one server, or of the primary that Sentinel names.

        :param address: the node of a cluster; ``None``: the only server of the URL.
        :param timeout: seconds that a command waits for the next bytes of its reply.
        :param connect_timeout: seconds until a connection attempt fails; ``None``: the same as ``timeout``.
        """
        options = self._client_options(Retry, timeout, connect_timeout)
        if self.kind == "redis+sentinel":
            connection: Any = _SentinelSSLConnection if self.url.scheme.tls else _SentinelConnection
            return self._managed(redis.sentinel.Sentinel, options, connection)
        cls: Any = redis.ConnectionPool
        if self.max_connections is not None:
            cls, options["timeout"] = redis.BlockingConnectionPool, timeout
        client: Any = redis.Redis
        return client.from_pool(cls(connection_class=_BLOCKING[self._transport], **options, **self._place(address)))

    def asyncio(
        self, address: Address | None = None, *, timeout: float | None, connect_timeout: float | None = None
    ) -> Any:
        """An asyncio client. Its connections belong to the event loop that opened them.

        :param address: the node of a cluster; ``None``: the only server of the URL.
        :param timeout: seconds that a command waits for the next bytes of its reply; ``None``: without end, and a
            command then needs neither a task nor timers of its own.
        :param connect_timeout: seconds until a connection attempt fails; ``None``: the same as ``timeout``.
        """
        options = self._client_options(AsyncRetry, timeout, connect_timeout)
        if self.kind == "redis+sentinel":
            return self._managed(redis.asyncio.Sentinel, options, None)
        cls: Any = redis.asyncio.ConnectionPool
        if self.max_connections is not None:
            cls, options["timeout"] = redis.asyncio.BlockingConnectionPool, options["socket_connect_timeout"]
        pool: Any = cls(connection_class=_ASYNC[self._transport], **options, **self._place(address))
        client: Any = redis.asyncio.Redis
        return client.from_pool(pool)

    def _managed(self, cls: Any, options: dict[str, Any], connection: Any) -> Any:
        """Make the client of a primary. Its pool has the Sentinel client in ``sentinel_manager``."""
        keep = ("socket_timeout", "socket_connect_timeout", "retry", "protocol", *_TLS_NAMES)
        timeout = options["socket_connect_timeout"]
        own = {name: options[name] for name in keep if name in options} | self._sentinel_options
        own["socket_timeout"] = timeout
        if _HAS_NOTIFICATIONS:
            own["maint_notifications_config"] = _notifications_off()
        if self.url.scheme.tls:
            own["ssl"] = options["ssl"] = True
        if connection is not None:
            options["connection_class"] = connection
            options.pop("ssl", None)
        return cls(self.nodes, sentinel_kwargs=own).master_for(self.url.service, **options)

    def _client_options(self, retry: Any, timeout: float | None, connect_timeout: float | None) -> dict[str, Any]:
        connect_timeout = timeout if connect_timeout is None else connect_timeout
        options = self._options | {
            "socket_timeout": timeout,
            "socket_connect_timeout": connect_timeout,
            "retry": retry(NoBackoff(), 0),
            "max_connections": self.max_connections or _UNBOUNDED,
        }
        if _HAS_NOTIFICATIONS:
            options["maint_notifications_config"] = _notifications_off()
        return options | self._timeouts

    def _place(self, address: Address | None) -> dict[str, Any]:
        if self.url.scheme.unix:
            return {"path": self.url.path}
        host, port = self.nodes[0] if address is None else address
        return {"host": host, "port": port}


_TLS_NAMES: Final = tuple(
    name for name in inspect.signature(redis.SSLConnection.__init__).parameters if name.startswith("ssl_")
)


def _takes(connection_class: Any, option: str) -> bool:
    return option in inspect.signature(connection_class.__init__).parameters


def _notifications_off() -> Any:
    from redis.maint_notifications import MaintNotificationsConfig

    return MaintNotificationsConfig(enabled=False)


def url_of_client(client: Any, option: str) -> StorageURL:
    """Return the settings of a redis-py client in the form of a checked URL.

    flexmw makes new connections with these settings: addresses, database, credentials or credential provider, TLS,
    protocol, bound of the pool. It does not use, change or close the client itself, because a client may belong to
    another event loop and may send commands twice.

    :param client: see :class:`flexmw.kit.storage.RedisClient`.
    :param option: the name of the option, for the message of an error.
    :raises ConfigError: the client has connections of a class that is not part of redis-py.
    """
    pool: Any = getattr(client, "connection_pool", None)
    if isinstance(client, (redis.RedisCluster, redis.asyncio.RedisCluster)):
        return _cluster_url(client)
    options: dict[str, Any] = dict(pool.connection_kwargs)
    connection: Any = pool.connection_class
    is_tls = issubclass(connection, (redis.SSLConnection, redis.asyncio.SSLConnection))
    bounded = (redis.BlockingConnectionPool, redis.asyncio.BlockingConnectionPool)
    bound: int | None = pool.max_connections if issubclass(type(pool), bounded) else None
    options = _taken(options, bound)
    manager: Any = getattr(pool, "sentinel_manager", None)
    if manager is not None:
        for name in ("username", "password"):
            if manager.sentinel_kwargs.get(name):
                options[f"sentinel_{name}"] = manager.sentinel_kwargs[name]
        nodes = tuple(_address(sentinel) for sentinel in manager.sentinels)
        shown = f"<redis-py client of {pool.service_name}>"
        scheme = SCHEMES["rediss+sentinel" if is_tls else "redis+sentinel"]
        return StorageURL(
            f"{shown}#{id(client)}", scheme, shown, nodes, options=options, service=pool.service_name, client=client
        )
    if issubclass(connection, (redis.UnixDomainSocketConnection, redis.asyncio.UnixDomainSocketConnection)):
        path = pool.connection_kwargs["path"]
        shown = f"<redis-py client of {path}>"
        return StorageURL(
            f"{shown}#{id(client)}", SCHEMES["redis+unix"], shown, path=path, options=options, client=client
        )
    if connection.__module__.partition(".")[0] != "redis":
        raise ConfigError(
            option, f"<client with {connection.__name__}>", "a client whose connections are of redis-py's own classes"
        )
    address = pool.connection_kwargs.get("host", "localhost"), int(pool.connection_kwargs.get("port", 6379))
    shown = f"<redis-py client of {address[0]}:{address[1]}>"
    scheme = SCHEMES["rediss" if is_tls else "redis"]
    return StorageURL(f"{shown}#{id(client)}", scheme, shown, (address,), options=options, client=client)


def _cluster_url(client: Any) -> StorageURL:
    manager = client.nodes_manager
    options = dict(getattr(client, "connection_kwargs", None) or manager.connection_kwargs)
    is_tls = options.pop("ssl", False) or "SSL" in getattr(options.get("connection_class"), "__name__", "")
    nodes = tuple((node.host, int(node.port)) for node in manager.startup_nodes.values())
    shown = f"<redis-py client of {','.join(f'{host}:{port}' for host, port in nodes)}>"
    scheme = SCHEMES["rediss+cluster" if is_tls else "redis+cluster"]
    return StorageURL(f"{shown}#{id(client)}", scheme, shown, nodes, options=_taken(options, None), client=client)


def _taken(options: dict[str, Any], max_connections: int | None) -> dict[str, Any]:
    taken = {name: value for name, value in options.items() if name not in _DROPPED and value is not None}
    if max_connections is not None:
        taken["max_connections"] = max_connections
    return taken


def _address(client: Any) -> Address:
    options = client.connection_pool.connection_kwargs
    return options["host"], int(options["port"])
