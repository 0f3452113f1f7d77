"""The estimate of one rate limit: how many more requests the server will certainly admit. Pure.

**How it works.** A client knows a limit from response headers only, and it does not know the algorithm of the server
(fixed, sliding or moving window, token bucket). One fact holds for all of them: the remaining quota shrinks by requests
and by nothing else. Three rules follow:

1. A response that reports ``remaining`` leaves room for ``remaining`` requests, minus every request that the server may
   have counted after it. These are all other requests that were unfinished when its request was sent, or sent later.
2. When a reported reset has passed, the server admits at least one more request: a window began, or the oldest request
   left a window, or a bucket gained a token. The client sends one request, the *probe*. Its response reports the quota.
3. A sliding window counter frees the requests of its last window one by one. It is the only algorithm that can report
   so little quota right after a window ended, so it can be recognised. While every response agrees, its own arithmetic
   decides, and every request in flight is assumed to be counted as late as possible.

The time of sending proves nothing by itself, because requests that are sent apart can arrive together.

>>> estimate = WindowEstimate(limit=3)
>>> reading = RateReading(limit=3, remaining=2, reset_earliest=59.9, reset_latest=60.0, window_above=59.9)
>>> estimate.update(reading, now=0.1, sent_at=0.0, others=0, in_flight=0)
>>> [estimate.take(0.2) for _ in range(2)], round(estimate.wait(0.3, in_flight=2), 2)
([None, None], 59.83)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, inf
from typing import Final, NamedTuple

__all__ = ["MARGIN", "POLL", "RateReading", "WindowEstimate"]

POLL: Final = 0.01
"""Seconds until :meth:`WindowEstimate.wait` is to be called again, while a response on its way will decide."""

MARGIN: Final = 0.002
"""Seconds added to every reported reset: servers count whole milliseconds, and some include the last one."""

_DRIFT: Final = 5e-4
"""The share by which the clock of a client may run faster than that of the server. A time server corrects no more."""

_ROUNDING: Final = 1e-6


class RateReading(NamedTuple):
    """What the headers of one response report about one limit.

    :param limit: requests per window; 0 when the headers do not name it.
    :param remaining: requests that the server would still admit.
    :param reset_earliest: seconds from the arrival of the response to the reset, at least.
    :param reset_latest: seconds from the arrival of the response to the reset, at most.
    :param window_above: seconds; the window is longer than this.
    :param is_timestamp: the reset is a Unix time in whole seconds, so all responses of one window report the same one.
    """

    limit: int
    remaining: int
    reset_earliest: float
    reset_latest: float
    window_above: float
    is_timestamp: bool = False


@dataclass(slots=True)
class WindowEstimate:
    """The state of one limit, as far as responses have reported it. All times are monotonic seconds.

    =========  =================  =====================================  ==================================
    state      condition          :meth:`wait`                           ends with
    =========  =================  =====================================  ==================================
    open       ``available > 0``  0                                      the last :meth:`take`
    sliding    ``sliding``        until a sliding window counter has     a response that does not fit
                                  freed a request
    exhausted  not ``probing``    until ``reset_latest``                 :meth:`take`, which sends the probe
    probing    ``probing``        ``POLL`` while requests are in flight  a response to the probe, or to a
                                  else until ``next_probe_at``           request that was sent after it
    =========  =================  =====================================  ==================================

    The first row whose condition holds is the state. A refusal (:meth:`block`) leads from every state to probing.

    :param limit: requests per window.
    :param available: requests that the server will certainly admit before the next reset.
    :param window: length of the window in seconds; 0.0: unknown.
    :param reset_earliest: when the current window ends, at the earliest.
    :param reset_latest: when the current window ends, at the latest.
    :param previous_reset: when the window before ended, at the latest.
    :param probing: a probe was sent after the reset, and no response has reported the quota since.
    :param probed_at: when the probe was sent.
    :param next_probe_at: when to send another probe if no response reports the quota.
    :param responses_this_window: finished requests that the server may have counted in the current window.
    :param responses_last_window: finished requests that the server may have counted in the last window.
    :param late_responses: those of ``responses_this_window`` that arrived so late that the server may have counted
        their requests after the end of the window.
    :param unaccounted: those of ``responses_this_window`` that ended without a report and that the server may have
        counted in the next window.
    :param has_windows: the limit may have windows: no reset has moved by less than a window. It is false for a moving
        window and a bucket.
    :param sliding: the limit has been recognised as a sliding window counter.
    :param updated_at: when a response last reported this limit.
    :param remaining: the quota that this response reported.
    """

    limit: int
    available: int = 0
    window: float = 0.0
    reset_earliest: float = -inf
    reset_latest: float = -inf
    previous_reset: float = -inf
    probing: bool = False
    probed_at: float = -inf
    next_probe_at: float = inf
    responses_this_window: int = 0
    responses_last_window: int = 0
    late_responses: int = 0
    unaccounted: int = 0
    has_windows: bool = True
    sliding: bool = False
    updated_at: float = -inf
    remaining: int = 0

    def wait(self, now: float, in_flight: int) -> float:
        """Seconds until one more request may be sent; 0.0: now.

        :param in_flight: number of requests without a response.
        """
        if self.available > 0:
            return 0.0
        if self.sliding:
            return self._sliding_wait(now, in_flight)
        if not self.probing:
            return max(0.0, self.reset_latest - now)
        return POLL if in_flight else max(0.0, self.next_probe_at - now)

    def take(self, now: float) -> None:
        """Record that a request is sent now."""
        if self.available > 0:
            self.available -= 1
        elif not self.sliding:
            self._start_probe(now)

    def _start_probe(self, now: float) -> None:
        self.probing, self.probed_at = True, now
        self.next_probe_at = max(now, self.reset_latest) + self.window + MARGIN

    def _sliding_wait(self, now: float, in_flight: int) -> float:
        """The wait by the arithmetic of a sliding window counter.

        Such a counter multiplies the count of the last window by the share of the current window that is left, and adds
        the count of the current window.
        """
        ended = now >= self.reset_latest
        if ended:
            last, current, ends = self.responses_this_window, self.unaccounted, self.reset_latest + self.window
        else:
            last, current, ends = self.responses_last_window, self.responses_this_window, self.reset_latest
        allowed = self.limit - 1 - current - in_flight  # the most that the weighted count of the last window may be
        if allowed < 0:
            if ended:
                return POLL if in_flight else max(0.0, self.next_probe_at - now)
            return max(POLL, self.reset_latest - now)
        free_at = ends - (allowed + 1 - _ROUNDING) * self.window / last if last > allowed else now
        return 0.0 if free_at <= now else max(POLL / 10, free_at - now)

    def update(self, reading: RateReading, *, now: float, sent_at: float, others: int, in_flight: int) -> None:
        """Record a response that reports this limit.

        :param now: when the response arrived.
        :param sent_at: when its request was sent.
        :param others: number of requests that the server may have counted after it.
        :param in_flight: number of requests without a response.
        """
        self.updated_at, self.remaining = now, reading.remaining
        self.limit = reading.limit or max(self.limit, reading.remaining + 1)
        self.available = max(self.available, reading.remaining - others)
        earliest = max(sent_at, now + reading.reset_earliest)
        latest = now + reading.reset_latest * (1 + _DRIFT) + MARGIN
        elapsed, was_sliding = now - sent_at, self.sliding
        self._update_window(reading, latest - self.reset_latest, elapsed)
        self.probing = self.probing and sent_at < self.probed_at
        if earliest > self.reset_latest or sent_at >= self.reset_latest:
            self._start_window(reading, earliest, latest, elapsed, in_flight)
        elif latest < self.reset_earliest:
            self.responses_last_window += 1
        else:
            self.late_responses += now > self.reset_earliest - self.window / 4
            # A reset that may have passed before the request was counted does not prove that quota was freed.
            if self.reset_earliest <= now:
                self.reset_latest = max(latest, self.reset_latest)
            elif sent_at >= self.previous_reset:
                self.reset_latest = min(latest, self.reset_latest)
            self.reset_earliest = max(earliest, self.reset_earliest)
            self.responses_this_window += 1
            self.sliding = self.sliding and self._fits_sliding(reading, elapsed, in_flight)
        if was_sliding and not self.sliding:
            self._start_probe(now)

    def disproves(self, reading: RateReading, *, sent_at: float, now: float) -> bool:
        """True if a response cannot report this limit, but reports another limit of the same size: the reported quota
        is full, although a part of this limit was used in the same window before the request was sent."""
        is_full = reading.limit > 0 and reading.remaining >= max(reading.limit - 1, self.remaining)
        return is_full and self.updated_at <= sent_at and now < self.reset_earliest

    def _update_window(self, reading: RateReading, step: float, elapsed: float) -> None:
        """Learn the length of the window, which never shrinks. ``step``: seconds by which the reset has moved."""
        window = float(floor(reading.window_above) + 1)
        if reading.is_timestamp and self.window + 0.5 < step < reading.reset_latest + elapsed + 0.5:
            window = float(round(step))  # both resets were rounded to seconds alike, so their distance is exact
        if window > self.window:
            self.window, self.sliding = window, False

    def _start_window(
        self, reading: RateReading, earliest: float, latest: float, elapsed: float, in_flight: int
    ) -> None:
        """Record the first response of a new window."""
        widths = latest - earliest, self.reset_latest - self.reset_earliest if self.reset_latest > -inf else 0.0
        gap = latest - self.reset_latest - self.window
        doubt = 0.5 if reading.is_timestamp else sum(widths)
        self.has_windows = self.has_windows and gap >= -doubt
        is_exact = max(widths) < self.window / 8
        fresh_quota = self.limit - 1 - in_flight - self.late_responses  # what a fixed window reports at least
        follows = earliest < self.reset_latest + 1.5 * self.window
        self.responses_last_window = self.responses_this_window if follows else 0
        self.previous_reset = self.reset_latest
        self.reset_earliest, self.reset_latest = earliest, latest
        self.responses_this_window, self.late_responses, self.unaccounted = 1 + self.unaccounted, 0, 0
        shown = gap <= doubt <= 0.5 and reading.limit > 1 and reading.remaining < fresh_quota
        can_slide = (self.sliding or shown) and is_exact and self.has_windows
        self.sliding = can_slide and self._fits_sliding(reading, elapsed, in_flight)

    def _fits_sliding(self, reading: RateReading, elapsed: float, in_flight: int) -> bool:
        """True if a sliding window counter can have reported this ``remaining``."""
        share_earliest = min(1.0, max(0.0, reading.reset_earliest) / self.window)
        share_latest = min(1.0, max(0.0, reading.reset_latest + elapsed) / self.window)
        highest = self.limit - 1 - floor(self.responses_last_window * share_earliest)
        weight = floor((self.responses_last_window + in_flight) * share_latest + _ROUNDING)
        lowest = self.limit - self.responses_this_window - in_flight - weight
        return lowest <= reading.remaining <= highest

    def ensure(self, share: float, others: int) -> None:
        """Raise ``available`` because the server reported another limit. Servers report the limit of which the smallest
        share is left, so at least that share is left of this limit too.

        :param share: remaining requests of the other limit divided by its limit.
        :param others: number of requests that the server may have counted after that response.
        """
        self.available = max(self.available, ceil(share * self.limit - _ROUNDING) - others)

    def give_back(self, sent_at: float) -> None:
        """Undo :meth:`take` for a request that never left this machine.

        :param sent_at: when :meth:`take` was called for it.
        """
        if self.probing and self.probed_at == sent_at:
            self.probing = False
        elif not self.sliding and sent_at > self.probed_at:
            self.available += 1

    def count_unreported(self, now: float) -> None:
        """Record a request that ended, was perhaps counted, and did not report this limit."""
        self.responses_this_window += 1
        self.unaccounted += now > self.reset_earliest
        self.next_probe_at = max(now, self.reset_latest) + self.window + MARGIN

    def block(self, now: float, until: float) -> None:
        """Record a refusal: the estimate was wrong, and one probe may be sent when the refusal ends."""
        self.available, self.sliding = 0, False
        self.probing, self.probed_at, self.next_probe_at = True, now, until
