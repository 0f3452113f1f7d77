"""Storage URLs: the table of schemes, the parser, and a connection test for stores that are not redis.

>>> parse("redis://:secret@cache:6380/2", "RateLimit(storage=...)")
StorageURL('redis://***@cache:6380/2')
>>> parse("redsi://localhost", "RateLimit(storage=...)", schemes=schemes_of("memory", "redis"))
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: RateLimit(storage=...) = 'redsi://localhost': expected a storage URL whose scheme is one \
of memory, redis, redis+unix, rediss, valkey, valkey+unix, valkeys

A message never shows user info or the value of an option of the query: either may hold a password.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from flexmw.errors import ConfigError
from flexmw.kit import redis_options
from flexmw.kit.checking import is_checking

__all__ = [
    "PROBE_SECONDS",
    "REDIS_FAMILIES",
    "SCHEMES",
    "Scheme",
    "StorageURL",
    "mask",
    "parse",
    "probe",
    "schemes_of",
    "unusable_at_start",
]

PROBE_SECONDS: Final = 2.0
"""Seconds for one command at start-up. A TLS handshake from a busy machine took more than one second."""

_STEP: Final = "Start it, correct the URL, or set on_store_failure to start without it"


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


def _redis_rows() -> dict[str, Scheme]:
    """The schemes of redis, and the same ones of valkey, which speaks the same protocol."""
    rows: dict[str, Scheme] = {}
    for name in ("redis", "valkey"):
        for tls in (False, True):
            start = f"{name}s" if tls else name
            rows[start] = Scheme("redis", *_REDIS, 6379, tls=tls)
            rows[f"{start}+cluster"] = Scheme("redis+cluster", *_REDIS, 6379, tls=tls)
            rows[f"{start}+sentinel"] = Scheme("redis+sentinel", *_REDIS, 26379, tls=tls)
        rows[f"{name}+unix"] = Scheme("redis", *_REDIS, unix=True)
    return rows


SCHEMES: Final[dict[str, Scheme]] = {
    "memory": Scheme("memory", embedded=True),
    "sqlite": Scheme("sqlite", embedded=True),
    **_redis_rows(),
    "memcached": Scheme("memcached", "memcachio", "flexmw[memcached]", 11211),
    "mongodb": Scheme("mongodb", *_MONGO, 27017),
}
"""Every scheme that a flexmw component supports. Valkey speaks the redis protocol, so redis-py is its driver."""

REDIS_FAMILIES: Final = ("redis", "redis+cluster", "redis+sentinel")
"""The families of the stores that :mod:`flexmw.kit.redis_client` connects to."""


def schemes_of(*families: str) -> tuple[str, ...]:
    """The names of all schemes of some families, in the order of :data:`SCHEMES`.

    >>> schemes_of("memory", "redis+cluster")
    ('memory', 'redis+cluster', 'rediss+cluster', 'valkey+cluster', 'valkeys+cluster')

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
    :param nodes: host and port of each node, or of each Sentinel; empty when the scheme has no port.
    :param path: the socket or file, or the database number, without the query.
    :param username: the user name of a redis URL, decoded; ``None`` without one.
    :param password: its password, decoded; ``None`` without one.
    :param options: the options of its query; see :mod:`flexmw.kit.redis_options`.
    :param service: the name under which a Sentinel knows the primary.
    :param client: the client of redis-py whose settings are used; the other fields describe it.
    """

    url: str = field(repr=False)
    scheme: Scheme
    shown: str
    nodes: tuple[tuple[str, int], ...] = ()
    path: str = ""
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    options: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    service: str = ""
    client: Any = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"StorageURL({self.shown!r})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that no message may show."""
        values = (self.password, *(self.options.get(name) for name in redis_options.SECRETS))
        return tuple(value for value in values if value)


def mask(url: object) -> object:
    """A URL without its user info and without the values of its query, for messages. A value that is not a text is
    returned unchanged.

    Everything before the last ``@`` is removed, because a password may contain any character, ``/`` and ``@`` too.
    """
    if not isinstance(url, str):
        return url
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    start = scheme + separator
    info, at, address = rest.rpartition("@")
    if "?" in info:  # whether the last @ ends the user info or belongs to a value of the query, nobody knows
        return f"{start}***"
    address, mark, query = address.partition("?")
    names = [pair.partition("=")[0] for pair in query.split("&")]
    shown = "&".join(f"{name}=***" if name in redis_options.OPTIONS else "***" for name in names) if mark else ""
    return f"{start}{'***@' if at else ''}{address}{mark}{shown}"


