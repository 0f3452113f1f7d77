"""State of one bucket of a paced caller: decides when the next request of the bucket may be sent. Pure.

:class:`PaceState` keeps a :class:`~flexmw.pace.window.WindowEstimate` for each limit that responses report, and a count
of the requests in flight. ``flexmw.pace.window`` explains how an estimate works.

>>> state = PaceState(patience=5.0)
>>> state.wait(now=0.0)
0.0
>>> first = state.start(now=0.0)
>>> state.wait(now=0.0) > 0  # other requests wait for the response to the first one
True
>>> reading = RateReading(limit=3, remaining=2, reset_earliest=59.9, reset_latest=60.0, window_above=59.9)
>>> state.finish(first, now=0.1, reading=reading)
>>> for _ in range(2):
...     print(state.wait(now=0.2), state.start(now=0.2).finished_before)
0.0 1
0.0 1
>>> round(state.wait(now=0.3))
60
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

from flexmw.pace.buckets import PATHS
from flexmw.pace.window import MARGIN, POLL, RateReading, WindowEstimate

__all__ = ["InFlight", "PaceState"]

_MAX_LIMITS: Final = 8
_MAX_MEMBERS: Final = 64
_MIN_WAIT: Final = 0.001
_STALE_WINDOWS: Final = 4.0
"""A limit is forgotten when no response has reported it for this many of its windows."""

_STALE_SECONDS: Final = 60.0
"""The shortest such time, in seconds, while responses report no limit at all."""

_RESPONSE_SECONDS: Final = 60.0
"""Seconds after which a request without a response counts as finished: its process may have been killed."""

_LOST_SECONDS: Final = 10.0
"""The same for a request that has failed: the server may still be working on it."""


class InFlight(NamedTuple):
    """A request that was sent and has no response yet.

    :param sent_at: when it was sent, in monotonic seconds.
    :param finished_before: number of requests that had finished when it was sent.
    :param expires: the monotonic second at which it counts as finished without a response.
    """

    sent_at: float
    finished_before: int
    expires: int


@dataclass(slots=True)
class PaceState:
    """The state of one bucket, as far as responses have shown it. All times are monotonic seconds.

    =========  ==========================  =================================  =======================================
    state      condition                   :meth:`wait`                       ends with
    =========  ==========================  =================================  =======================================
    blocked    ``now < blocked_until``     until ``blocked_until``            time
    unknown    not ``learned``             0 for one request, ``POLL`` for    the response to that request, or after
                                           the others                         ``patience`` seconds another request
    unlimited  ``learned``, no estimates   0                                  a response that reports a limit
    paced      ``learned``, estimates      the longest wait of an estimate    responses without any limit, which
                                                                              remove the last estimate: unknown
    =========  ==========================  =================================  =======================================

    The first row whose condition holds is the state. A refusal leads from every state to blocked, and from there to
    paced if there are estimates, else to unknown.

    An object is not thread-safe: its owner holds a lock.

    :param patience: longest time for which other requests wait for the first response, in seconds.
    :param bucket: name of the bucket; empty until a response has named it.
    :param members: hashes of the request classes whose last response counted against this bucket; the latest 64.
    :param learned: a response has shown whether the server reports limits.
    :param probe_until: the end of the wait of other requests for the first response.
    :param blocked_until: the end of the time for which the server refuses requests.
    :param sent: number of requests that were sent.
    :param finished: number of requests that have ended.
    :param expirations: number of requests in flight by the second at which they count as finished.
    :param estimates: the estimate of each limit, by the limit's number of requests; 0 for a limit without a number.
    """

    patience: float
    bucket: str = ""
    members: list[str] = field(default_factory=list[str])
    learned: bool = False
    probe_until: float = -inf
    blocked_until: float = -inf
    sent: int = 0
    finished: int = 0
    expirations: dict[int, int] = field(default_factory=dict[int, int])
    estimates: dict[int, WindowEstimate] = field(default_factory=dict[int, WindowEstimate])

    @property
    def in_flight(self) -> int:
        """Number of requests without a response."""
        return self.sent - self.finished

    def wait(self, now: float) -> float:
        """Return the seconds until one request may be sent; 0.0: now. Call again after the wait: the state may
        change."""
        self._expire(now)
        if now < self.blocked_until:
            return self.blocked_until - now
        if not self.learned:
            return POLL if self.in_flight and now < self.probe_until else 0.0
        wait = max((estimate.wait(now, self.in_flight) for estimate in self.estimates.values()), default=0.0)
        return wait and max(wait, _MIN_WAIT)

    def start(self, now: float) -> InFlight:
        """Record that a request is sent now."""
        for estimate in self.estimates.values():
            estimate.take(now)
        if not self.learned:
            self.probe_until = now + self.patience
        flight = InFlight(now, self.finished, int(now + _RESPONSE_SECONDS) + 1)
        self.sent += 1
        self._add(flight.expires)
        return flight

    def finish(
        self, flight: InFlight, *, now: float, reading: RateReading | None = None, retry_after: float | None = None
    ) -> None:
        """Record a response.

        :param flight: the request.
        :param now: when the response arrived.
        :param reading: the limit that its headers report; ``None``: they report no limit.
        :param retry_after: seconds that a refusal asks to wait; ``None``: the response is not a refusal.
        """
        # The state may have been forgotten and made anew since the request was sent.
        others = max(0, self.sent - flight.finished_before - 1)
        self._remove(flight.expires)
        self._record(now, flight.sent_at, others, reading, retry_after)

    def join(
        self,
        *,
        sent_at: float,
        now: float,
        uncounted: int | None,
        reading: RateReading | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Record the response to a request that took its turn in the state of another bucket.

        :param sent_at: when the request was sent.
        :param now: when the response arrived.
        :param uncounted: number of further requests without a response that took their turn in the other bucket and may
            count against this one; ``None``: an earlier call has counted this request here.
        :param reading: as for :meth:`finish`.
        :param retry_after: as for :meth:`finish`.
        """
        others = self.sent + (uncounted or 0)
        self.sent += 1
        self.finished += 1
        if uncounted is not None:
            for estimate in self.estimates.values():
                estimate.available = max(0, estimate.available - 1 - uncounted)
        self._record(now, sent_at, others, reading, retry_after)

    def accepts(self, bucket: str, *, sent_at: float, now: float, reading: RateReading | None, is_known: bool) -> bool:
        """True if a response counts against the bucket of this state. A state without a bucket takes its name.

        :param bucket: name of the bucket of the response; ``""``: the limit decides.
        :param sent_at: when the request was sent.
        :param now: when the response arrived.
        :param reading: the limit that the response reports; ``None``: it reports no limit.
        :param is_known: earlier responses of the same class have counted here.
        """
        name = bucket or PATHS
        if not self.bucket:
            self.bucket = name
            return True
        if self.bucket != name:
            return False
        if bucket:
            return True
        if reading is None:
            return is_known or self.wait(now) > 0
        if not self.estimates or is_known:
            return bool(self.estimates) or not is_known
        estimate = self.estimates.get(reading.limit)
        return estimate is not None and not estimate.disproves(reading, sent_at=sent_at, now=now)

    def set_member(self, member: str, is_member: bool) -> None:
        """Record whether the responses of a class count against this bucket, for other processes."""
        if is_member and member not in self.members:
            self.members = [*self.members[1 - _MAX_MEMBERS :], member]
        elif not is_member and member in self.members:
            self.members.remove(member)

    def must_wait_for_reset(self, now: float) -> bool:
        """True if a request must wait for a reset, or for a probe after it, and not only for the first response."""
        return (self.learned or now < self.blocked_until) and self.wait(now) > 0

    def _record(
        self, now: float, sent_at: float, others: int, reading: RateReading | None, retry_after: float | None
    ) -> None:
        if retry_after is not None:
            self._block(now, now + retry_after + MARGIN)
        elif reading is None:
            self._finish_unreported(now)
        else:
            self.learned = True
            self._update(reading, now, sent_at, others)

    def fail(self, flight: InFlight, *, now: float, unsent: bool = False) -> None:
        """Record that a request ended without a response.

        :param flight: the request.
        :param now: when it failed.
        :param unsent: the request never left this machine.
        """
        if not self._remove(flight.expires):
            return
        self.probe_until = -inf
        if unsent:
            for estimate in self.estimates.values():
                estimate.give_back(flight.sent_at)
        else:  # the request stays in flight for a shorter time
            self.finished -= 1
            self._add(int(now + _LOST_SECONDS) + 1)

    def _block(self, now: float, until: float) -> None:
        self.blocked_until = max(self.blocked_until, until)
        self.learned = bool(self.estimates)
        for estimate in self.estimates.values():
            estimate.block(now, self.blocked_until)

    def _finish_unreported(self, now: float) -> None:
        """Record a response that reports no limit.

        A server may have abolished its limits. When the last stale estimate is removed, one request is sent first and
        the others wait for its response, as in the beginning.
        """
        had_estimates = bool(self.estimates)
        for limit, estimate in list(self.estimates.items()):
            if now > estimate.updated_at + max(_STALE_SECONDS, _STALE_WINDOWS * estimate.window):
                del self.estimates[limit]
            else:
                estimate.count_unreported(now)
        self.learned = bool(self.estimates) or not had_estimates

    def _update(self, reading: RateReading, now: float, sent_at: float, others: int) -> None:
        """Record a response that reports one limit. A server with several limits reports the tightest one."""
        if reading.limit not in self.estimates:
            self._make_room()
            self.estimates[reading.limit] = WindowEstimate(reading.limit)
        for limit, estimate in list(self.estimates.items()):
            if limit == reading.limit:
                estimate.update(reading, now=now, sent_at=sent_at, others=others, in_flight=self.in_flight)
            elif now > estimate.updated_at + _STALE_WINDOWS * estimate.window:
                del self.estimates[limit]
            else:
                estimate.count_unreported(now)
                if limit and reading.limit:
                    estimate.ensure(reading.remaining / reading.limit, others)

    def _make_room(self) -> None:
        """Remove the estimate that was reported longest ago, if there are too many."""
        if len(self.estimates) >= _MAX_LIMITS:
            del self.estimates[min(self.estimates, key=lambda limit: self.estimates[limit].updated_at)]

    def _add(self, expires: int) -> None:
        self.expirations[expires] = self.expirations.get(expires, 0) + 1

    def _remove(self, expires: int) -> bool:
        """Count a request as finished; false if it had expired before."""
        number = self.expirations.get(expires, 0)
        if not number:
            return False
        self.finished += 1
        if number > 1:
            self.expirations[expires] = number - 1
        else:
            del self.expirations[expires]
        return True

    def _expire(self, now: float) -> None:
        """Count requests as finished if they have had no response for too long."""
        if self.expirations and min(self.expirations) <= now:
            for second in [second for second in self.expirations if second <= now]:
                number = self.expirations.pop(second)
                self.finished += number
                for _ in range(number):
                    for estimate in self.estimates.values():
                        estimate.count_unreported(now)
