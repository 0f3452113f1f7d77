"""Transports that call an app in this process."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["calls_an_app"]

_APP_TRANSPORTS: Final = frozenset({"ASGITransport", "WSGITransport", "_TestClientTransport"})


def calls_an_app(transport: Any) -> bool:
    """Whether a transport, or one that it wraps, calls an app in this process.

    Such an app may raise the error of a call of its own, a refused connection for instance: the error says nothing
    about the request that the app was given.
    """
    for _ in range(8):
        if not _APP_TRANSPORTS.isdisjoint(cls.__name__ for cls in type(transport).__mro__):
            return True
        inner = vars(transport) if hasattr(transport, "__dict__") else {}
        transport = next((inner[name] for name in _INNER if inner.get(name) is not None), None)
        if transport is None:
            return False
    return False


_INNER: Final = ("wrapped", "_wrapped", "_transport", "transport", "next_transport", "_inner", "inner", "_next")
"""The attributes in which transports keep the one that they wrap."""
