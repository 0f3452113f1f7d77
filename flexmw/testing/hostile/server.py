"""The public class of the fault-injecting server: a context manager with a URL and counts."""

from __future__ import annotations

import importlib.util
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Self

from flexmw.errors import ConfigError
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.testing.hostile.ledger import Count, Ledger
from flexmw.testing.hostile.ports import HOST, Listener, Port
from flexmw.testing.hostile.received import Received
from flexmw.testing.hostile.response import Fault
from flexmw.testing.hostile.script import Plan, Script, ScriptLike
from flexmw.testing.hostile.service import Service
from flexmw.testing.hostile.tls import Encryption

__all__ = ["HostileServer"]

_STOP_SECONDS: Final = 5.0


class HostileServer:
    """A server on a free port of 127.0.0.1 that misbehaves on request, and counts what it executed.

    It is a context manager and runs in threads, so sync and async code can use it. The end of the block ends every
    connection and every thread, also those of clients that hang, and raises what a function of the script has raised.

    :param script: one fault for every request; a list of faults; or a function that takes the
        :class:`~flexmw.testing.hostile.Received` request and returns a fault (``None``: a good response). A fault is
        a name of :data:`~flexmw.testing.hostile.FAULTS`, a status such as ``"503"`` or ``"429:seconds=2"``, or an
        object.
    :param then: the fault of every request after the end of a list. Default: good responses.
    :param tls: ``True`` for a certificate made at run time (needs ``trustme``; see :meth:`client_context`), or a TLS
        context.
    :param http2: speak HTTP/2 too, by ALPN or by prior knowledge (needs ``h2``).
    :param dedup: honour ``Idempotency-Key``: a request with a key that was executed gets the good response, and takes
        no fault of the script.
    :param key_ttl: send ``Idempotency-Key-TTL`` with this number of seconds on every response.
    :param clock: the clock for ``Date``, waits and arrival times.
    :raises ConfigError: a fault does not exist, or cannot happen on this server.
    """

    def __init__(
        self,
        script: ScriptLike = (),
        *,
        then: Plan = "ok",
        tls: bool | ssl.SSLContext = False,
        http2: bool = False,
        dedup: bool = False,
        key_ttl: int | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        if http2 and importlib.util.find_spec("h2") is None:
            raise ConfigError("HostileServer(http2=...)", http2, "the package 'h2' to be installed, or http2=False")
        self._then = then
        self._http2 = http2
        self._encryption = Encryption(tls, http2=http2)
        self._scheme = "http" if self._encryption.context is None else "https"
        self._ledger = Ledger(dedup=dedup)
        self._service = Service(
            self._checked(script),
            self._ledger,
            encryption=self._encryption,
            clock=clock,
            standing=() if key_ttl is None else (("Idempotency-Key-TTL", str(key_ttl)),),
        )
        self._port: Port | None = None
        self._listener: Listener | None = None
        self._stopped = False

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``, or ``https``, without a path. It is also the URL of the proxy."""
        return f"{self._scheme}://{HOST}:{self.port}"

    @property
    def port(self) -> int:
        """The port; known once the block has begun."""
        if self._port is None:
            raise ConfigError(
                "HostileServer", "not entered", "to be entered first: with HostileServer() as server: ..."
            )
        return self._port.number

    @property
    def executions(self) -> int:
        """How often the work was done. A request counts if it was read to its end and not refused."""
        return self._ledger.count("executions")

    @property
    def executed(self) -> tuple[Received, ...]:
        """The requests behind :attr:`executions`, in order."""
        return self._ledger.executed

    @property
    def requests(self) -> tuple[Received, ...]:
        """Every request whose head was read, in order; recorded before its fault happens."""
        return self._ledger.requests

    @property
    def connections(self) -> int:
        """How many connections were accepted."""
        return self._ledger.count("connections")

    @property
    def open_connections(self) -> int:
        """How many connections neither side has ended yet."""
        return self._ledger.count("connections") - self._ledger.count("closed")

    def wait_for(self, n: int = 1, what: Count = "executions", *, timeout: float = 30.0) -> None:
        """Block until there are ``n`` ``"executions"``, ``"requests"``, ``"connections"`` or ``"closed"`` connections.

        In a task, run it in a thread.

        :raises TimeoutError: after ``timeout`` seconds; the message has all four counts.
        """
        self._ledger.wait_for(n, what, timeout)

    def follow(self, script: ScriptLike) -> None:
        """Replace the script. The counts go on."""
        self._service.script = self._checked(script)

    def forget(self) -> None:
        """Set the counts to zero, except that of open connections, and forget the idempotency keys."""
        self._ledger.forget()

    def client_context(self) -> ssl.SSLContext:
        """Return a TLS context that trusts this server, also as the host behind a ``CONNECT``: for ``verify=``."""
        return self._encryption.authority.client_context()

    @contextmanager
    def refusing(self) -> Generator[None]:
        """Refuse every new connection while the block runs. Open connections stay open."""
        self._unlisten()
        try:
            yield
        finally:
            self._listen()

    def __enter__(self) -> Self:
        if self._port is not None:
            raise ConfigError("HostileServer", "entered before", "one server for each block")
        self._port = Port()
        self._listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        self._stopped = True
        self._unlisten()
        stuck = self._service.stop(_STOP_SECONDS)
        if self._port is not None:
            self._port.release()
        if kind is not None:
            return
        if self._service.errors:
            raise self._service.errors[0]
        if stuck:
            raise RuntimeError(
                f"{', '.join(stuck)} still busy after {_STOP_SECONDS:g} s: is a script's function stuck?"
            )

    def __repr__(self) -> str:
        where = "not running" if self._port is None else self.url
        return f"<HostileServer {where} executions={self.executions} connections={self.connections}>"

    def _checked(self, script: ScriptLike) -> Script:
        checked = Script(script, then=self._then)
        for plan in checked.plans:
            if isinstance(plan, Fault) and plan.protocol == "http2" and not self._http2:
                raise ConfigError(
                    "script", plan, "http2=True, on the server and on the client: it is a fault of HTTP/2"
                )
        return checked

    def _listen(self) -> None:
        if self._port is not None and not self._stopped:
            self._listener = Listener(self._port.listen(), self._service.accept)

    def _unlisten(self) -> None:
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
