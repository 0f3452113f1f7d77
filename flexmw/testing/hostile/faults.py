"""The faults: one frozen dataclass for each way to misbehave, and their names.

>>> fault("429:date-skewed=2")
Response(status=429, headers=(), body=None, retry='date-skewed', wait=2.0, executes=None)
>>> fault("rst") == Drop(when="read", how="rst")
True
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from flexmw.errors import ConfigError
from flexmw.testing.hostile.exchange import Exchange
from flexmw.testing.hostile.response import ConnectionFault, Fault, Response, renamed_option
from flexmw.testing.hostile.wire import How, Wire

__all__ = [
    "FAULTS",
    "Cut",
    "CutHead",
    "Drip",
    "Drop",
    "Garbage",
    "GoAway",
    "Hang",
    "PlainText",
    "ResetConnection",
    "ResetStream",
    "Silence",
    "Stale",
    "Stall",
    "fault",
]

_EARLY: Final = {"unread": 0.0, "reading": 0.5, "read": 1.0}


@dataclass(frozen=True, kw_only=True)
class Drop(Fault):
    """Send no response: end the connection with the request unread, half read, or read and executed."""

    when: Literal["unread", "reading", "read"] = "read"
    how: How = "rst"

    @property
    def share(self) -> float:
        return _EARLY[self.when]

    def run(self, exchange: Exchange) -> None:
        if self.when == "read":
            exchange.execute()
        exchange.close(self.how)


@dataclass(frozen=True)
class Hang(Fault):
    """Execute, and never respond: the client runs into its read timeout."""

    def run(self, exchange: Exchange) -> None:
        exchange.execute()
        exchange.pause(None)


@dataclass(frozen=True)
class CutHead(Fault):
    """Execute, and end the connection in the middle of the response headers."""

    protocol = "http1"

    def run(self, exchange: Exchange) -> None:
        exchange.execute()
        exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Type: applica")
        exchange.close("fin")


@dataclass(frozen=True, kw_only=True)
class Garbage(Fault):
    """Execute, and respond with bytes that are not HTTP."""

    protocol = "http1"
    data: bytes = b"\x00\x01 this is not HTTP\r\n\r\n"

    def run(self, exchange: Exchange) -> None:
        exchange.execute()
        exchange.raw(self.data)
        exchange.close("fin")


@renamed_option("answer", "response")
@dataclass(frozen=True, kw_only=True)
class Cut(Fault):
    """Begin a response, and end the connection within its body.

    :param response: the response.
    :param at: the share of the body that is sent, 0.0 to 1.0.
    """

    response: Response = field(default_factory=Response)
    at: float = 0.5
    how: How = "fin"
    chunked: bool = False

    def run(self, exchange: Exchange) -> None:
        body = self.response.begin(exchange, chunked=self.chunked)
        exchange.send(body[: int(len(body) * self.at)])
        exchange.close(self.how)


@renamed_option("answer", "response")
@dataclass(frozen=True, kw_only=True)
class Stall(Fault):
    """Begin a response, and send nothing more after a share of its body: the client runs into its read timeout.

    :param response: the response.
    :param at: the share of the body that is sent, 0.0 to 1.0.
    """

    response: Response = field(default_factory=Response)
    at: float = 0.5

    def run(self, exchange: Exchange) -> None:
        body = self.response.begin(exchange)
        exchange.send(body[: int(len(body) * self.at)])
        exchange.pause(None)


@renamed_option("answer", "response")
@dataclass(frozen=True, kw_only=True)
class Drip(Fault):
    """Send the body of a response in small pieces, so that no read timeout fires.

    :param response: the response.
    :param size: the bytes of one piece.
    :param interval: seconds between two pieces.
    """

    response: Response = field(default_factory=Response)
    size: int = 16
    interval: float = 0.02
    chunked: bool = False

    def run(self, exchange: Exchange) -> None:
        body = self.response.begin(exchange, chunked=self.chunked)
        for start in range(0, len(body), self.size):
            exchange.pause(self.interval)
            exchange.send(body[start : start + self.size])
        exchange.end()


@dataclass(frozen=True, kw_only=True)
class Stale(Fault):
    """Send a good response that keeps the connection alive, and close the connection: at once (``fin``), or when the
    next request arrives (``rst``).

    With ``rst`` the next request on the connection is reset. It is not read, not executed, not in ``requests``, and
    takes no entry of the script.
    """

    protocol = "http1"
    how: How = "fin"

    def run(self, exchange: Exchange) -> None:
        Response().run(exchange)
        if self.how == "rst":
            exchange.drop_next("rst")
        else:
            exchange.close("fin")


@dataclass(frozen=True, kw_only=True)
class ResetStream(Fault):
    """HTTP/2 RST_STREAM. Code 7, REFUSED_STREAM, before any work; every other code (2, INTERNAL_ERROR) after it."""

    protocol = "http2"
    code: int = 2

    @property
    def share(self) -> float:
        return 0.0 if self.code == 7 else 1.0

    def run(self, exchange: Exchange) -> None:
        if self.code != 7:
            exchange.execute()
        exchange.reset_stream(self.code)


@dataclass(frozen=True, kw_only=True)
class GoAway(Fault):
    """HTTP/2 GOAWAY, and the end of the connection: before the stream was processed, or after it was executed.

    httpcore itself repeats a request that the GOAWAY did not cover, unless it is the first stream of the connection.
    Use this fault in a list: a server with this fault for every request never ends the call.
    """

    protocol = "http2"
    processed: bool = False

    def run(self, exchange: Exchange) -> None:
        if self.processed:
            exchange.execute()
        exchange.go_away(processed=self.processed)


@dataclass(frozen=True)
class ResetConnection(ConnectionFault):
    """Accept the connection, and reset it."""

    def run(self, wire: Wire) -> None:
        wire.close("rst")


@dataclass(frozen=True)
class Silence(ConnectionFault):
    """Accept the connection, and send nothing. With TLS, the handshake hangs."""

    def run(self, wire: Wire) -> None:
        wire.pause(None)


@dataclass(frozen=True)
class PlainText(ConnectionFault):
    """Respond to the first bytes with HTTP in plain text. For a TLS client this is a port without TLS."""

    def run(self, wire: Wire) -> None:
        wire.fill()
        wire.buffer.clear()
        wire.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")


FAULTS: Final[Mapping[str, Fault | ConnectionFault]] = MappingProxyType(
    {
        "ok": Response(),
        # before there is a request
        "rst-on-connect": ResetConnection(),
        "handshake-hang": Silence(),
        "plain-text": PlainText(),
        "proxy-407": Response(407, headers=(("Proxy-Authenticate", 'Basic realm="hostile"'),)),
        # while it comes in
        "rst-unread": Drop(when="unread"),
        "rst-reading": Drop(when="reading"),
        "refused-stream": ResetStream(code=7),
        "goaway": GoAway(),
        # after it was executed
        "rst": Drop(),
        "fin": Drop(how="fin"),
        "hang": Hang(),
        "cut-head": CutHead(),
        "garbage": Garbage(),
        "cut-body": Cut(),
        "cut-chunk": Cut(chunked=True),
        "rst-body": Cut(how="rst"),
        "stall-body": Stall(),
        "slow-body": Drip(),
        "reset-stream": ResetStream(),
        "goaway-late": GoAway(processed=True),
        "slow-error": Drip(response=Response(503)),
        "big-error": Response(500, body=b"x" * 1_048_576),
        # after the response
        "stale": Stale(),
        "stale-race": Stale(how="rst"),
    }
)
"""The faults by name. Every status is a name too: alone (``"503"``), with headers that ask for a wait (``"429:ms"``),
or with the seconds of that wait (``"429:date=2"``)."""

_STATUS: Final = re.compile(r"([2-5]\d\d)(?::([a-z-]+)(?:=(\d+(?:\.\d+)?))?)?")


def fault(name: str) -> Fault | ConnectionFault:
    """Return the fault of a name.

    :raises ConfigError: no fault has the name.
    """
    if name in FAULTS:
        return FAULTS[name]
    if (match := _STATUS.fullmatch(name)) is not None:
        status, form, wait = match.groups()
        return Response(int(status), retry=form or "none", wait=float(wait or 1.0))
    known = ", ".join(FAULTS)
    raise ConfigError("fault", name, f"a status such as '503' or '429:seconds=2', or one of {known}")
