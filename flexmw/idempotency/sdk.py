"""Which earlier request a retry of an SDK without keys belongs to.

The openai and anthropic SDKs send no key, but number their attempts: ``x-stainless-retry-count`` is 0 on the first.
All equal requests of one caller stand in one list. A request with count 0 is a call of its own, always. One with a
higher count takes up the call that is most likely its own: seen with a lower count, not longer ago than the window,
best one that was refused (a 429, say), then one whose answer was not handed over whole, then the latest: a client that
makes one call after the other repeats none but its last.

>>> runs = (SdkCall(id="a", count=0, at=100.0, sent=True), SdkCall(id="b", count=0, at=101.0))
>>> match(runs, count=1, now=103.0, window=60.0).id
'b'
>>> match(runs, count=0, now=103.0, window=60.0) is None
True
>>> match(runs, count=1, now=999.0, window=60.0) is None
True

A request that its client has given up can arrive after its own retry (:func:`may_be_late`). Whoever sent it has left
by then: it is begun only for a client that is still there.

What remains: when a first attempt never arrived and an equal call of the same caller was answered inside the window,
its retry is taken for that call and gets its answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["MOST_CALLS", "SdkCall", "decode", "encode", "mark", "match", "may_be_late", "prune", "taken"]

MOST_CALLS: Final = 64
"""Equal calls of one caller that are remembered; the oldest answered one goes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SdkCall:
    """One of several equal calls: ``count`` is the highest retry count it was seen with, ``at`` when (Unix seconds),
    ``sent`` whether its answer was handed to the server whole while the client was still there, ``refused`` whether
    it was told that nothing was done."""

    id: str
    count: int
    at: float
    sent: bool = False
    refused: bool = False


def match(calls: Sequence[SdkCall], *, count: int, now: float, window: float) -> SdkCall | None:
    """The call that a request with this count repeats; ``None``: it is a call of its own."""
    open_to = [call for call in calls if call.count < count and now - call.at <= window]
    return min(open_to, key=lambda call: (not call.refused, call.sent, -call.count, -call.at), default=None)


def may_be_late(calls: Sequence[SdkCall], *, count: int) -> bool:
    """Whether a request with this count, a call of its own by all else, may be an earlier attempt of a known call, one
    that a later attempt has overtaken."""
    return any(call.count > count for call in calls)


def taken(calls: Sequence[SdkCall], call: SdkCall, *, count: int, now: float) -> tuple[SdkCall, ...]:
    """The list after a retry took ``call`` up: a second retry with the same count belongs to another call."""
    seen = replace(call, count=count, at=now, sent=False, refused=False)
    return tuple(seen if each.id == call.id else each for each in calls)


def mark(calls: Sequence[SdkCall], id: str, *, refused: bool) -> tuple[SdkCall, ...]:
    """The list after the answer of a call was handed over, or the call was refused."""
    return tuple(replace(each, sent=not refused, refused=refused) if each.id == id else each for each in calls)


def prune(calls: Sequence[SdkCall], *, now: float, window: float) -> tuple[SdkCall, ...]:
    """The list without what is too old or too many."""
    fresh = [call for call in calls if now - call.at <= window]
    while len(fresh) >= MOST_CALLS:
        fresh.remove(min(fresh, key=lambda call: (not call.sent, call.at)))
    return tuple(fresh)


def encode(calls: Sequence[SdkCall]) -> bytes:
    """The list as JSON: one row for each call."""
    rows = [(call.id, call.count, call.at, call.sent, call.refused) for call in calls]
    return json.dumps(rows, separators=(",", ":")).encode()


def decode(entry: bytes) -> tuple[SdkCall, ...]:
    """The inverse of :func:`encode`."""
    return tuple(
        SdkCall(id=name, count=count, at=at, sent=sent, refused=refused)
        for name, count, at, sent, refused in json.loads(entry)
    )
