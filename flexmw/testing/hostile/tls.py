"""Certificates made on the fly, for 127.0.0.1 and for the hosts behind a ``CONNECT``. Needs ``trustme``."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from flexmw.errors import ConfigError

__all__ = ["Authority"]


class Authority:
    """A certificate authority that exists for one server. Raises ConfigError where ``trustme`` is not installed."""

    def __init__(self) -> None:
        try:
            import trustme
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
