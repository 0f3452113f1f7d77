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
    """A budget of bytes for the request bodies that are held at once.

    :param limit: the largest number of bytes.
    """

    __slots__ = ("_held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0

    def take(self, size: int) -> bool:
        """Take ``size`` bytes from the budget. Returns False, and takes none, if the budget has fewer left."""
        if self._held + size > self.limit:
            return False
        self._held += size
        return True

    def give_back(self, size: int) -> None:
        """Return bytes to the budget: the app has received the body, or the request is over."""
        self._held -= size
