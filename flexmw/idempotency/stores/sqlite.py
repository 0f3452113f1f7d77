"""``sqlite:///file``: a store in one SQLite file, for all processes of one machine. Its entries survive a kill.

>>> path_of("sqlite:////var/keys.db")
PosixPath('/var/keys.db')
"""

from __future__ import annotations

from pathlib import Path

from flexmw.errors import ConfigError
from flexmw.idempotency.stores import Store, StoreOptions
from flexmw.idempotency.stores.sqlite_async import AsyncSQLiteStore
from flexmw.idempotency.stores.sqlite_problems import expected_of
from flexmw.idempotency.stores.sqlite_size import Bounds
from flexmw.idempotency.stores.sqlite_store import NO_BOUNDS, SQLiteStore

__all__ = ["AsyncSQLiteStore", "SQLiteStore", "from_url", "path_of"]


def from_url(url: str, options: StoreOptions) -> Store:
    """The store of ``sqlite:///file``. The file is opened once, now, so that a wrong path is an error at start."""
    path = path_of(url, options.option)
    try:
        if options.existing and not path.exists():
            raise ConfigError(options.option, url, f"a file that is there: no process has kept keys in {path}")
        bounds = NO_BOUNDS if options.existing else Bounds(options.capacity, options.max_bytes)
        store = SQLiteStore(path, timeout=options.timeout, bounds=bounds, clock=options.clock)
        store.check(options.option)
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise ConfigError(options.option, str(path), expected_of(error)) from error
    return AsyncSQLiteStore(store)


def path_of(url: str, option: str = "storage") -> Path:
    """The file that ``sqlite:///keys.db`` (relative) or ``sqlite:////var/keys.db`` (absolute) names.

    A relative path is resolved against the working directory at the time of the call.

    :raises ConfigError: for a URL that names no file.
    """
    rest = url.partition("://")[2]
    if not rest.startswith("/") or not rest[1:] or rest.endswith("/") or {"\0", "?"} & {*rest}:
        raise ConfigError(
            option, url, "sqlite:///file (relative) or sqlite:////folder/file (absolute), without parameters"
        )
    if rest == "/:memory:":
        raise ConfigError(option, url, "a file, or 'memory://' for keys that live in this process alone")
    return Path(rest[1:]).absolute()
