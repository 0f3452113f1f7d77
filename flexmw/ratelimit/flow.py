"""The client face: space requests by what the server's headers say, before it has to refuse one.

>>> Pace(max_wait=30.0)
Pace(patience=5.0, max_wait=30.0)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from secrets import token_bytes
from threading import Lock
from typing import ClassVar, Final

from flexmw.contract import http_date, read, wait_of
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import API, Order
from flexmw.kit.effects import Flow, Request, Response, Send, Sleep
from flexmw.kit.options import check, option, seconds
from flexmw.ratelimit.lane import Lane

__all__ = ["Pace"]

_CREDENTIALS: Final = ("authorization", "x-api-key", "api-key")
_SECRET: Final = token_bytes(16)
_MOST_LANES: Final = 4096
_lanes: OrderedDict[tuple[Clock, bytes], Lane] = OrderedDict()
_lock = Lock()


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Hold requests back until the server will admit them, instead of collecting 429s.

    Reads the rate-limit headers of every response, in the dialects of :mod:`flexmw.contract`, and keeps one account
    for each origin and credential, shared by all clients, threads and tasks of the process. As long as nothing is known
    one request goes first and the others wait for its answer; servers that send no such headers are not slowed down
    after that.

    :param patience: seconds that the others wait for a first answer at most.
    :param max_wait: seconds; where a limit frees up only later than that, the request is sent and the server answers.
    :raises ConfigError: for any option that cannot work.
    """

    name: ClassVar[str] = "pace"
    api: ClassVar[int] = API
    order: ClassVar[Order] = Order()

    patience: float = option(5.0, seconds())
    max_wait: float = option(120.0, seconds())
    clock: Clock = option(SYSTEM, hidden=True)

    def __post_init__(self) -> None:
        check(self)

    def flow(self, request: Request) -> Flow:
        """Wait for a turn, send, and note what the answer says."""
        clock, lane = self.clock, self._lane(request)
        while True:
            with _lock:
                wait = lane.ask(clock.monotonic())
            if not wait:
                break
            if wait > self.max_wait:
                with _lock:
                    lane.sent()
                break
            yield Sleep(wait)
        sent_at, sent_now = clock.monotonic(), clock.now()
        try:
            response: Response = yield Send(request)
        except BaseException:
            with _lock:
                lane.failed()
            raise
        headers = {name.lower(): value for name, value in response.headers.items()}
        now = _server_now(headers, sent_now, clock.now())
        refused = wait_of(headers, now=now) if response.status_code in (429, 503) else None
        with _lock:
            lane.answered(
                sent_at=sent_at,
                now=clock.monotonic(),
                seen=read(headers, now=now),
                wait=None if refused is None else refused.seconds,
            )
        return response

    def _lane(self, request: Request) -> Lane:
        url = request.url
        credential = next((request.headers[name] for name in _CREDENTIALS if name in request.headers), "")
        origin = f"{url.scheme}://{url.host}:{url.port}\n{credential}"
        key = self.clock, blake2b(origin.encode("utf-8", "replace"), key=_SECRET, digest_size=16).digest()
        with _lock:
            lane = _lanes.get(key)
            if lane is None:
                lane = _lanes[key] = Lane(patience=self.patience)
                if len(_lanes) > _MOST_LANES:
                    _lanes.popitem(last=False)
            else:
                _lanes.move_to_end(key)
        return lane


def _server_now(headers: Mapping[str, str], sent: float, received: float) -> float:
    """The server's clock as a response shows it; our own where the two agree: ``Date`` has whole seconds only."""
    date = http_date(headers.get("date", ""))
    return received if date is None or sent - 1.0 < date <= received else date
