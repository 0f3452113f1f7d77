"""How far one attempt got: the events that a transport reported, and whether the request can have reached a server.

>>> evidence = Evidence()
>>> evidence.sent is None  # the transport reported nothing, so nothing is proven
True
>>> evidence.observe("connection.connect_tcp.failed", {})
>>> evidence.sent
False
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from flexmw.contract.exception_slots import args_of
from flexmw.kit.effects import HEADS, WITHHELD
from flexmw.kit.repetition import REPEATS

__all__ = ["IN_PROCESS", "WAITED", "Evidence", "is_transport_error"]

IN_PROCESS: Final = "flexmw.transport.in_process"
"""The event of a transport that may call an app in this process, where a request arrives the moment it is sent. A
transport that chooses by the host may connect to a server instead: then the events of httpcore count."""

WAITED: Final = "flexmw.pace.waited"
"""The event of Pace: it has delayed the attempt by ``seconds``."""

_REPORTS: Final = ("connection.", "http11.", "http2.", "proxy.", "socks.")
"""The prefixes of httpcore's events. The events of other components say nothing about the transport."""

_HEAD_FAILED: Final = frozenset({"http11.send_request_headers.failed", "http2.send_request_headers.failed"})

_TRANSPORT_ERRORS: Final[Mapping[str, frozenset[str]]] = {
    "httpx": frozenset({"TransportError", "StreamConsumed"}),
    "httpx2": frozenset({"TransportError", "StreamConsumed"}),
    "h2": frozenset({"H2Error"}),
    "socksio": frozenset({"SOCKSError"}),
    "ssl": frozenset({"SSLError"}),
    "aiohttp": frozenset({"ClientError"}),
}
"""The base classes of the errors of a transport, by the package that defines them.

The client libraries let some errors of the packages below them through, checked with httpx 0.28, httpx2 2.16 and
httpx-aiohttp 0.2: h2's where an HTTP/2 response ends before its length; socksio's where a SOCKS proxy sends no valid
response; those of ``ssl`` where a TLS record is damaged and the client runs on asyncio; aiohttp's where a response is
not HTTP. ``StreamConsumed`` is raised where a transport would have to send a body twice."""


class Evidence:
    """Gathers the events of one attempt: hand its :meth:`observe` to ``Send``.

    :param leaves: called each time a head goes out. The first argument says whether the attempt sent a head before:
        over HTTP/2, a transport repeats a request of which the server says that it did not process it. The second
        argument says whether the connection is HTTP/2, which other calls share. If the function raises, the head is not
        sent.
    """

    # Defaults of the class: what most attempts only set, or never read, costs them nothing.
    seen = head = in_process = False
    stream: int | None = None
    repeats: Callable[[Mapping[str, Any]], None] | None = None
    """Called with the details of :data:`REPEATS` before a transport sends the request again by itself. If this function
    raises, the request is not sent."""
    rejection: BaseException | None = None
    """What the protocol library on this side raised instead of writing the head."""

    def __init__(self, leaves: Callable[[bool, bool], None] | None = None) -> None:
        self.leaves = leaves
        self.waited = 0.0
        """Seconds that components further inward have waited before they sent the attempt."""

    def observe(self, event: str, details: Mapping[str, Any]) -> None:
        if event in HEADS and getattr(details.get("request"), "method", b"") != b"CONNECT":  # is_connect(), in place
            self.seen = True
            if self.leaves is not None:
                self.leaves(self.head, event.startswith("http2."))
            self.head = True
            self.stream = details.get("stream_id")
            return
        self.seen = self.seen or event.startswith(_REPORTS)
        if event in _HEAD_FAILED:
            error = details.get("exception")
            cls: type = type(error)
            if isinstance(error, BaseException) and _is_rejection(cls):
                self.head, self.rejection = False, error
        elif event == WITHHELD:
            self.seen = self.seen or details["event"].startswith(_REPORTS)
        elif event == IN_PROCESS:
            self.in_process = True
        elif event == WAITED:
            self.waited += details["seconds"]
        elif event == REPEATS and self.repeats is not None:
            self.repeats(details)

    @property
    def sent(self) -> bool | None:
        """Whether the request's head went out; ``None`` where the transport reports nothing."""
        if self.seen:
            return self.head
        return True if self.in_process else None


@lru_cache(maxsize=64)
def _is_rejection(cls: type) -> bool:
    """h11 and h2 check a head before they turn it into bytes; what they raise then precedes every write."""
    return any(base.__name__ == "LocalProtocolError" or base.__module__ == "h2.exceptions" for base in cls.__mro__)


def is_transport_error(error: BaseException) -> bool:
    """Whether an exception says something about the transport.

    The errors in :data:`_TRANSPORT_ERRORS` do, and asyncio's complaint about a kept connection of an event loop that is
    closed. A time limit that a signal handler raises into the call, an assertion of a mock and a bug in a custom
    transport do not.
    """
    cls: type = type(error)
    return _is_transport_error(cls) or (cls is RuntimeError and args_of(error) == ("Event loop is closed",))


@lru_cache(maxsize=256)
def _is_transport_error(cls: type) -> bool:
    return any(base.__name__ in _TRANSPORT_ERRORS.get(base.__module__.partition(".")[0], ()) for base in cls.__mro__)
