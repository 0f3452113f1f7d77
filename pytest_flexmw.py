"""The pytest plugin ``flexmw``: fixtures for the tests of an app or a client that uses flexmw.

pytest imports this module in every run on an environment that has flexmw, so the module imports nothing but pytest. It
does nothing until a test uses one of its fixtures, or the setting ``flexmw_memory_stores`` is true.

Public: the fixtures. ``docs/testing.md`` describes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flexmw.testing import FakeClock

__all__ = ["flexmw_clock", "flexmw_memory_stores", "flexmw_reset"]

_SETTING = "flexmw_memory_stores"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(_SETTING, "flexmw components keep their state in memory, whatever storage they name", "bool", False)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Replace stores before a ``conftest.py`` or a test module imports the app."""
    if early_config.getini(_SETTING):
        from flexmw.testing.isolation import use_memory_stores

        use_memory_stores()


@pytest.fixture
def flexmw_reset() -> None:
    """Forget, before the test, what earlier tests have left in memory: counts of limits, idempotency keys, what clients
    have learned. A real redis or a sqlite file is not touched."""
    from flexmw.testing.isolation import reset

    reset()


@pytest.fixture
def flexmw_clock() -> Iterator[FakeClock]:
    """A clock that stands still until the test moves it, for every component of this process. Waits of clients are
    recorded in ``slept`` and take no time."""
    from flexmw.testing.isolation import fake_clock

    with fake_clock() as clock:
        yield clock


@pytest.fixture
def flexmw_memory_stores() -> Iterator[None]:
    """Components that the test makes keep their state in memory, whatever storage they name."""
    from flexmw.testing.isolation import memory_stores

    with memory_stores():
        yield
