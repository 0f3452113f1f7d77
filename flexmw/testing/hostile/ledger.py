"""The counts of the server: requests, executions, connections, and the idempotency keys that it knows."""

from __future__ import annotations

from threading import Condition
from typing import Literal, TypeAlias

from flexmw.testing.hostile.good import Good, answer_to
from flexmw.testing.hostile.received import Received

__all__ = ["Count", "Ledger"]

Count: TypeAlias = Literal["executions", "requests", "connections", "closed"]

_Key: TypeAlias = tuple[str | None, str]


class Ledger:
    """Thread-safe counts that a test can wait for.

    :param dedup: honour ``Idempotency-Key``, for each ``Authorization`` separately.
    """

    def __init__(self, *, dedup: bool) -> None:
        self._changed = Condition()
        self._dedup = dedup
        self._requests: list[Received] = []
        self._executed: list[Received] = []
        self._connections = 0
        self._closed = 0
        self._done: dict[_Key, tuple[Received, Good]] = {}

    @property
    def requests(self) -> tuple[Received, ...]:
        with self._changed:
            return tuple(self._requests)

    @property
    def executed(self) -> tuple[Received, ...]:
        with self._changed:
            return tuple(self._executed)

    def open(self) -> int:
        """Count a connection, and return its number, from 1."""
        with self._changed:
            self._connections += 1
            self._changed.notify_all()
            return self._connections

    def close(self) -> None:
        with self._changed:
            self._closed += 1
            self._changed.notify_all()

    def note(self, request: Received) -> None:
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()

    def execute(self, request: Received) -> Good:
        """Count an execution, unless the key of the request is known. Return the good response."""
        key = self._key(request)
        with self._changed:
            if key is not None and key in self._done:
                return self._done[key][1]
            self._executed.append(request)
            good = answer_to(request, len(self._executed))
            if key is not None:
                self._done[key] = (request, good)
            self._changed.notify_all()
            return good

    def known(self, request: Received) -> tuple[Received, Good] | None:
        """Return the request that was executed with the same key, and its good response."""
        key = self._key(request)
        with self._changed:
            return None if key is None else self._done.get(key)

    def forget(self) -> None:
        """Set the counts to zero, except the count of open connections."""
        with self._changed:
            self._requests.clear()
            self._executed.clear()
            self._done.clear()
            self._connections -= self._closed
            self._closed = 0

    def count(self, what: Count) -> int:
        with self._changed:
            return self._count(what)

    def wait_for(self, n: int, what: Count, timeout: float) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._count(what) >= n, timeout):
                seen = ", ".join(f"{name}={self._count(name)}" for name in _COUNTS)
                raise TimeoutError(f"waited {timeout:g} s for {n} {what}; there are {seen}")

    def _count(self, what: Count) -> int:
        counts: dict[Count, int] = {
            "executions": len(self._executed),
            "requests": len(self._requests),
            "connections": self._connections,
            "closed": self._closed,
        }
        return counts[what]

    def _key(self, request: Received) -> _Key | None:
        value = request.header("idempotency-key") if self._dedup else None
        return None if value is None else (request.header("authorization"), value)


_COUNTS: tuple[Count, ...] = ("executions", "requests", "connections", "closed")
