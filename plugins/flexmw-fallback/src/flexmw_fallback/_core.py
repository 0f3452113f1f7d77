"""The decisions of Fallback: what follows the result of one upstream, and which failure the caller gets. Pure.

>>> judge(Verdict("refused", status=429)), judge(Verdict("ambiguous", status=500))
('next', 'give_back')
>>> judge(Verdict("ambiguous", status=500), permit=True), judge(Verdict("ambiguous", safe=True))
('next_maybe_billed', 'next')
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "LOCAL_ERRORS",
    "SAFE_METHODS",
    "STOPS",
    "Action",
    "Failure",
    "Verdict",
    "best",
    "first_by_share",
    "health_of",
    "judge",
]

Action = Literal["next", "next_maybe_billed", "finish", "give_back"]
"""``next``: the next upstream is asked. ``next_maybe_billed``: the same, and this one may have executed the call.
``finish``: no other upstream is asked, and the caller gets the best failure so far. ``give_back``: the caller gets this
result."""

_FINAL: Final = frozenset({"client_closed", "given_back_before", "body_broken"})
"""Reasons that end the call: the client is closed, an SDK repeats a call that was given back, or the body of a good
response broke, after whose head nothing moves."""

_NO_MORE: Final = frozenset({"deadline", "body_not_replayable"})
"""Reasons of Retry that hold for every upstream: the call has no time left, or its body cannot be sent again."""

STOPS: Final = _FINAL | _NO_MORE

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
"""Methods that change nothing (RFC 9110 section 9.2.1). PUT and DELETE are not among them: a repetition does no harm on
one server, but an execution on two servers is two executions."""

LOCAL_ERRORS: Final = frozenset({"PoolTimeout", "LocalProtocolError", "UnsupportedProtocol", "StreamConsumed"})
"""Exception classes that say nothing about an upstream: this side has no connection, or cannot send the request."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one upstream has made of a call.

    :param outcome: Retry's verdict, or ``refused`` where the options of Fallback say so.
    :param reason: why Retry has stopped.
    :param status: the status of the response; ``None`` where none came.
    :param safe: whether the method is safe to repeat.
    """

    outcome: str
    reason: str | None = None
    status: int | None = None
    safe: bool = False


def judge(verdict: Verdict, *, permit: bool = False) -> Action:
    """What follows the result of one upstream.

    :param permit: the user has permitted another upstream after an ambiguous result.
    """
    if verdict.reason in _FINAL or verdict.outcome == "answered":
        return "give_back"
    if verdict.outcome in ("unsent", "refused") or verdict.safe:
        return "finish" if verdict.reason in _NO_MORE else "next"
    return "next_maybe_billed" if permit and verdict.reason not in _NO_MORE else "give_back"


def health_of(verdict: Verdict, error_class: str | None) -> Literal["success", "failure", "neutral"]:
    """What a result says about the health of its upstream. 429 is no success: the upstream takes no call now."""
    if error_class in LOCAL_ERRORS or verdict.reason in STOPS:
        return "neutral"
    if verdict.outcome != "answered":
        return "failure"
    return "success" if verdict.status is not None and verdict.status < 400 else "neutral"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure that the caller may get in the end.

    :param status: the status of the response; ``None`` for an error.
    :param wait: seconds that the response asks for; ``None`` where it names none.
    """

    status: int | None
    wait: float | None = None


def best(failures: Sequence[Failure]) -> int:
    """The place of the failure that helps the caller most: the error response with the smallest wait, else the first
    error response, else the first good response that was refused by its beginning, else the first error."""

    def rank(place: int) -> tuple[int, float, int]:
        failure = failures[place]
        is_error_response = failure.status is not None and failure.status >= 400
        kind = 0 if is_error_response else 2 if failure.status is None else 1
        return kind, math.inf if failure.wait is None else failure.wait, place

    return min(range(len(failures)), key=rank)


def first_by_share(caller: str, shares: Iterable[tuple[int, str, float]]) -> int:
    """The place of the upstream at which the calls of one caller begin: the same one each time, and by weight over all
    callers.

    Weighted rendezvous hashing: where a weight changes, only the callers of the difference move.

    :param shares: place, name and weight of each upstream that has a share; at least one.
    """
    chosen, highest = -1, -math.inf
    for place, name, weight in shares:
        digest = hashlib.blake2b(f"{name}\0{caller}".encode("utf-8", "replace"), digest_size=8).digest()
        chance = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
        score = -weight / math.log(chance)
        if score > highest:
            chosen, highest = place, score
    return chosen
