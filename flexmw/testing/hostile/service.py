"""The serving part of the fault-injecting server: one thread for each connection."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Lock, Thread
from typing import Final

from flexmw.errors import ConfigError
from flexmw.kit.clock import Clock
from flexmw.testing.hostile.exchange import Exchange
from flexmw.testing.hostile.http1 import Http1Exchange, Malformed, read_head, speaks_http2
from flexmw.testing.hostile.ledger import Ledger
from flexmw.testing.hostile.replay import Replay
from flexmw.testing.hostile.response import Fault
from flexmw.testing.hostile.script import Script, request_fault
from flexmw.testing.hostile.tls import Encryption
from flexmw.testing.hostile.waits import Headers
from flexmw.testing.hostile.wire import Gone, Wire

__all__ = ["Service"]

_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Service:
    """Serves every accepted connection by the script. ``errors`` are what functions and faults of the script raised."""

    def __init__(
        self, script: Script, ledger: Ledger, *, encryption: Encryption, clock: Clock, standing: Headers
    ) -> None:
        self.script = script
        self.errors: list[Exception] = []
        self._ledger = ledger
        self._encryption = encryption
        self._clock = clock
        self._standing = standing
        self._lock = Lock()
        self._live: dict[int, tuple[Wire, Thread]] = {}

    def accept(self, sock: socket.socket) -> None:
        """Serve a new connection in a thread of its own."""
        wire, number = Wire(sock), self._ledger.open()
        thread = Thread(target=self._connection, args=(wire, number), name=f"hostile-{number}", daemon=True)
        with self._lock:
            self._live[number] = wire, thread
        thread.start()

    def stop(self, timeout: float) -> list[str]:
        """End every connection, and return the names of the threads that did not end in time.

        :param timeout: seconds to wait for each thread.
        """
        with self._lock:
            live = list(self._live.values())
        for wire, _ in live:
            wire.wake()
        for _, thread in live:
            thread.join(timeout)
        return [thread.name for _, thread in live if thread.is_alive()]

    def _connection(self, wire: Wire, number: int) -> None:
        try:
            self._serve(wire, number)
        except Gone:
            pass
        except Malformed:
            with suppress(Gone):
                wire.send(_BAD_REQUEST)
        except Exception as error:  # raised where the server's block is left, not lost in a thread
            self.errors.append(error)
            wire.close("rst")
        finally:
            wire.close("fin")
            with self._lock:
                del self._live[number]
            self._ledger.close()

    def _serve(self, wire: Wire, number: int) -> None:
        if (fault := self.script.for_connection()) is not None:
            fault.run(wire)
            return
        context = self._encryption.context
        chosen = None if context is None else wire.secure(context)
        if self._encryption.http2 and (chosen == "h2" or (chosen is None and speaks_http2(wire))):
            self._serve_http2(wire, number)
            return
        over = False
        while not over:
            request = read_head(wire, connection=number, clock=self._clock)
            exchange = Http1Exchange(
                request, self._ledger, self._clock, self._standing, wire=wire, open_tunnel=self._encryption.tunnel
            )
            self._answer(exchange)
            over = exchange.over

    def _serve_http2(self, wire: Wire, number: int) -> None:
        from flexmw.testing.hostile.http2 import Http2Connection  # the package h2 is needed here only

        connection = Http2Connection(
            wire, number=number, ledger=self._ledger, clock=self._clock, standing=self._standing, serve=self._stream
        )
        connection.run()

    def _stream(self, exchange: Exchange) -> None:
        try:
            self._answer(exchange)
        except Gone:
            pass
        except Exception as error:  # raised where the server's block is left, not lost in a thread
            self.errors.append(error)
            exchange.close("rst")

    def _answer(self, exchange: Exchange) -> None:
        known = self._ledger.known(exchange.request)
        plan = self.script.for_request() if known is None else Replay(*known)
        try:
            exchange.receive(plan.share if isinstance(plan, Fault) else 1.0)
        finally:
            self._ledger.note(exchange.request)
        fault = plan if isinstance(plan, Fault) else request_fault(plan(exchange.request))
        if fault.protocol not in (None, exchange.protocol):
            raise ConfigError(
                "script", fault, f"a request over {fault.protocol}; this one came over {exchange.protocol}"
            )
        fault.run(exchange)
