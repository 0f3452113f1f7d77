"""Memory of one Retry: the places that honour idempotency keys, and the calls of SDKs that have failed.

Pure but for its lock. The caller hands in the time (monotonic seconds).

>>> memory = Memory()
>>> memory.trust(place := "POST https://api.example/v1/jobs", ttl=60.0, now=0.0)
>>> memory.honours(place, now=59.0), memory.honours(place, now=60.0)
(True, False)
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from flexmw.kit.forked import fork_safe

__all__ = ["FailedCall", "GivenBack", "Memory"]

_MAX_ENTRIES: Final = 4096
_LOST_CALL_SECONDS: Final = 120.0
"""For this time, an SDK that retries above Retry may repeat the same request."""

_FAILED_CALL_SECONDS: Final = 600.0
"""Longer than the time above: an SDK obeys a long ``Retry-After`` before it repeats a refused request."""

_MAX_EQUAL_CALLS: Final = 16


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A failed call of an SDK, kept for the SDK's repetition of it.

    :param key: the idempotency key of the call; ``None`` if it had none.
    :param first_sent: when the call was first sent, in monotonic seconds.
    :param may_have_run: whether an attempt of the call may have been executed.
    :param credentials: a digest of the credentials of the call.
    """

    key: str | None
    first_sent: float
    may_have_run: bool
    credentials: bytes = b""


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A response to a request that may have been executed, kept for an SDK's repetition of the request.

    :param headers: pairs of name and value, in order.
    :param body: the body as it arrived; ``None`` if it was too large or too slow to be kept.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes | None


class Memory:
    """The memory of one Retry. Threads and tasks share it. It is bounded: places are kept as digests."""

    def __init__(self) -> None:
        self._lock = fork_safe(Lock())
        # An attribute, because each POST asks whether it is empty, and a property would be called for it.
        self.trusted: OrderedDict[bytes, tuple[float, float]] = OrderedDict()
        self._lost: OrderedDict[bytes, tuple[float, BaseException | GivenBack, int]] = OrderedDict()
        self._failed: OrderedDict[bytes, tuple[float, list[FailedCall]]] = OrderedDict()
        self._warned = set[str]()
        self.counted_hosts: OrderedDict[str, None] = OrderedDict()
        """The hosts to which a call has failed whose SDK sends no count of its repetitions."""
        self._moves = False

    def count_on_stack(self, host: str, *, moves: bool = False) -> None:
        """Record that an SDK whose call to a host has failed counts its repetitions on the stack.

        :param moves: the SDK may repeat a call at another host.
        """
        with self._lock:
            _put(self.counted_hosts, host, None)
            self._moves = self._moves or moves

    def may_count_on_stack(self, host: str) -> bool:
        """Return whether a call to a host may be a repetition that an SDK counts on the stack."""
        return self._moves or host in self.counted_hosts

    def trust(self, place: str, *, ttl: float, now: float) -> None:
        """Record that a place (method, origin and path) announced that it honours keys for ``ttl`` seconds."""
        with self._lock:
            _put(self.trusted, _digest(place), (now + ttl, ttl))

    def distrust(self, place: str) -> None:
        """Record that a place has responded without an announcement: an earlier announcement ends."""
        if self.trusted:
            with self._lock:
                self.trusted.pop(_digest(place), None)

    def honours(self, place: str, *, now: float) -> bool:
        """Whether a place is known to honour keys now."""
        return self.ttl(place, now=now) is not None

    def ttl(self, place: str, *, now: float) -> float | None:
        """Return for how many seconds a place honours a key after it was first sent; ``None`` if that is not known."""
        if not self.trusted:
            return None
        with self._lock:
            expires, ttl = self.trusted.get(_digest(place), (now, 0.0))
            return ttl if expires > now else None

    def remember_lost(self, fingerprint: bytes, lost: BaseException | GivenBack, now: float) -> None:
        """Record the error or response of an ambiguous request: a repetition gets it again."""
        with self._lock:
            _put(self._lost, fingerprint, (now + _LOST_CALL_SECONDS, lost, 0))

    def extend_lost(self, fingerprint: bytes, count: int, now: float) -> None:
        """Extend the time for which an ambiguous request is remembered, because its SDK repeats it.

        Only a higher count is a further repetition of the same call: a new call counts from the beginning.
        """
        with self._lock:
            if fingerprint in self._lost and self._lost[fingerprint][2] < count:
                _put(self._lost, fingerprint, (now + _LOST_CALL_SECONDS, self._lost[fingerprint][1], count))

    def find_lost(self, fingerprint: bytes, now: float) -> BaseException | GivenBack | None:
        """Return the error or response of an equal request that was ambiguous within the last two minutes."""
        with self._lock:
            expires, lost, _ = self._lost.get(fingerprint, (0.0, None, 0))
            return lost if expires > now else None

    def remember_failed(self, fingerprint: bytes, call: FailedCall, now: float) -> None:
        """Record a failed call, so that its repetition is sent under the same key."""
        with self._lock:
            expires, calls = self._failed.get(fingerprint, (0.0, []))
            calls = [*(calls if expires > now else []), call][-_MAX_EQUAL_CALLS:]
            _put(self._failed, fingerprint, (now + _FAILED_CALL_SECONDS, calls))

    def take_failed(self, fingerprint: bytes, now: float, *, key: str | None, credentials: bytes) -> FailedCall | None:
        """Remove and return the oldest equal call that failed within the last ten minutes.

        :param key: the key of the repetition, which its call must have; ``None``: the call must have the same
            credentials.
        :param credentials: a digest of the credentials of the repetition.
        """
        with self._lock:
            expires, calls = self._failed.get(fingerprint, (0.0, []))
            if expires <= now:
                return None
            for index, call in enumerate(calls):
                if call.credentials == credentials if key is None else call.key == key:
                    self._failed[fingerprint] = (expires, calls[:index] + calls[index + 1 :])
                    return call
            return None

    def first_warning(self, subject: str = "sdk") -> bool:
        """Return True the first time with a subject, and False after that."""
        with self._lock:
            first = subject not in self._warned
            self._warned.add(subject)
            return first


def _put(entries: OrderedDict[Any, Any], key: bytes | str, value: Any) -> None:
    entries[key] = value
    entries.move_to_end(key)
    while len(entries) > _MAX_ENTRIES:
        entries.popitem(last=False)


def _digest(place: str) -> bytes:
    return hashlib.blake2b(place.encode("utf-8", "replace"), digest_size=16).digest()
