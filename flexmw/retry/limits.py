"""Attempt limits: an outer component limits what Retry does with one request.

A component that handles a failure itself (by another server, a cached response, an error page) calls
:func:`limit_attempts` before it sends the request:

>>> import httpx
>>> request = httpx.Request("POST", "https://api.example/v1/jobs")
>>> limit_attempts(request, attempts=2, hand_back=("unsent", "refused"))
>>> limits_of(request).attempts, sorted(limits_of(request).hand_back)
(2, ['refused', 'unsent'])
>>> limit_attempts(request)
>>> limits_of(request) is NO_LIMITS
True
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, get_args

from flexmw.errors import ConfigError
from flexmw.kit.effects import Request
from flexmw.retry.core import Result

__all__ = ["LIMITS", "NO_LIMITS", "AttemptLimits", "limit_attempts", "limits_of"]

LIMITS: Final = "flexmw.retry.limits"
"""The request extension with the :class:`AttemptLimits` of one request."""


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """See :func:`limit_attempts` for the meaning of each field."""

    attempts: int | None = None
    hand_back: frozenset[Result] = frozenset()
    earlier: int = 0
    ends: float | None = None


NO_LIMITS: Final = AttemptLimits()


def limit_attempts(
    request: Request,
    *,
    attempts: int | None = None,
    hand_back: Collection[Result] = (),
    earlier: int = 0,
    ends: float | None = None,
) -> None:
    """Limit the attempts that Retry makes for one request. A component calls this before it sends the request inward.

    The options of the Retry still apply; the limits can only forbid attempts. A call without limits removes the limits
    of an earlier call.

    :param request: the request that the component is about to send.
    :param attempts: how often Retry sends the request at most; ``None`` for its own option.
    :param hand_back: outcomes of the whole call (``unsent``, ``refused``, ``ambiguous``) after which Retry makes no
        further attempt: the component gets the failure at once, with the reason ``handed_back``. If an attempt under an
        honoured key may have been executed, a later refusal does not change that: the call is ``ambiguous``, and Retry
        continues, unless ``ambiguous`` is handed back.
    :param earlier: the number of attempts that the component has made for the same call. From 1 on, Retry's budget does
        not count the request as another call, and the resend count of the attempts begins at this number. The component
        is then responsible for the decision to send the request although an earlier attempt may have been executed.
    :param ends: when the call must end, in monotonic seconds. If Retry has a deadline too, the earlier one applies.
    :raises ConfigError: a value that cannot be used.
    """
    unknown = [outcome for outcome in hand_back if outcome not in get_args(Result)]
    if isinstance(hand_back, str) or unknown:
        raise ConfigError("limit_attempts(hand_back=...)", hand_back, f"some of {', '.join(get_args(Result))}")
    if attempts is not None and attempts < 1:
        raise ConfigError("limit_attempts(attempts=...)", attempts, "a whole number, at least 1, or None")
    if attempts is None and not hand_back and not earlier and ends is None:
        request.extensions.pop(LIMITS, None)
    else:
        request.extensions[LIMITS] = AttemptLimits(attempts, frozenset(hand_back), earlier, ends)


def limits_of(request: Request) -> AttemptLimits:
    """The limits of a request."""
    limits: AttemptLimits = request.extensions.get(LIMITS, NO_LIMITS)
    return limits
