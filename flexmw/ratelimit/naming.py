"""The default prefix of a limiter, which keeps the counters of limiters in one store apart.

Two limiters of one process with the same store, strategy, rate and caller would share a counter: the limiter of an app
and the limiter of an app that is mounted in it, for example. The second limiter therefore gets the prefix ``2``, the
third ``3``. The place in the source that makes a limiter identifies it, and the table of the configuration file if one
line builds several. So every process of a service gives its limiters the same numbers, and importing a module or
reading a file twice makes no new limiter. ``OTEL_SERVICE_NAME`` separates services.

>>> main, admin = ("main.py", 1, 20), ("admin.py", 1, 20)
>>> counters = Counters()
>>> [counters.number(place, ["10/minute"]) for place in (main, admin, main)]
[1, 2, 1]
>>> counters.number(("jobs.py", 1, 20), ["99/day"])
1
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable
from itertools import count, islice
from threading import Lock
from typing import Final

from flexmw.kit.configured import configured_table
from flexmw.kit.forked import fork_safe

__all__ = ["SERVICE_VARIABLE", "Counters", "default_prefix"]

SERVICE_VARIABLE: Final = "OTEL_SERVICE_NAME"
"""The environment variable with the name of the service, of OpenTelemetry's specification."""

_PACKAGE: Final = __name__.partition(".")[0]
_Place = tuple[str | int | None, ...]


class Counters:
    """The counters of a process, and the places in the source whose limiters count in them."""

    def __init__(self) -> None:
        self._owners: dict[tuple[str, int], _Place] = {}
        self._lock = fork_safe(Lock())

    def number(self, place: _Place, names: Collection[str]) -> int:
        """The smallest number under which no other place has one of the counters.

        All counters of a limiter have one number: with different prefixes they would be on different nodes of a
        cluster.

        :param names: the counters of the limiter that the place makes.
        """
        with self._lock:
            number = next(
                number for number in count(1) if all(self._owners.get((name, number), place) == place for name in names)
            )
            self._owners.update({(name, number): place for name in names})
            return number


_counters: Final = Counters()


def default_prefix(store: str, strategy: str, names: Iterable[str]) -> str:
    """The prefix of the limiter that the calling code makes.

    :param store: the URL of the store, or another name for it.
    :param names: the names of the counters in the store, without prefix and caller.
    :return: the name of the service, if the environment has it, and the number of the limiter if another limiter has
        the same counters; empty without both.
    """
    place = *_calling_place(), *configured_table()
    number = _counters.number(place, [f"{store} {strategy} {name}" for name in names])
    service = "".join(char if char.isalnum() or char in "._-" else "_" for char in os.environ.get(SERVICE_VARIABLE, ""))
    return ":".join(part for part in (service, str(number) if number > 1 else "") if part)


def _calling_place() -> _Place:
    """File, first line of the function, bytecode offset, line and column of the call into this package.

    The offset tells two calls on one line apart where Python runs without columns; the column tells two lambdas on
    one line apart, whose calls have one offset.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame = frame.f_back
    code = frame.f_code
    line, _, column, _ = next(islice(code.co_positions(), frame.f_lasti // 2, None), (None,) * 4)
    return code.co_filename, code.co_firstlineno, frame.f_lasti, line, column
