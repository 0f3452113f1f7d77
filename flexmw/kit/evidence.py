"""How far one attempt came: what a transport reported of it, and so whether its request can have reached a server.

>>> evidence = Evidence()
>>> evidence.sent is None  # nothing was reported: all is possible
True
>>> evidence.observe("connection.connect_tcp.failed", {})
>>> evidence.sent
False
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from flexmw.kit.effects import head_leaves

__all__ = ["Evidence"]

_REPORTS: Final = ("connection.", "http11.", "http2.", "proxy.", "socks.")
"""What the events of httpcore begin with. What components further inward tell says nothing about the transport."""


class Evidence:
    """Gathers the events of one attempt: give ``Send`` its :meth:`observe`.

    :param leaves: called each time the head goes out, with whether it did so before: over HTTP/2 a transport sends a
        request anew that the server says it did not process.
    """

    __slots__ = ("head", "leaves", "seen", "stream")

    def __init__(self, leaves: Callable[[bool], None] | None = None) -> None:
        self.leaves = leaves
        self.seen = self.head = False
        self.stream: int | None = None

    def observe(self, event: str, details: Mapping[str, Any]) -> None:
        self.seen = self.seen or event.startswith(_REPORTS)
        if head_leaves(event, details):
            if self.leaves is not None:
                self.leaves(self.head)
            self.head = True
            self.stream = details.get("stream_id")

    @property
    def sent(self) -> bool | None:
        """Whether the request's head went out; ``None`` where the transport reports nothing."""
        return self.head if self.seen else None
