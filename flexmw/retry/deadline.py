"""Deadline of a call: one moment for all of its redirects, authentication steps and attempts."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Final

from flexmw.kit.client_call import current_call
from flexmw.kit.effects import Request

__all__ = ["call_ends", "deadline_of"]

_EXTENSION: Final = "flexmw.call_deadline"
"""The request extension that the client copies to the request of a redirect, and that an authentication step keeps."""


@dataclass(frozen=True, slots=True)
class _CallDeadline:
    """The end of one call of the client.

    :param ends: in monotonic seconds.
    """

    ends: float
    call: weakref.ref[Any]


def deadline_of(request: Request, seconds: float, now: float) -> float:
    """Return the moment at which the call of this request ends, in monotonic seconds.

    The first request of a call sets it. A request object that is sent again in a later call gets a new deadline.

    :param seconds: the duration of a call.
    :param now: monotonic seconds.
    """
    call = current_call()
    known = request.extensions.get(_EXTENSION)
    if isinstance(known, _CallDeadline) and call is not None and known.call() is call:
        return known.ends
    ends = now + seconds
    if call is not None:
        request.extensions[_EXTENSION] = _CallDeadline(ends, weakref.ref(call))
    return ends


def call_ends(request: Request) -> float | None:
    """Return the moment at which the call of this request ends, in monotonic seconds.

    :returns: ``None`` if no Retry with a deadline has sent a request of the call.
    """
    known = request.extensions.get(_EXTENSION)
    call = current_call()
    return known.ends if isinstance(known, _CallDeadline) and call is not None and known.call() is call else None
