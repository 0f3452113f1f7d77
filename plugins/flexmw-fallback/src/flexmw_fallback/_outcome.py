"""What is known of a call that had several upstreams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import flexmw

__all__ = ["FallbackOutcome", "Tried"]


class Tried(NamedTuple):
    """One upstream that a call was sent to, once for each time.

    :ivar origin: scheme, host and port of the upstream.
    :ivar outcome: what Retry says: ``unsent``, ``refused``, ``ambiguous`` or ``answered``. ``refused`` also where the
        options of Fallback say so: a status in ``also``, ``refusal``, ``preamble``.
    :ivar status: the status of the last response; ``None`` where none came.
    :ivar seconds: how long it took.
    """

    origin: str
    outcome: str
    status: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class FallbackOutcome(flexmw.Outcome):
    """The outcome of a whole call, over all upstreams: ``attempts`` and ``waited`` are sums.

    :param upstream: the origin of the upstream whose response or error the caller has; ``None`` where no upstream was
        asked, because all of them are cooling.
    :param tried: the upstreams in the order in which the call was sent to them.
    :param maybe_billed: the origins of upstreams that may have executed the call, although another one was asked
        afterwards: only with ``Fallback(permit=("ambiguous",))``.
    """

    upstream: str | None = None
    tried: tuple[Tried, ...] = ()
    maybe_billed: tuple[str, ...] = ()
