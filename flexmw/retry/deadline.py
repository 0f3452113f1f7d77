"""When a call with a deadline ends: one moment for all its redirects, authentication steps and attempts."""

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
    """``ends`` in monotonic seconds, and the call of the client for which that holds."""

    ends: float
    call: weakref.ref[Any]


def deadline_of(request: Request, seconds: float, now: float) -> float:
    """The moment (monotonic seconds) at which the call ends that this request belongs to.

    The first request of a call sets it. A request object that is sent again in a later call gets a new one.
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
    """The moment (monotonic seconds) at which the call of this request ends, as a Retry with a deadline has set it for
    this request or an earlier one of the same call; ``None`` where no Retry has set one.
    """
    known = request.extensions.get(_EXTENSION)
    call = current_call()
    return known.ends if isinstance(known, _CallDeadline) and call is not None and known.call() is call else None