def parse(url: object, option: str, *, schemes: Collection[str] = tuple(SCHEMES)) -> StorageURL:
    """Check a storage URL against the schemes that a component supports.

    :param url: the value of the option.
    :param option: the name of the option, for the message of an error.
    :param schemes: names of the supported schemes. A name that is not in :data:`SCHEMES` belongs to a storage that the
        application registered; its family is its name.
    :raises ConfigError: with ``option``, the masked value and what was expected, when the value is not a text, the
        scheme is unknown, the driver is not installed, or a port, a database number or an option of the query is not
        valid. For the options of another environment (:func:`~flexmw.kit.checking.is_checking`), no driver is needed.
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
    if scheme.driver and not is_checking() and find_spec(scheme.driver) is None:
        raise wrong(f"the package {scheme.driver!r} to be installed for {name}://: pip install '{scheme.install}'")
    is_redis = scheme.family in REDIS_FAMILIES
    info, _, rest = rest.rpartition("@")
    if is_redis and "?" in info:
        raise wrong("user info in which '?' is written as %3F, and options in which '@' is written as %40")
    shown, (address, _, query) = str(mask(url)), rest.partition("?")
    username, password, options = None, None, dict[str, Any]()
    if is_redis:
        user, _, secret = info.partition(":")
        try:
            options = redis_options.read(query, tls=scheme.tls, family=scheme.family)
        except ValueError as expected:
            raise wrong(str(expected)) from None
        username = unquote(user) or options.pop("username", None)
        password = unquote(secret) or options.pop("password", None)
    if scheme.unix:
        path = unquote(address)
        if not path.startswith("/"):
            raise wrong(f"the absolute path of a socket, such as '{name}:///run/store.sock'")
        return StorageURL(url, scheme, shown, (), path, username, password, options)
    if scheme.port is None:
        return StorageURL(url, scheme, shown, path=rest)
    authority, _, path = address.partition("/")
    nodes = tuple(_node(text, scheme.port) for text in authority.split(","))
    if None in nodes:
        raise wrong(f"host:port with a port from 1 to 65535, such as '{name}://localhost:{scheme.port}'")
    service = ""
    if scheme.family == "redis+sentinel":
        service, _, path = path.partition("/")
        service = unquote(service)
        if not service:
            raise wrong(f"the name of the primary after the Sentinels, such as '{name}://localhost:26379/mymaster'")
    if scheme.family == "redis" and len(nodes) > 1:
        raise wrong(f"one host; several of them are {name}+cluster:// or {name}+sentinel://")
    if is_redis and path and not (path.isascii() and path.isdigit()):
        raise wrong(f"a database number after the host, such as '{name}://localhost:{scheme.port}/0'")
    if scheme.family == "redis+cluster" and path.strip("0"):
        raise wrong("no database number: a cluster has the database 0 alone")
    if path and scheme.family != "redis+cluster" and is_redis:
        options.setdefault("db", int(path))
    known = tuple(filter(None, nodes))
    return StorageURL(url, scheme, shown, known, path, username, password, options, service)


def _node(text: str, default: int) -> tuple[str, int] | None:
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        return None
    if port == 0 or not text.isascii() or not text.isprintable() or " " in text:
        return None
    return parts.hostname or "localhost", port or default


def probe(url: StorageURL, option: str, *, required: bool, log: logging.Logger, timeout: float = PROBE_SECONDS) -> None:
    """Connect to the store once, so that an unreachable store is found at start-up and not by the first request.

    One reachable node is enough. Stores without a network are not probed. The call blocks for at most ``timeout``
    seconds per address, so it belongs to start-up code.

    :param url: the checked URL.
    :param option: the name of the option, for the message of an error.
    :param required: whether a store that cannot be reached is an error; otherwise it is a WARNING.
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
        unusable_at_start(url, option, "; ".join(problems), required=required, log=log)


def unusable_at_start(url: StorageURL, option: str, problem: str, *, required: bool, log: logging.Logger) -> None:
    """A store cannot be used at start-up, for a reason that may pass.

    :param problem: the reason, without a full stop.
    :param required: whether that is an error; otherwise it is a WARNING.
    :raises ConfigError: the store is required.
    """
    if required:
        raise ConfigError(option, url.shown, f"a store that accepts connections ({problem}). {_STEP}") from None
    log.warning("%s = %s: the store cannot be used at start: %s", option, url.shown, problem)


def _connect(target: str | tuple[str, int], timeout: float) -> None:
    if isinstance(target, str):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(target)
    else:
        socket.create_connection(target, timeout).close()
