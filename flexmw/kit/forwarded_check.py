"""Notice that ``trusted_proxies`` has no effect, or is missing: all callers behind a proxy then count as one address.

>>> check = ForwardedCheck("RateLimit", has_networks=False, requests=2)
>>> check.look("10.0.0.4", is_trusted=False), check.is_over
(None, False)
>>> check.look("10.0.0.4", is_trusted=False), check.is_over
(None, True)
"""

from __future__ import annotations

import logging
from typing import Final

__all__ = ["LOGGERS", "ForwardedCheck"]

LOGGERS: Final = {"RateLimit": "flexmw.ratelimit", "Idempotency": "flexmw.idempotency"}
"""The logger of each component that takes ``trusted_proxies``."""

_REQUESTS: Final = 100
"""Requests that came through a proxy, before the warning."""

_MOST_PEERS: Final = 4
"""More peers than these are clients that send the header themselves, and no proxy."""


class ForwardedCheck:
    """Looks at the first requests that a component identifies by address, and logs one WARNING.

    :param component: the name of the component's class.
    :param has_networks: ``trusted_proxies`` names networks; otherwise it is empty.
    :param requests: so many requests with ``X-Forwarded-For`` or ``Forwarded`` are enough.
    """

    __slots__ = ("_component", "_has_networks", "_left", "_peers", "is_over")

    def __init__(self, component: str, *, has_networks: bool, requests: int = _REQUESTS) -> None:
        self._component, self._has_networks, self._left = component, has_networks, requests
        self._peers: set[str] = set()
        self.is_over = False
        """True after the warning, and once it is ruled out."""

    def look(self, peer: str, *, is_trusted: bool) -> None:
        """Take one request that has one of the two headers.

        :param peer: the address of the connection.
        :param is_trusted: the peer is one of the proxies.
        """
        if self.is_over:
            return
        self._peers.add(peer)
        self._left -= 1
        if is_trusted or len(self._peers) > _MOST_PEERS:
            self.is_over = True
        elif self._left <= 0:
            self.is_over = True
            self._warn(", ".join(sorted(self._peers)))

    def _warn(self, peers: str) -> None:
        fault = "holds none of them" if self._has_networks else "is not set"
        logger = logging.getLogger(LOGGERS[self._component])
        logger.warning(
            "%s(trusted_proxies=...) %s: the first requests with X-Forwarded-For or Forwarded came from %s, so all "
            "clients behind it count as one. If it is a proxy, name its network, or the number of proxies, such as "
            "trusted_proxies=1. This is logged once.",
            self._component,
            fault,
            peers,
        )
