"""Match the retry of an SDK that sends no key with the call that it repeats.

The openai and anthropic SDKs send no key, but they number their attempts: ``x-stainless-retry-count`` is 0 for the
first one. All equal requests of one caller are in one list. A request with count 0 is always a new call. A request with
a higher count repeats a call with a lower count that was seen inside the window. Of several such calls it repeats the
first of these:

1. a call that was refused, by a 429 for example
2. a call whose response was not sent completely
3. the latest call: a client that makes one call after the other repeats its last one only

>>> calls = (SdkCall(id="a", count=0, at=100.0, sent=True), SdkCall(id="b", count=0, at=101.0))
>>> match(calls, count=1, now=103.0, window=60.0).id
'b'
>>> match(calls, count=0, now=103.0, window=60.0) is None
True
>>> match(calls, count=1, now=999.0, window=60.0) is None
True

A request that a proxy repeats by itself has the count of the first one. Where a trusted proxy gives each request an id
(``x-request-id``), a second request with the id is the same call.

An attempt that its client has given up can arrive after its own retry (:func:`may_be_late`). Its client has left by
then, so such a request runs only if the client is still there.

One case cannot be told apart: the first attempt of a call never arrived, and an equal call of the same caller got its
response inside the window. The retry is then taken for that call, and gets its response.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from json.encoder import encode_basestring_ascii as _quoted
from typing import Final

__all__ = [
    "MOST_CALLS",
    "SdkCall",
    "decode",
    "encode",
    "forget",
    "mark",
    "match",
    "may_be_late",
    "prune",
    "taken",
    "unmark",
]

_BOOLEANS: Final = ("false", "true")

MOST_CALLS: Final = 64
"""Equal calls of one caller that are remembered. Above it, the oldest call with a response is forgotten first."""


# Nothing changes a SdkCall. It is not frozen, because a frozen dataclass sets each field by a call.
@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class SdkCall:
    """One of several equal calls.

    :param id: the id that stands for a key.
    :param count: the highest retry count that the call was seen with.
    :param at: time of that request in seconds, by the clock of the store.
    :param sent: the response was sent completely, to a client that was still there.
    :param refused: the response said that nothing was done.
    :param request_id: the hash of the id that a proxy gave to the latest request of the call; empty without one.
    """

    id: str
    count: int
    at: float
    sent: bool = False
    refused: bool = False
    request_id: str = ""


def match(calls: Sequence[SdkCall], *, count: int, now: float, window: float, request_id: str = "") -> SdkCall | None:
    """The call that a request with this count repeats; ``None``: the request is a new call.

    :param now: time in seconds, by the clock of the store.
    :param window: seconds since the last attempt of a call at most.
    :param request_id: the hash of the id that a proxy gave to the request. A second request with the id is the proxy's
        own repetition, whatever its count.
    """
    if request_id:
        for call in calls:
            if call.request_id == request_id and now - call.at <= window:
                return call
    repeatable = [call for call in calls if call.count < count and now - call.at <= window]
    return min(repeatable, key=lambda call: (not call.refused, call.sent, -call.count, -call.at), default=None)


def may_be_late(calls: Sequence[SdkCall], *, count: int) -> bool:
    """Whether a call with a higher count is recorded, so that this request may be a delayed earlier attempt of it."""
    return any(call.count > count for call in calls)


def taken(
    calls: Sequence[SdkCall], call: SdkCall, *, count: int, now: float, request_id: str = ""
) -> tuple[SdkCall, ...]:
    """The list after a retry has repeated ``call``. A second retry with the same count belongs to another call."""
    latest = max(count, call.count)
    repeated = replace(call, count=latest, at=now, sent=False, refused=False, request_id=request_id or call.request_id)
    return tuple(repeated if other.id == call.id else other for other in calls)


def mark(calls: Sequence[SdkCall], id: str, *, refused: bool) -> tuple[SdkCall, ...]:
    """The list after the response of a call was sent, or the call was refused."""
    return tuple([_marked(call, sent=not refused, refused=refused) if call.id == id else call for call in calls])


def unmark(calls: Sequence[SdkCall], id: str) -> tuple[SdkCall, ...]:
    """The list after it has turned out that a call that was marked as sent has not got its whole response."""
    return tuple([_marked(call, sent=False, refused=call.refused) if call.id == id else call for call in calls])


def _marked(call: SdkCall, *, sent: bool, refused: bool) -> SdkCall:
    # Not by `replace`, which costs more than all else of a mark.
    return SdkCall(id=call.id, count=call.count, at=call.at, sent=sent, refused=refused, request_id=call.request_id)


def forget(calls: Sequence[SdkCall], id: str) -> tuple[SdkCall, ...]:
    """The list without a call."""
    return tuple(call for call in calls if call.id != id)


def prune(calls: Sequence[SdkCall], *, now: float, window: float) -> tuple[SdkCall, ...]:
    """The list with room for one call: without the calls outside the window, and without those above the bound.

    A call may be ahead of ``now``: the clock of the machine began anew with a reboot, or that of redis was set back.
    Such a call would be the latest one for as long as equal calls come.
    """
    fresh = [call for call in calls if abs(now - call.at) <= window]
    while len(fresh) >= MOST_CALLS:
        fresh.remove(min(fresh, key=lambda call: (not call.sent, call.at)))
    return tuple(fresh)


def encode(calls: Sequence[SdkCall]) -> bytes:
    """The list as JSON, with one row for each call."""
    # Text in the format of json, because an encoder of json takes longer than all rows of most lists.
    rows = ",".join(
        [
            f"[{_quoted(call.id)},{call.count},{call.at!r},{_BOOLEANS[call.sent]},{_BOOLEANS[call.refused]}"
            + (f",{_quoted(call.request_id)}]" if call.request_id else "]")
            for call in calls
        ]
    )
    return f"[{rows}]".encode()


def decode(entry: bytes) -> tuple[SdkCall, ...]:
    """The inverse of :func:`encode`."""
    return tuple(
        SdkCall(id=name, count=count, at=at, sent=sent, refused=refused, request_id=request_id[0] if request_id else "")
        for name, count, at, sent, refused, *request_id in json.loads(entry)
    )
