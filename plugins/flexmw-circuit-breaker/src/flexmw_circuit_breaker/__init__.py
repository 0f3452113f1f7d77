"""Stop calling an origin that keeps failing, and try it again with one call after a while.

>>> import flexmw, httpx
>>> client = flexmw.wrap_client(httpx.Client(), CircuitBreaker(failures=3, cooldown=10.0))
>>> client.close()

Written against flexmw's public names only: what it does, any plugin can do.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import flexmw
from flexmw_circuit_breaker._circuits import Circuits

__all__ = ["CircuitBreaker", "CircuitOpen"]


class CircuitOpen(flexmw.FlexmwError):
    """A call was refused because its origin keeps failing. Nothing was sent.

    What a client raises is also the ``ConnectError`` of its own library, so that code which handles a server that
    cannot be reached, such as an SDK's, handles this too.

    ``origin`` is scheme, host and port; ``wait`` the seconds until a call is let through again.
    """

    origin: str
    wait: float


@dataclass(frozen=True, kw_only=True)
class CircuitBreaker:
    """Count the failures of each origin; refuse its calls for ``cooldown`` seconds once ``failures`` came in a row.

    A failure is an error of the transport or a status in ``statuses``. After the cooldown one call is let through: if
    it works, all are again; if it fails, the cooldown starts anew. 429 is no failure: the server works and says when
    to come back.

    It belongs outside ``retry``: it counts calls that retrying could not save, and what it refuses is not retried.

    :param failures: how many in a row, at least 1.
    :param cooldown: seconds, above 0.
    :param statuses: statuses of a server that does not work.
    :param clock: a function that gives seconds and never goes backwards.
    :raises flexmw.ConfigError: an option that cannot work.
    """

    name: ClassVar[str] = "contrib.breaker"
    api: ClassVar[int] = 1
    order: ClassVar[flexmw.Order] = flexmw.Order(after=("tagging",), before=("retry", "pace"))

    failures: int = 5
    cooldown: float = 30.0
    statuses: tuple[int, ...] = (500, 502, 503, 504)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False, metadata={"hidden": True})
    _circuits: Circuits = field(default_factory=Circuits, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rules: tuple[tuple[str, bool, str], ...] = (
            ("failures", _is_count(self.failures), "a whole number, at least 1"),
            ("cooldown", _is_seconds(self.cooldown), "a number of seconds above 0"),
            ("statuses", all(isinstance(status, int) for status in self.statuses), "a list of HTTP statuses"),
        )
        for option, fits, expected in rules:
            if not fits:
                raise flexmw.ConfigError(f"CircuitBreaker({option}=...)", getattr(self, option), expected)

    def flow(self, request: flexmw.Request) -> flexmw.Flow:
        """Client side: let one call through, or refuse it.

        :raises CircuitOpen: the origin keeps failing.
        """
        url = request.url
        origin = f"{url.scheme}://{url.host}" + (f":{url.port}" if url.port else "")
        circuit = self._circuits.of(origin)
        entry = circuit.enter(self.clock())
        if entry.wait > 0:
            raise _refusal(request, origin, entry.wait)
        worked: bool | None = None
        try:
            response = yield from flexmw.send(request)
            worked = response.status_code not in self.statuses
            return response
        except Exception:
            worked = False
            raise
        finally:
            circuit.leave(entry, worked, self.clock(), failures=self.failures, cooldown=self.cooldown)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 1


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _refusal(request: flexmw.Request, origin: str, wait: float) -> CircuitOpen:
    library = sys.modules.get(type(request).__module__.partition(".")[0])
    error = _kind(getattr(library, "ConnectError", None))(
        f"{origin} keeps failing: no calls for another {wait:.1f} s. Nothing was sent."
    )
    error.origin, error.wait = origin, wait
    return error


@lru_cache(maxsize=4)
def _kind(connect_error: Any) -> type[CircuitOpen]:
    """CircuitOpen as the client's library knows it."""
    if connect_error is None:
        return CircuitOpen
    return type("CircuitOpen", (CircuitOpen, connect_error), {"__module__": __name__, "__doc__": CircuitOpen.__doc__})
