"""Attempts of one call: make the request of each attempt, with its timeouts, its key and its resend count."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cached_property
from typing import Final

from flexmw.contract import key_ttl
from flexmw.contract.idempotent_stream import STREAM
from flexmw.kit.client_call import is_streamed
from flexmw.kit.effects import DEADLINE, RESENDS, Request, Response
from flexmw.kit.headers import has
from flexmw.kit.transport import copy_request
from flexmw.retry.body import mark_consumed
from flexmw.retry.call import KEY
from flexmw.retry.continuation import preferred_wait
from flexmw.retry.core import is_signed_once, shrink, signs
from flexmw.retry.steps import Steps

__all__ = ["KEY_TTL_NAME", "Attempts"]

KEY_TTL: Final = "idempotency-key-ttl"
KEY_TTL_NAME: Final = KEY_TTL.encode()


class Attempts(Steps):
    """A call that makes the requests of its attempts.

    :ivar rewind: rewinds the body of the request; ``None`` if the body cannot be sent again.
    """

    timeout: dict[str, float | None]
    rewind: Callable[[], None] | None = None
    continues = False
    """Whether the requests only continue a response. The server begins no execution for these requests."""

    @cached_property
    def may_resume(self) -> bool:
        """Whether a broken body of the response may be continued. Decided by the request alone."""
        request = self.request
        return not (
            self.safe
            or self.key is None
            or self.options.resume == 0
            or self.rewind is None
            or STREAM in request.headers
            or is_signed_once(request.headers)
        )

    @cached_property
    def is_stream(self) -> bool:
        """Whether the caller streams the response, and the response may be continued."""
        return self.may_resume and is_streamed()

    def attempt(self) -> Request:
        """Return a copy of the request for this attempt: instruments and inner components may change its headers.

        Without a deadline each attempt keeps the caller's timeouts. With a deadline, the timeouts of the steps before
        the head shrink to the time that is left. :meth:`leaves` shrinks the others, because it knows whether the
        connection is shared.

        :raises Exception: a timeout of the library, if the deadline is over.
        """
        request = self.request
        own = request.extensions.get("timeout")
        timeout = self.timeout = {**own} if own else {}
        attempt: Request = copy_request(request)
        extensions = attempt.extensions
        extensions["timeout"] = timeout
        if self.key is not None:
            self._mark_keyed(attempt)
        if resends := self.sent - 1 + self.limits.earlier:
            extensions[RESENDS] = resends
            if self.cookie is not None and not signs(attempt.headers, "cookie"):
                attempt.headers.pop("cookie", None)
                if self.cookie:
                    attempt.headers["cookie"] = self.cookie
        if self.ends is not None:
            left = self.ends - self.clock.monotonic()
            if left <= 0:
                raise self.too_late()
            extensions[DEADLINE] = self.ends
            write = timeout.get("write")
            timeout.update(shrink(timeout, left))
            timeout["write"] = write
        return attempt

    def _mark_keyed(self, attempt: Request) -> None:
        if self.fresh_key and self.key:
            attempt.headers[KEY] = self.key
        if self.is_stream and not signs(attempt.headers, "accept-encoding"):
            # A proxy that compresses the body would change its bytes. All proxies obey this header.
            attempt.headers["accept-encoding"] = "identity"
        if self.sent > 1 and not self.continues and self.safety == "idempotency_key":
            self._prefer_wait(attempt)

    def _prefer_wait(self, attempt: Request) -> None:
        """Ask the server to hold the request while the execution runs, for less than the client's read timeout."""
        read = (self.request.extensions.get("timeout") or {}).get("read")
        seconds = preferred_wait(min(self.remaining(), sys.maxsize if read is None else read))
        given = attempt.headers.get("prefer", "")
        if seconds >= 1 and "wait" not in given.lower() and not signs(attempt.headers, "prefer"):
            attempt.headers["prefer"] = f"{given}, wait={seconds}" if given else f"wait={seconds}"

    def leaves(self, again: bool, shared: bool) -> None:
        """Prepare for the request head, which leaves now: the wait for a connection has used a part of the time.

        :param again: whether the attempt has sent a head before.
        :param shared: whether the connection is HTTP/2. There, httpcore ends all calls of the connection when the
            timeout of one call is over.
        """
        now = self.clock.monotonic()
        if self._is_over(now) or (not self.continues and self.is_forgotten(now)):
            raise self.too_late()
        if self.ends is not None:
            own = dict(self.request.extensions.get("timeout") or {})
            if shared:
                self.timeout.clear()
                self.timeout.update(own)
            else:
                self.timeout.update(shrink(own, self.ends - now))
        if not again:
            return
        if self.rewind is None:
            mark_consumed(self.request.stream)
        else:
            self.rewind()

    def _is_over(self, moment: float) -> bool:
        return self.ends is not None and moment >= self.ends

    def remaining(self) -> float:
        """Return the seconds until the deadline; without a deadline, a number larger than any bound."""
        return 1e9 if self.ends is None else self.ends - self.clock.monotonic()

    def learn(self, response: Response) -> None:
        """Remember whether the server honours keys for this method and path, by the headers of a response."""
        headers = response.headers
        if has(headers, KEY_TTL_NAME) and (ttl := key_ttl(headers[KEY_TTL])) is not None:
            self.memory.trust(self.place, ttl=ttl, now=self.clock.monotonic())
        elif self.memory.trusted:
            self.memory.distrust(self.place)
