"""The client face: space requests by what the server's headers say, before it has to refuse one.

>>> Pace(max_wait=30.0)
Pace(patience=5.0, max_wait=30.0)
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any, ClassVar, Final

from flexmw.contract import wait_of
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import API, Order
from flexmw.kit.effects import DEADLINE, Effect, Flow, Request, Response, RunBlocking, Send, Sleep
from flexmw.kit.evidence import Evidence
from flexmw.kit.options import check, documented, option, seconds
from flexmw.pace.headers import server_now
from flexmw.pace.redis import Shared
from flexmw.pace.registry import SCHEMES, Lanes, caller_of, parse
from flexmw.pace.schedule import Lane, Ticket

__all__ = ["Pace"]

_REFUSALS: Final = (429, 503)
_Turn = tuple[float, Ticket | None]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Hold requests back until the server is certain to admit them, instead of collecting 429s.

    Reads the rate-limit headers of every response, in the dialects of :mod:`flexmw.contract`, and keeps one account
    for each origin and credential, shared by all clients, threads and tasks of the process, and by several processes
    where a store is named. As long as nothing is known one request goes first and the others wait for its answer;
    servers that send no such headers are not slowed down after that.

    No request is refused, however late or crowded requests arrive, as long as nobody else uses the credential, each
    request counts one, and the server's numbers are true.

    It belongs inside ``Retry``: outside of it, repeated attempts go past it. Nothing enforces that, because client
    components work in any order.

    :param patience: Longest wait for the first response while nothing is known about the limit of the server. Value: a
        number of seconds, at least 0. Default: ``5.0``.
    :param max_wait: Longest wait for a turn. A request whose turn would come later, or after the deadline of a
        ``Retry`` further outward, is sent at once, and the server decides. Value: a number of seconds, at least 0.
        Default: ``120.0``.
    :param storage: Where the limits that servers have reported are kept. ``memory://`` is shared by the clients,
        threads and tasks of this process; ``redis://``, ``rediss://``, ``redis+unix://``, ``redis+cluster://`` and
        their ``valkey`` forms are shared by several processes. A store that does not respond costs a call 100 ms at
        most. Value: a storage URL. Default: ``"memory://"``.
    :param pepper: Secret key of the hash under which the store knows a credential; the same in every process. ``None``
        takes ``FLEXMW_PEPPER`` from the environment, else a fixed label. Value: a text, bytes or None. Default:
        ``None``.
    :raises ConfigError: for any option that cannot work.
    """

    name: ClassVar[str] = "pace"
    api: ClassVar[int] = API
    order: ClassVar[Order] = Order()

    patience: float = option(
        5.0,
        seconds(),
        doc="Longest wait for the first response while nothing is known about the limit of the server.",
        unit="seconds",
    )
    max_wait: float = option(
        120.0,
        seconds(),
        doc="Longest wait for a turn. A request whose turn would come later, or after the deadline of a `Retry` "
        "further outward, is sent at once, and the server decides.",
        unit="seconds",
    )
    storage: str = option(
        "memory://",
        documented("a storage URL"),
        doc="Where the limits that servers have reported are kept. `memory://` is shared by the clients, threads and "
        "tasks of this process; `redis://`, `rediss://`, `redis+unix://`, `redis+cluster://` and their `valkey` forms "
        "are shared by several processes. A store that does not respond costs a call 100 ms at most.",
        secret=True,
    )
    pepper: str | bytes | None = option(
        None,
        documented("a text, bytes or None"),
        doc="Secret key of the hash under which the store knows a credential; the same in every process. `None` takes "
        "`FLEXMW_PEPPER` from the environment, else a fixed label.",
        secret=True,
    )
    clock: Clock = option(SYSTEM, hidden=True)

    def __post_init__(self) -> None:
        check(self)
        _ = self._lanes  # a URL or pepper that cannot work is found here

    @cached_property
    def _lanes(self) -> Lanes:
        url = parse(self.storage, "Pace(storage=...)", schemes=SCHEMES)
        return Lanes(url, patience=self.patience, clock=self.clock, pepper=self.pepper)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lanes"}

    def flow(self, request: Request) -> Flow:
        """Wait for a turn, send, and note what the answer says."""
        clock, caller = self.clock, caller_of(request)
        most = self.max_wait
        while True:
            wait, ticket = yield from self._enter(caller, most)
            if ticket is not None:
                break
            most = min(most, request.extensions.get(DEADLINE, inf) - clock.monotonic())
            if wait <= most:
                yield Sleep(wait)
        evidence = Evidence()
        sent = clock.now()
        try:
            response: Response = yield Send(request, evidence.observe)
        except BaseException:
            self._failed(caller, ticket, unsent=evidence.sent is False)
            raise
        yield from self._answered(caller, ticket, response, sent)
        return response

    def _enter(self, caller: str, most: float) -> Generator[Effect, Any, _Turn]:
        def turn(lane: Lane, now: float) -> _Turn:
            wait = lane.wait(now)
            return (wait, None) if 0 < wait <= most else (0.0, lane.sent(now))

        if self._lanes.shared:
            shared = self._lanes.stored(caller)
            if (quiet := shared.quiet) and quiet <= most:
                return quiet, None
            entry = _Entry(shared, turn)
            try:
                found: _Turn = yield RunBlocking(entry.ask)
            except BaseException:
                entry.leave()
                raise
            return found
        lane, lock = self._lanes.local(caller)
        with lock:
            return turn(lane, self.clock.monotonic())

    def _answered(self, caller: str, ticket: Ticket, response: Response, sent: float) -> Generator[Effect, Any, None]:
        came = self.clock.monotonic()
        headers = {name.lower(): value for name, value in response.headers.items()}
        received = self.clock.now()
        word, refused = self._lanes.read(caller, headers, sent, received), None
        if response.status_code in _REFUSALS:
            wait = wait_of(headers, now=server_now(headers, sent, received))
            refused = None if wait is None else wait.seconds

        def change(lane: Lane, now: float) -> None:
            late = self.clock.monotonic() - came  # a store may be told later than the answer came
            told = None if word is None else word._replace(soonest=word.soonest - late)
            lane.answered(ticket, now=now, word=told, refused=refused)

        yield from self._note(caller, change)

    def _note(self, caller: str, change: Callable[[Lane, float], None]) -> Generator[Effect, Any, None]:
        if self._lanes.shared:
            shared = self._lanes.stored(caller)
            yield RunBlocking(lambda: shared.note(change))
            return
        lane, lock = self._lanes.local(caller)
        with lock:
            change(lane, self.clock.monotonic())

    def _failed(self, caller: str, ticket: Ticket, *, unsent: bool) -> None:
        """Asks nobody, because a call that is cancelled or closed cannot wait."""

        def change(lane: Lane, now: float) -> None:
            lane.failed(ticket, now=now, unsent=unsent)

        if self._lanes.shared:
            self._lanes.stored(caller).later(change)
            return
        lane, lock = self._lanes.local(caller)
        with lock:
            change(lane, self.clock.monotonic())


class _Entry:
    """A question for a turn that a store answers in another thread, perhaps after its caller has gone: a turn that
    nobody takes goes back."""

    __slots__ = ("_found", "_gone", "_shared", "_turn")

    def __init__(self, shared: Shared, turn: Callable[[Lane, float], _Turn]) -> None:
        self._shared, self._turn = shared, turn
        self._gone = False
        self._found: list[Ticket] = []

    def ask(self) -> _Turn:
        wait, ticket = self._shared.enter(self._turn)
        if ticket is not None:
            self._found.append(ticket)
            if self._gone:
                self._give_back()
        return wait, ticket

    def leave(self) -> None:
        self._gone = True
        self._give_back()

    def _give_back(self) -> None:
        with suppress(IndexError):  # the two threads may both be here: one of them finds it
            ticket = self._found.pop()
            self._shared.later(lambda lane, now: lane.failed(ticket, now=now, unsent=True))
