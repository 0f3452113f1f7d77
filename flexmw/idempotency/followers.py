"""Count the clients that follow one response from the store: their number per response has a limit.

>>> followers = Followers(2)
>>> [followers.attach("g") for _ in range(3)], followers.attach("another")
([True, True, False], True)
>>> followers.detach("g"); followers.attach("g")
True
"""

from __future__ import annotations

from collections import Counter
from typing import Final

__all__ = ["MAX_FOLLOWERS", "Followers"]

MAX_FOLLOWERS: Final = 8
"""Followers of one response in one process at most."""


class Followers:
    """The followers of each generation in this process.

    :param limit: followers of one generation at most.
    """

    __slots__ = ("_counts", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._counts: Counter[str] = Counter()

    def attach(self, generation: str) -> bool:
        """Count one more. Returns False, and counts none, if there are as many as may be."""
        if self._counts[generation] >= self.limit:
            return False
        self._counts[generation] += 1
        return True

    def detach(self, generation: str) -> None:
        """One that :meth:`attach` has counted has left."""
        self._counts[generation] -= 1
        if not self._counts[generation]:
            del self._counts[generation]
