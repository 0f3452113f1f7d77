"""TLS for a test server: certificates made on the fly by ``trustme``, or a context of the caller's own."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from threading import Lock

from flexmw.errors import ConfigError
from flexmw.testing.hostile.ports import HOST
from flexmw.testing.hostile.wire import Wire

__all__ = ["Authority", "Encryption"]


class Authority:
    """A certificate authority that exists for one server. Raises ConfigError where ``trustme`` is not installed."""

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
        """The server side for these host names and addresses; ``protocols`` are offered by ALPN, best first."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        context.set_alpn_protocols(list(protocols))
        return context

    def client_context(self) -> ssl.SSLContext:
        """The client side: trusts this authority and nothing else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ca.configure_trust(context)
        return context


class Encryption:
    """How one server encrypts. ``context`` is its own, ``None`` for a plain port; ``http2``: it may speak that, too."""

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
        """Made at the first use: a plain port needs certificates behind a ``CONNECT`` only."""
        if isinstance(self._tls, ssl.SSLContext):
            raise ConfigError("HostileServer(tls=...)", self._tls, "True: a certificate that is made here")
        with self._lock:
            self._authority = self._authority or Authority()
            return self._authority

    def tunnel(self, wire: Wire, target: str) -> None:
        """Speak TLS as ``target``, ``host:port``, on a connection that was plain until now."""
        if self.context is not None:
            raise ConfigError("HostileServer(tls=...)", self._tls, "False for a proxy: TLS inside of TLS is not built")
        wire.secure(self.authority.server_context(target.rpartition(":")[0].strip("[]")))
