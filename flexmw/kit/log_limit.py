"""A bound on the number of log lines that a fault can cause.

>>> limit = LogLimit(burst=2, per_second=1.0, monotonic=iter((0.0, 0.0, 0.0, 5.0)).__next__)
>>> limit.admit(), limit.admit(), limit.admit(), limit.admit()
('', '', None, ' (1 more such line was left out)')
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from flexmw.kit.forked import fork_safe

__all__ = ["LogLimit"]


class LogLimit:
    """A token bucket for log lines. Safe for threads.

    :param burst: lines that may come at once.
    :param per_second: lines per second after that.
    :param monotonic: the clock in seconds.
    """

    def __init__(self, *, burst: int, per_second: float, monotonic: Callable[[], float]) -> None:
        self._burst, self._per_second, self._monotonic = burst, per_second, monotonic
        self._lock = fork_safe(Lock())
        self._tokens, self._filled_at = float(burst), float("-inf")
        self._left_out = 0

    def admit(self) -> str | None:
        """Ask for one line. ``None``: leave it out. Else what the line ends in: how many such lines were left out since
        the last one, or an empty text for none."""
        with self._lock:
            now = self._monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
            self._filled_at = now
            if self._tokens < 1.0:
                self._left_out += 1
                return None
            self._tokens -= 1.0
            left_out, self._left_out = self._left_out, 0
        if not left_out:
            return ""
        return f" ({left_out} more such line{' was' if left_out == 1 else 's were'} left out)"
