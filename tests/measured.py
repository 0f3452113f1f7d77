"""Which tests coverage measures: of a test with many parameters, the first ones.

A traced test takes twice the processor time of an untraced one, and the same test with another value seldom reaches
another line. Every test runs; the repetitions run untraced. The gates of ``tox.ini`` judge the lines that the measured
tests reach.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from typing import Any, Final

import pytest
from hypothesis import is_hypothesis_test

__all__ = ["MEASURED_PARAMETERS", "MeasuredItems", "repetitions"]

MEASURED_PARAMETERS: Final = 4
"""How many of a test's parameters coverage measures, on each async backend: as many as there are kinds of stores."""

_TABLES: Final = (
    "tests/contract/",
    "/test_core.py",
    "tests/ratelimit/test_algorithms.py",
    "tests/ratelimit/test_rates.py",
    "tests/test_odd_exceptions.py",
)
"""The tests of what must be covered whole, see ``tox.ini``: each example may be the only one that reaches a row."""


def repetitions(items: Iterable[pytest.Item]) -> Iterable[pytest.Item]:
    """The items that reach no line of their own, as a rule: further parameters of a test, and properties.

    :param items: the collected items, in the order of their parameters.
    """
    measured: Counter[tuple[str, object]] = Counter()
    for item in items:
        if any(part in item.nodeid for part in _TABLES):
            continue
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        test = item.nodeid.partition("[")[0], parameters.get("anyio_backend")
        measured[test] += 1
        if measured[test] > MEASURED_PARAMETERS or is_hypothesis_test(getattr(item, "obj", None)):
            yield item


class MeasuredItems:
    """A pytest plugin that pauses coverage while a repetition runs, with its fixtures.

    :param controller: the controller of pytest-cov in this process.
    :param items: the collected items.
    """

    def __init__(self, controller: Any, items: Iterable[pytest.Item]) -> None:
        self._controller = controller
        self._repetitions = {item.nodeid for item in repetitions(items)}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        # Coverage stays as it is between two items of one kind: most repetitions follow each other.
        measured = item.nodeid not in self._repetitions
        if measured and not self._controller.started:
            self._controller.resume()
        elif not measured and self._controller.started:
            self._controller.pause()
        return (yield)
