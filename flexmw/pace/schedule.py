"""When a client may send its next request: what the responses of one origin told one credential. Pure.

>>> lane = Lane(patience=5.0)
>>> lane.wait(now=0.0)
0.0
>>> first = lane.sent(now=0.0)
>>> lane.wait(now=0.0) > 0  # others wait for what its answer says
True
>>> lane.answered(first, now=0.1, word=Word(limit=3, remaining=2, soonest=59.9, latest=60.0, lasts=59.9))
>>> for _ in range(2):
...     print(lane.wait(now=0.2), lane.sent(now=0.2).known)
0.0 1
0.0 1
>>> round(lane.wait(now=0.3))
60
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

from flexmw.pace.window import MARGIN, POLL, Account, Word

__all__ = ["MARGIN", "POLL", "Lane", "Ticket", "Word"]

_MOST_ACCOUNTS: Final = 8
_SHORTEST: Final = 0.001
_UNTOLD_WINDOWS: Final = 4.0
_SILENCE: Final = 60.0
"""Seconds for which answers must tell of no limit at all, at least, before it is forgotten."""

_FLIGHT: Final = 60.0
"""Seconds after which a request without an answer is taken to have been counted long ago: its process may be gone."""

_GHOST: Final = 10.0
"""The same for one whose answer will not come: the server may still have it in hand."""


class Ticket(NamedTuple):
    """A request on its way: when it was sent, how many others were known to be over then, when it is given up."""

    sent_at: float
    known: int
    given_up: int


@dataclass(slots=True)
class Lane:
    """Seconds are monotonic. Not safe for threads: its owner holds a lock.

    ``total`` requests were sent, ``known`` of them are over; the others fly, and ``flights`` says how many of them are
    given up at which second.
    """

    patience: float
    heard: bool = False
    probe_until: float = -inf
    blocked_until: float = -inf
    total: int = 0
    known: int = 0
    flights: dict[int, int] = field(default_factory=dict[int, int])
    accounts: dict[int, Account] = field(default_factory=dict[int, Account])

    @property
    def flying(self) -> int:
        """Requests whose answer is still to come."""
        return self.total - self.known

    def wait(self, now: float) -> float:
        """0.0: one may be sent now. Else: ask again after so many seconds."""
        self._give_up(now)
        if now < self.blocked_until:
            return self.blocked_until - now
        if not self.heard:
            return POLL if self.flying and now < self.probe_until else 0.0
        wait = max((account.wait(now, self.flying) for account in self.accounts.values()), default=0.0)
        return wait and max(wait, _SHORTEST)

    def sent(self, now: float) -> Ticket:
        """One is sent now."""
        for account in self.accounts.values():
            account.take(now)
        if not self.heard:
            self.probe_until = now + self.patience
        ticket = Ticket(now, self.known, int(now + _FLIGHT) + 1)
        self.total += 1
        self._flies(ticket.given_up)
        return ticket

    def answered(self, ticket: Ticket, *, now: float, word: Word | None = None, refused: float | None = None) -> None:
        """A response came. ``word`` is what it told, ``refused`` the seconds that a refusal asks for."""
        others = max(0, self.total - ticket.known - 1)  # a ticket may be older than a lane that began anew
        self._lands(ticket.given_up)
        self.heard = True
        if refused is not None:
            self.blocked_until = max(self.blocked_until, now + refused + MARGIN)
            self.heard = bool(self.accounts)
            for account in self.accounts.values():
                account.refused(now, self.blocked_until)
            return
        if word is None:
            self._silence(now)
            return
        if word.limit not in self.accounts:
            self._open(word.limit)
        for limit, account in list(self.accounts.items()):
            if limit == word.limit:
                account.told(word, now=now, sent_at=ticket.sent_at, others=others, flying=self.flying)
            elif now > account.told_at + _UNTOLD_WINDOWS * account.window:
                del self.accounts[limit]
            else:
                account.unheard(now)
                if limit and word.limit:
                    account.at_least(word.remaining / word.limit, others)

    def failed(self, ticket: Ticket, *, now: float, unsent: bool = False) -> None:
        """No response came. ``unsent``: the request never left."""
        if not self._lands(ticket.given_up):
            return
        self.probe_until = -inf
        if unsent:
            for account in self.accounts.values():
                account.unsent(ticket.sent_at)
        else:
            self.known -= 1
            self._flies(int(now + _GHOST) + 1)

    def _unheard(self, now: float) -> None:
        for account in self.accounts.values():
            account.unheard(now)

    def _silence(self, now: float) -> None:
        """An answer told of no limit. A server may have given up its limits, and say nothing ever again: when the last
        one is forgotten, one goes first and the others wait for its answer, as in the beginning."""
        knew = bool(self.accounts)
        for limit, account in list(self.accounts.items()):
            if now > account.told_at + max(_SILENCE, _UNTOLD_WINDOWS * account.window):
                del self.accounts[limit]
            else:
                account.unheard(now)
        self.heard = bool(self.accounts) or not knew

    def _open(self, limit: int) -> None:
        if len(self.accounts) >= _MOST_ACCOUNTS:
            del self.accounts[min(self.accounts, key=lambda limit: self.accounts[limit].told_at)]
        self.accounts[limit] = Account(limit)

    def _flies(self, given_up: int) -> None:
        self.flights[given_up] = self.flights.get(given_up, 0) + 1

    def _lands(self, given_up: int) -> bool:
        """Whether the request was still waited for."""
        number = self.flights.get(given_up, 0)
        if not number:
            return False
        self.known += 1
        if number > 1:
            self.flights[given_up] = number - 1
        else:
            del self.flights[given_up]
        return True

    def _give_up(self, now: float) -> None:
        if self.flights and min(self.flights) <= now:
            for second in [second for second in self.flights if second <= now]:
                number = self.flights.pop(second)
                self.known += number
                for _ in range(number):
                    self._unheard(now)
