"""TLS of the test server: certificates that ``trustme`` makes at run time, or a TLS context of the caller."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from threading import Lock

from flexmw.errors import ConfigError
from flexmw.testing.hostile.ports import HOST
from flexmw.testing.hostile.wire import Wire

__all__ = ["Authority", "Encryption"]


class Authority:
    """The certificate authority of one server.

    :raises ConfigError: ``trustme`` is not installed.
    """

    def __init__(self) -> None:
        try:
            import trustme  # a tool of tests, never required to import flexmw
        except ImportError:
            raise ConfigError(
                "HostileServer(tls=...)",
                True,
                "the package 'trustme' to be installed, or an ssl.SSLContext with a certificate of your own",
            ) from None
        self._ca = trustme.CA()

    def server_context(self, *names: str, protocols: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
        """Return the TLS context of a server.

        :param protocols: offered by ALPN, best first.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        context.set_alpn_protocols(list(protocols))
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return the TLS context of a client that trusts this authority and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ca.configure_trust(context)
        return context


class Encryption:
    """The TLS settings of one server.

    ``context`` is the server's own; ``None`` for a port without TLS. ``http2``: whether it offers HTTP/2.
    """

    def __init__(self, tls: bool | ssl.SSLContext, *, http2: bool) -> None:
        self.http2 = http2
        self._tls = tls
        self._lock = Lock()
        self._authority: Authority | None = None
        self.context: ssl.SSLContext | None = None
        if isinstance(tls, ssl.SSLContext):
            self.context = tls
        elif tls:
            protocols = ("h2", "http/1.1") if http2 else ("http/1.1",)
            self.context = self.authority.server_context(HOST, "localhost", protocols=protocols)

    @property
    def authority(self) -> Authority:
        """The authority. It is made on first use, because a port without TLS needs it behind a ``CONNECT`` only."""
        if isinstance(self._tls, ssl.SSLContext):
            raise ConfigError("HostileServer(tls=...)", self._tls, "True: a certificate that is made here")
        with self._lock:
            self._authority = self._authority or Authority()
            return self._authority

    def tunnel(self, wire: Wire, target: str) -> None:
        """Perform a TLS handshake as ``target`` (``host:port``) on a connection without TLS."""
        if self.context is not None:
            raise ConfigError("HostileServer(tls=...)", self._tls, "False for a proxy: TLS inside of TLS is not built")
        wire.secure(self.authority.server_context(target.rpartition(":")[0].strip("[]")))
