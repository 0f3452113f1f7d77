"""httpx and httpx2 as one matrix: the same calls in the same words."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import httpx
import httpx2

from flexmw.testing import HostileServer

__all__ = ["LIBRARIES", "NO_TRUST", "RESET", "aoutcome", "options", "outcome", "plain_client"]

LIBRARIES: list[Any] = [httpx, httpx2]

RESET = ("ReadError", "WriteError", "RemoteProtocolError")
"""What a reset looks like to a client that is still writing: any of these, run by run."""

NO_TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody; made once, because loading the world's certificates takes longer than most of these tests."""

_PATIENT, _SHORT = 10.0, 0.1


def plain_client(**extra: Any) -> httpx.Client:
    """An httpx client for a server without TLS."""
    return httpx.Client(**{"verify": NO_TRUST, "timeout": _PATIENT, "trust_env": False, **extra})


def options(
    server: HostileServer, *, hangs: Literal["read", "connect"] | None = None, http2: bool = False
) -> dict[str, Any]:
    """A client's options: patient except where the fault hangs, trusting the server, blind to the machine's proxies."""
    timeout = dict.fromkeys(("connect", "read", "write", "pool"), _PATIENT)
    if hangs is not None:
        timeout[hangs] = _SHORT
    context = server.client_context() if server.url.startswith("https") else NO_TRUST
    chosen: dict[str, Any] = {"timeout": tuple(timeout.values()), "trust_env": False, "verify": context}
    if http2:
        chosen |= {"http1": False, "http2": True}
    return chosen


def outcome(call: Callable[[], Any]) -> int | str:
    """What a caller sees: the status, or the name of the exception."""
    try:
        return int(call().status_code)
    except (httpx.HTTPError, httpx2.HTTPError) as error:
        return type(error).__name__


async def aoutcome(call: Callable[[], Awaitable[Any]]) -> int | str:
    """The same for a task."""
    try:
        return int((await call()).status_code)
    except (httpx.HTTPError, httpx2.HTTPError) as error:
        return type(error).__name__
