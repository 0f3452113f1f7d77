"""Storage URLs: the table of schemes, the parser, and a connection test for start-up.

>>> parse("redis://:secret@cache:6380/2", "RateLimit(storage=...)")
StorageURL('redis://***@cache:6380/2')
>>> parse("redsi://localhost", "RateLimit(storage=...)", schemes=schemes_of("memory", "redis"))
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: RateLimit(storage=...) = 'redsi://localhost': expected a storage URL whose scheme is one \
of memory, redis, redis+unix, rediss, valkey, valkey+unix, valkeys
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from flexmw.errors import ConfigError

__all__ = ["SCHEMES", "Scheme", "StorageURL", "mask", "parse", "probe", "schemes_of"]

PROBE_SECONDS: Final = 1.0


class Scheme(NamedTuple):
    """One row of :data:`SCHEMES`: what a URL scheme stands for.

    :param family: the kind of store. A component supports families, not schemes; see :func:`schemes_of`.
    :param driver: the module that must be importable; ``None`` when the standard library is enough.
    :param install: the argument of ``pip install`` that provides the driver.
    :param port: the default TCP port; ``None`` when the URL has no host.
    :param tls: the connection uses TLS.
    :param unix: the path of the URL is a unix socket.
    :param embedded: the store runs inside the process: there is nothing to connect to.
    """

    family: str
    driver: str | None = None
    install: str = ""
    port: int | None = None
    tls: bool = False
    unix: bool = False
    embedded: bool = False


_REDIS: Final = ("redis", "flexmw[redis]")
_MONGO: Final = ("motor", "motor")

SCHEMES: Final[dict[str, Scheme]] = {
    "memory": Scheme("memory", embedded=True),
    "sqlite": Scheme("sqlite", embedded=True),
    "redis": Scheme("redis", *_REDIS, 6379),
    "rediss": Scheme("redis", *_REDIS, 6379, tls=True),
    "redis+unix": Scheme("redis", *_REDIS, unix=True),
    "redis+cluster": Scheme("redis+cluster", *_REDIS, 6379),
    "valkey": Scheme("redis", *_REDIS, 6379),
    "valkeys": Scheme("redis", *_REDIS, 6379, tls=True),
    "valkey+unix": Scheme("redis", *_REDIS, unix=True),
    "valkey+cluster": Scheme("redis+cluster", *_REDIS, 6379),
    "memcached": Scheme("memcached", "memcachio", "flexmw[memcached]", 11211),
    "mongodb": Scheme("mongodb", *_MONGO, 27017),
}
"""Every scheme that a flexmw component supports. Valkey speaks the redis protocol, so redis-py is its driver."""


def schemes_of(*families: str) -> tuple[str, ...]:
    """The names of all schemes of some families, in the order of :data:`SCHEMES`.

    >>> schemes_of("memory", "redis+cluster")
    ('memory', 'redis+cluster', 'valkey+cluster')

    :raises ValueError: for a family that has no scheme.
    """
    unknown = set(families) - {scheme.family for scheme in SCHEMES.values()}
    if unknown:
        raise ValueError(f"no scheme belongs to {', '.join(sorted(unknown))}")
    return tuple(name for name, scheme in SCHEMES.items() if scheme.family in families)


@dataclass(frozen=True, slots=True)
class StorageURL:
    """A storage URL that :func:`parse` has checked.

    :param url: the URL as given, with its credentials.
    :param scheme: the row of its scheme.
    :param shown: the URL without its credentials, for messages. ``repr`` shows this one.
    :param nodes: host and port of each node; empty when the scheme has no port.
    :param path: the socket or file, or the database number, without the query.
    """

    url: str = field(repr=False)
    scheme: Scheme
    shown: str
    nodes: tuple[tuple[str, int], ...] = ()
    path: str = ""

    def __repr__(self) -> str:
        return f"StorageURL({self.shown!r})"


def mask(url: object) -> object:
    """A URL without its user info, for messages. A value that is not a text is returned unchanged.

    Everything before the last ``@`` is removed, because a password may contain any character, ``/`` and ``@`` too.
    """
    if not isinstance(url, str) or "@" not in url:
        return url
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://***@{rest.rpartition('@')[2]}" if separator else "***@" + url.rpartition("@")[2]


def parse(url: object, option: str, *, schemes: Collection[str] = tuple(SCHEMES)) -> StorageURL:
    """Check a storage URL against the schemes that a component supports.

    :param url: the value of the option.
    :param option: the name of the option, for the message of an error.
    :param schemes: names of the supported schemes. A name that is not in :data:`SCHEMES` belongs to a storage that the
        application registered; its family is its name.
    :raises ConfigError: with ``option``, the masked value and what was expected, when the value is not a text, the
        scheme is unknown, the driver is not installed, or a port or database number is not valid.
    """

    def wrong(expected: str) -> ConfigError:
        return ConfigError(option, mask(url), expected)

    names = ", ".join(sorted(schemes))
    if not isinstance(url, str) or "://" not in url:
        raise wrong(f"a storage URL such as 'memory://' or 'redis://localhost:6379' (schemes: {names})")
    name, _, rest = url.partition("://")
    name = name.lower().removeprefix("async+")
    if name not in schemes:
        raise wrong(f"a storage URL whose scheme is one of {names}")
    scheme = SCHEMES.get(name) or Scheme(name)
    if scheme.driver and find_spec(scheme.driver) is None:
        raise wrong(f"the package {scheme.driver!r} to be installed for {name}://: pip install '{scheme.install}'")
    shown, rest = str(mask(url)), rest.rpartition("@")[2]
    if scheme.unix:
        path = unquote(rest.partition("?")[0])
        if not path.startswith("/"):
            raise wrong(f"the absolute path of a socket, such as '{name}:///run/store.sock'")
        return StorageURL(url, scheme, shown, path=path)
    if scheme.port is None:
        return StorageURL(url, scheme, shown, path=rest)
    authority, _, path = rest.partition("?")[0].partition("/")
    nodes = tuple(_node(text, scheme.port) for text in authority.split(","))
    if None in nodes:
        raise wrong(f"host:port with a port from 1 to 65535, such as '{name}://localhost:{scheme.port}'")
    if scheme.family == "redis" and path and not (path.isascii() and path.isdigit()):
        raise wrong(f"a database number after the host, such as '{name}://localhost:{scheme.port}/0'")
    return StorageURL(url, scheme, shown, nodes=tuple(filter(None, nodes)), path=path)


def _node(text: str, default: int) -> tuple[str, int] | None:
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        return None
    if port == 0 or not text.isascii() or not text.isprintable() or " " in text:
        return None
    return parts.hostname or "localhost", port or default


def probe(url: StorageURL, option: str, *, timeout: float = PROBE_SECONDS) -> None:
    """Connect to the store once, so that an unreachable store is an error at start-up and not of the first request.

    One reachable node is enough. Stores without a network are not probed. The call blocks for at most ``timeout``
    seconds per address, so it belongs to start-up code.

    :param url: the checked URL.
    :param option: the name of the option, for the message of an error.
    :param timeout: seconds for one address.
    :raises ConfigError: with ``option``, the masked URL and each address that refused the connection.
    """
    problems: list[str] = []
    for target in [url.path] if url.scheme.unix else url.nodes:
        try:
            _connect(target, timeout)
        except OSError as error:
            address = target if isinstance(target, str) else f"{target[0]}:{target[1]}"
            problems.append(f"{address}: {error.strerror or type(error).__name__}")
        else:
            return
    if problems:
        raise ConfigError(
            option,
            url.shown,
            f"a store that accepts connections ({'; '.join(problems)}). Start it, correct the URL, or name "
            "on_store_failure to start without it",
        )


def _connect(target: str | tuple[str, int], timeout: float) -> None:
    if isinstance(target, str):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(target)
    else:
        socket.create_connection(target, timeout).close()
