"""The table of a configuration file that a component is built from, for what distinguishes components by their origin.

>>> configured_table()
()
>>> with building_from(("flexmw.toml", "ratelimit", 1)):
...     configured_table()
('flexmw.toml', 'ratelimit', 1)
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["ConfiguredTable", "building_from", "configured_table"]

ConfiguredTable = tuple[str | int, ...]
"""File, names and index of a table. Equal tables of one process are the same table."""

_table: Final[ContextVar[ConfiguredTable]] = ContextVar("flexmw.kit.configured", default=())


@contextmanager
def building_from(table: ConfiguredTable) -> Generator[None]:
    """In this context, components are built from a table."""
    token = _table.set(table)
    try:
        yield
    finally:
        _table.reset(token)


def configured_table() -> ConfiguredTable:
    """The table of the component that is being built; empty for a component that code makes."""
    return _table.get()
