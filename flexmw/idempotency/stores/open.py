"""Open the store that a URL names.

A built-in store is a module of this package and a row in :data:`FAMILIES`. Other distributions declare a store as an
entry point of the group ``flexmw.stores``: its name is the URL scheme, its target a function
``(url: str, options: StoreOptions) -> Store``. The built-in rows name functions of the same shape.

>>> check_url("sqlite://keys.db", "Idempotency(storage=...)")
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: Idempotency(storage=...) = 'sqlite://keys.db': expected sqlite:///file (relative) or \
sqlite:////folder/file (absolute), without parameters
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias, cast

from flexmw.errors import ConfigError, FlexmwError
from flexmw.idempotency.stores import Store, StoreOptions
from flexmw.kit import store_url
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.entry_points import Plugin, claim, declared, fault, load, load_target
from flexmw.kit.storage import RedisClient, is_redis_client, parse_storage
from flexmw.kit.store_url import mask, schemes_of

__all__ = [
    "FAMILIES",
    "GROUP",
    "SCHEMES",
    "Factory",
    "Family",
    "check_url",
    "installed_stores",
    "is_bounded",
    "load_factory",
    "open_store",
    "shown_store",
]

GROUP: Final = "flexmw.stores"
"""The entry-point group of stores. The name of an entry point is a URL scheme in lower case."""


Factory: TypeAlias = Callable[[str, StoreOptions], Store]
"""Opens the store of a URL."""


class Family(NamedTuple):
    """How the stores of one family of URL schemes are opened. Functions are named as ``module:function``, so that a
    store and its driver are imported only when a URL names them.

    :param factory: a :data:`Factory`.
    :param check: ``(url, option)``; raises ``ConfigError`` for a URL that cannot work, and opens nothing.
    :param capacity: number of keys that the store holds by default.
    :param max_bytes: bytes of entries and logs that the store holds by default.
    :param is_bounded: whether flexmw bounds the store. A server bounds itself.
    """

    factory: str
    check: str | None = None
    capacity: int = 10_000
    max_bytes: int = 64 * 1024 * 1024
    is_bounded: bool = False


FAMILIES: Final[Mapping[str, Family]] = {
    "memory": Family("flexmw.idempotency.stores.memory:from_url", is_bounded=True),
    "sqlite": Family(
        "flexmw.idempotency.stores.sqlite:from_url",
        check="flexmw.idempotency.stores.sqlite:path_of",
        capacity=1_000_000,
        max_bytes=4 * 1024 * 1024 * 1024,
        is_bounded=True,
    ),
    "redis": Family("flexmw.idempotency.stores.redis:from_url"),
    "redis+cluster": Family("flexmw.idempotency.stores.redis:from_url"),
    "redis+sentinel": Family("flexmw.idempotency.stores.redis:from_url"),
}
"""The built-in stores by family; :data:`flexmw.kit.store_url.SCHEMES` says which schemes a family has. The name of any
other family is its only scheme."""

_PLUGIN: Final = Family("", is_bounded=True)
"""The default bounds of a store of another distribution, which loads its own factory."""

_KNOWN: Final = frozenset(scheme.family for scheme in store_url.SCHEMES.values())

SCHEMES: Final = (
    *schemes_of(*(family for family in FAMILIES if family in _KNOWN)),
    *(family for family in FAMILIES if family not in _KNOWN),
)
"""The URL schemes of the built-in stores. An entry point cannot take one of them over."""


@lru_cache(maxsize=1)
def installed_stores() -> tuple[Plugin, ...]:
    """The stores that installed distributions declare, sorted by scheme. Imports none of them; scans once."""
    return declared(GROUP)


def check_url(url: str, option: str) -> None:
    """Check a storage URL without opening the store.

    :param option: the name of the option that holds the URL.
    :raises ConfigError: for a URL that cannot work.
    :raises PluginError: when two distributions declare the scheme.
    """
    if _plugin(url) is None:
        family = _family(url, option)
        if family.check is not None:
            load_target(family.check)(url, option)


def open_store(
    storage: str | Store | RedisClient,
    *,
    option: str = "storage",
    timeout: float = 2.0,
    capacity: int | None = None,
    max_bytes: int | None = None,
    reach: bool = False,
    probe: bool = False,
    prefix: str = "flexmw:idempotency",
    existing: bool = False,
    clock: Clock = SYSTEM,
) -> Store:
    """The store that a URL names. A store object is returned as it is. Of a client of redis-py the settings are used.

    ``sqlite:///keys.db`` is a path relative to the working directory, ``sqlite:////var/keys.db`` an absolute path. The
    keyword arguments are those of :class:`StoreOptions`. ``capacity`` and ``max_bytes`` have no effect on redis and on
    a store object. ``None`` is 10,000 keys and 64 MiB in memory, and 1,000,000 keys and 4 GiB in a sqlite file.

    :raises ConfigError: for a URL that cannot work, or a store that cannot be opened; the message begins with
        ``option``.
    :raises PluginError: when a store of another distribution is broken, or two distributions declare its scheme.
    """
    if not isinstance(storage, str) and not is_redis_client(storage):
        if not isinstance(storage, Store):
            raise ConfigError(option, storage, "a storage URL such as 'sqlite:///keys.db', or a flexmw Store")
        return storage
    plugin = _plugin(storage) if isinstance(storage, str) else None
    family = _PLUGIN if plugin is not None else _family(storage, option)
    options = StoreOptions(
        option=option,
        timeout=timeout,
        capacity=family.capacity if capacity is None else capacity,
        max_bytes=family.max_bytes if max_bytes is None else max_bytes,
        reach=reach,
        probe=probe,
        prefix=prefix,
        existing=existing,
        clock=clock,
    )
    if plugin is not None:
        return _from_plugin(plugin, str(storage), options)
    store: Store = load_target(family.factory)(storage, options)
    return store


def is_bounded(storage: str | Store | RedisClient) -> bool:
    """Whether ``capacity`` and ``max_bytes`` have an effect on a storage, or may have one on a store of another
    distribution."""
    if not isinstance(storage, str):
        return False
    return _plugin(storage) is not None or _family(storage, "storage").is_bounded


def shown_store(storage: str | Store | RedisClient) -> tuple[str, tuple[str, ...]]:
    """A storage as messages may show it, and the texts that they may not."""
    if isinstance(storage, str) and (_plugin(storage) is not None or storage.startswith("sqlite:")):
        return str(mask(storage)), ()
    if not isinstance(storage, str) and not is_redis_client(storage):
        return type(storage).__name__, ()
    url = parse_storage(storage, "storage", schemes=SCHEMES)
    return url.shown, url.secrets


def _family(url: Any, option: str) -> Family:
    if not isinstance(url, str):
        return FAMILIES[parse_storage(url, option, schemes=SCHEMES).scheme.family]
    schemes = SCHEMES if _scheme(url) in SCHEMES else (*SCHEMES, *(plugin.name for plugin in installed_stores()))
    return FAMILIES[parse_storage(url, option, schemes=schemes).scheme.family]


def _plugin(url: str) -> Plugin | None:
    """The entry point for the scheme of a URL; ``None`` when the scheme is built in or unknown."""
    scheme = _scheme(url)
    return None if scheme in SCHEMES else claim(installed_stores(), scheme)


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower().removeprefix("async+")


def load_factory(plugin: Plugin) -> Factory:
    """Import the function that opens the store of another distribution.

    :raises PluginError: when the import fails, or the object is not a function.
    """
    factory = load(plugin)
    if not callable(factory):
        fix = f"Repair or upgrade {plugin.distribution}"
        raise fault(plugin, "is not callable: a store is a function (url, options)", fix=fix)
    return cast("Factory", factory)


def _from_plugin(plugin: Plugin, url: str, options: StoreOptions) -> Store:
    factory = load_factory(plugin)
    fix = f"Repair or upgrade {plugin.distribution}"
    try:
        store: Any = factory(url, options)
    except FlexmwError:
        raise
    except Exception as error:
        raise fault(plugin, f"failed to open a store: {type(error).__name__}: {error}", fix=fix) from error
    if not isinstance(store, Store):
        problem = f"returned a {type(store).__name__}, which lacks a method of flexmw.idempotency.Store"
        raise fault(plugin, problem, fix=fix)
    return store
