"""Storage URLs: read, checked, and knocked at before the first request.

>>> parse("redis://:secret@cache:6380/2", "RateLimit(storage=...)")
StorageURL('redis://***@cache:6380/2')
>>> parse("redsi://localhost", "RateLimit(storage=...)")
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: RateLimit(storage=...) = 'redsi://localhost': expected a storage URL whose scheme is one \
of memcached, memory, mongodb, redis, redis+cluster, redis+unix, rediss, valkey, valkey+cluster, valkey+unix, valkeys
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from flexmw.errors import ConfigError

__all__ = ["SCHEMES", "Scheme", "StorageURL", "mask", "parse", "probe"]

PROBE_SECONDS: Final = 1.0


class Scheme(NamedTuple):
    """``driver`` is the module a scheme needs and ``install`` what provides it; ``port`` the one that it defaults to
    (``None``: no network). ``family`` names the kind of store; ``unix`` means that the path is a socket."""

    family: str
    driver: str | None = None
    install: str = ""
    port: int | None = None
    tls: bool = False
    unix: bool = False


_REDIS: Final = ("redis", "flexmw[redis]")
_MONGO: Final = ("motor", "motor")

SCHEMES: Final[dict[str, Scheme]] = {
    "memory": Scheme("memory"),
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
"""What flexmw knows by itself. Valkey is spoken to by redis-py: the protocol is the same."""

_EMBEDDED: Final = {"sqlite": Scheme("sqlite")}


@dataclass(frozen=True, slots=True)
class StorageURL:
    """A storage URL that was checked. ``url`` holds the credentials; ``repr`` and ``shown`` do not."""

    url: str = field(repr=False)
    scheme: Scheme
    shown: str
    nodes: tuple[tuple[str, int], ...] = ()
    path: str = ""

    def __repr__(self) -> str:
        return f"StorageURL({self.shown!r})"


def mask(url: object) -> object:
    """A URL without its user info, for messages: all up to the last ``@`` goes, whatever characters a password has."""
    if not isinstance(url, str) or "@" not in url:
        return url
    scheme, found, rest = url.partition("://")
    return f"{scheme}://***@{rest.rpartition('@')[2]}" if found else "***@" + url.rpartition("@")[2]


def parse(url: object, option: str, *, schemes: Collection[str] = tuple(SCHEMES)) -> StorageURL:
    """Check a storage URL against the schemes that a component supports.

    :param schemes: their names; one that is not in :data:`SCHEMES` belongs to a storage that the host registered.
    :raises ConfigError: naming ``option``, the masked value and what would be right: no text, an unknown scheme, a
        missing driver with the command that installs it, a bad port or database number.
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
    scheme = SCHEMES.get(name) or _EMBEDDED.get(name) or Scheme(name)
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
    """Connect once to the store, so that one that is not there is found at start and not by the first caller.

    Does nothing for stores without a network. Of several nodes one that answers is enough. Blocks for ``timeout``
    seconds at most for each address: meant for start-up, where no event loop is held up for long.

    :raises ConfigError: naming ``option``, the masked URL and the address that does not answer.
    """
    problems: list[str] = []
    for target in [url.path] if url.scheme.unix else url.nodes:
        try:
            _connect(target, timeout)
        except OSError as error:
            where = target if isinstance(target, str) else f"{target[0]}:{target[1]}"
            problems.append(f"{where}: {error.strerror or type(error).__name__}")
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
