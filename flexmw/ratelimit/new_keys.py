"""A bound on unproven keys: an address must not get a new limit with every key that it invents.

A key is proven by a response of the app between 200 and 299, because an app that authenticates its callers would have
refused an invented key. A 401 or 403 refuses the key. Every other response leaves the key unproven, because the
app may send it before it authenticates (a redirect to a login page, a 404 of the router), or frees the key (a 5xx).

::

    unseen --admitted--> unproven --2xx------> proven      proven keys cost the address nothing
                            |  \\--5xx------> unseen
                            '---401, 403---> refused       counts until the window of the address ends

>>> guard = NewKeyGuard(1, 60 * SECOND)
>>> guard.admits("invented-1", "address", 0), guard.admits("invented-2", "address", 0)
(True, False)
>>> guard.judge("invented-1", "address", 200, 0)
>>> guard.admits("invented-2", "address", 0)
True

An address with ``limit`` unproven or refused keys is *exhausted* until its window ends: it proves no keys, and the keys
that it has proven within the window count as new again. Without that rule a flood could prove each invented key on a
public route first, and use it on a login route afterwards.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send
from flexmw.kit.exchange import REFUSALS, Exchange
from flexmw.kit.expiring import ExpiringTable
from flexmw.ratelimit.core import SECOND
from flexmw.ratelimit.recent_keys import RecentKeys

__all__ = ["NewKeyGuard", "judged_app"]

_NO_VERDICT: Final = 300
"""Stands for a response that says nothing about the key."""

_MOST_UNPROVEN: Final = 262_144
"""Unproven keys that one process remembers. A key that was forgotten counts as new again."""

_HOUR_US: Final = 3600 * SECOND


class _Unproven(NamedTuple):
    """A key that is not proven.

    :param address: the digest of the address that brought the key.
    :param end_us: the end of the window of the address that the key counts in, in microseconds.
    :param refused: the app has refused the key, so a public route does not prove it any more in this window.
    """

    address: str
    end_us: int
    refused: bool = False


class NewKeyGuard:
    """Counts the unproven keys of each address, in this process and in bounded memory.

    :param limit: unproven keys that an address may have in a window.
    :param window_us: the window in microseconds; an hour at most.
    """

    def __init__(self, limit: int, window_us: int) -> None:
        self.limit = self._limit = limit
        self._window_us = min(window_us, _HOUR_US)
        self._proven: ExpiringTable[tuple[str, int]] = ExpiringTable(self._window_us)
        """By digest of the key: the address that brought the key, and the moment of the proof in microseconds."""
        self._unproven: ExpiringTable[_Unproven] = ExpiringTable(self._window_us, max_entries=_MOST_UNPROVEN)
        self._windows: ExpiringTable[tuple[int, int]] = ExpiringTable(self._window_us, shards=16)
        """By address: the end of its window in microseconds, and its unproven keys."""
        self.recent = RecentKeys(self._window_us)
        """Proven keys that were seen within seconds. Emptied as soon as a proven key may be proven no more."""
        self._alert_until_us = 0
        self.knows: Callable[[str, int], bool] = self._proven.touch
        """Whether the key with a digest is proven at a time in microseconds. The attribute is a method of the table, so
        that a proven key costs one lookup; while an address is exhausted, the attribute is a slower method."""

    @property
    def window(self) -> float:
        """The window in seconds."""
        return self._window_us / SECOND

    @property
    def is_alert(self) -> bool:
        """Whether an address is exhausted, so that each proven key is looked at anew."""
        return self.knows == self._knows_of_others

    def admits(self, digest: str, address: str, now_us: int) -> bool:
        """Whether a key that is not proven gets a limit of its own. If so, the key counts as unproven from now on."""
        unproven = self._unproven.get(digest, now_us)
        if unproven is not None and now_us < unproven.end_us:
            return True
        end_us, count = self._window(address, now_us)
        if count >= self._limit:
            self._exhaust(end_us)
            return False
        self._windows.put(address, (end_us, count + 1), now_us)
        self._unproven.put(digest, _Unproven(address, end_us), now_us)
        return True

    def judge(self, digest: str, address: str, status: int, now_us: int) -> None:
        """Take the response to a request with a key as a verdict on the key.

        :param digest: the digest of the key.
        :param address: the digest of the address that brought it.
        :param status: the status of the response.
        :param now_us: the moment of the response in microseconds.
        """
        if status in REFUSALS:
            self.refuse(digest, now_us)
            return
        is_accepted = 200 <= status < 300
        if not is_accepted and status < 500:
            return
        unproven = self._unproven.get(digest, now_us)
        if unproven is None or now_us >= unproven.end_us:
            is_accepted &= self._window(address, now_us)[1] < self._limit
        elif unproven.refused:
            return
        else:
            self._unproven.discard(digest)
            end_us, count = self._window(unproven.address, now_us)
            if unproven.end_us == end_us and count:
                self._windows.put(unproven.address, (end_us, count - 1), now_us)
        if is_accepted:
            self._proven.put(digest, (address, now_us), now_us)

    def refuse(self, digest: str, now_us: int) -> None:
        """Record that the app has refused a key.

        A key that was proven before the current window of its address stays proven: it belongs to a caller, who may
        meet a 403 that is not about the key.
        """
        unproven = self._unproven.get(digest, now_us)
        if unproven is not None:
            self._unproven.put(digest, unproven._replace(refused=True), now_us)
            return
        proven = self._proven.get(digest, now_us)
        if proven is None:
            return
        address, at_us = proven
        end_us, count = self._window(address, now_us)
        if at_us >= end_us - self._window_us:
            self._proven.discard(digest)
            self.recent.clear()
            self._windows.put(address, (end_us, count + 1), now_us)
            self._unproven.put(digest, _Unproven(address, end_us, refused=True), now_us)
            if count + 1 >= self._limit:
                self._exhaust(end_us)

    def _window(self, address: str, now_us: int) -> tuple[int, int]:
        """The window of an address: its end in microseconds, and the unproven keys in it."""
        window = self._windows.get(address, now_us)
        if window is None or now_us >= window[0]:
            return now_us + self._window_us, 0
        return window

    def _exhaust(self, end_us: int) -> None:
        self._alert_until_us = max(self._alert_until_us, end_us)
        self.knows = self._knows_of_others
        self.recent.clear()

    def _knows_of_others(self, digest: str, now_us: int) -> bool:
        """:attr:`knows` while an address is exhausted: without the keys that it has proven within its window."""
        if now_us >= self._alert_until_us:
            self.knows = self._proven.touch
        proven = self._proven.get(digest, now_us)
        if proven is None:
            return False
        address, at_us = proven
        end_us, count = self._window(address, now_us)
        if count >= self._limit and at_us >= end_us - self._window_us:
            return False
        return self._proven.touch(digest, now_us)


def judged_app(app: ASGIApp, judge: Callable[[int], None]) -> ASGIApp:
    """Wrap an app: ``judge`` is called with the first response status, before the response is sent.

    A websocket that the app accepts counts as 200, and a websocket that the app closes instead as 403. A response to
    ``OPTIONS`` is not judged, because apps respond to ``OPTIONS`` without authentication.
    """

    async def judged(scope: Scope, receive: Receive, send: Send) -> None:
        is_judged = scope.get("method") == "OPTIONS"

        def observing_send(message: Message) -> Awaitable[None]:
            nonlocal is_judged
            if not is_judged:
                is_judged = True
                judge(_status(message))
            return send(message)

        try:
            await app(scope, receive, observing_send)
        except Exception as error:
            if not is_judged:
                judge(Exchange.of(scope).map_exception(error).status)
            raise

    return judged


def _status(message: Message) -> int:
    match message["type"]:
        case "http.response.start" | "websocket.http.response.start":
            status: int = message["status"]
            return status
        case "websocket.accept":
            return 200
        case "websocket.close":
            return 403
        case _:
            return _NO_VERDICT
