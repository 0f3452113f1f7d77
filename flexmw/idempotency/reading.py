"""A bound on the bodies that all requests of an app hold before their callers are known.

>>> budget = BodyBudget(100)
>>> budget.take(60), budget.take(60)
(True, False)
>>> budget.give_back(60)
>>> budget.take(60)
True
"""

from __future__ import annotations

__all__ = ["BodyBudget"]


class BodyBudget:
    """Bytes of request bodies that may be held at once.

    :param limit: bytes at most.
    """

    __slots__ = ("_held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0

    def take(self, size: int) -> bool:
        """Whether there is room for ``size`` more bytes. If there is, they are held from now on."""
        if self._held + size > self.limit:
            return False
        self._held += size
        return True

    def give_back(self, size: int) -> None:
        """The app has got the bytes, or the request is over."""
        self._held -= size
