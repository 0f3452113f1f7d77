"""Transports that call an app in this process."""

from __future__ import annotations

from typing import Any, Final

from flexmw.kit.inner_transports import inner_transports

__all__ = ["calls_an_app"]

_APP_TRANSPORTS: Final = frozenset({"ASGITransport", "WSGITransport", "_TestClientTransport"})


def calls_an_app(transport: Any) -> bool:
    """Whether a transport, or a transport inside it, calls an app in this process.

    The app may raise the error of a call that it makes itself, such as a refused connection. That error proves nothing
    about the request to the app.
    """
    return any(
        not _APP_TRANSPORTS.isdisjoint(cls.__name__ for cls in type(inner).__mro__)
        for inner in inner_transports(transport)
    )
