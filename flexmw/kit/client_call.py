"""The call of a client that a transport works for, as httpx and httpx2 keep it on the stack.

A transport sees single requests. Redirects and authentication make several requests of one call of the user. No
argument of the transport says which requests belong together: the ``Request`` may be the same object in two calls, and
different objects in one call. Both libraries run the authentication flow of a call in one frame for as long as the call
lasts; that flow identifies the call. A transport that is called without a client has no such frame.

A subclass of a client that overrides ``send`` may send one request several times within one call of the user (prefect's
does). The library's ``request`` and ``stream`` make that request, and it identifies the call.

Checked with httpx 0.28 and httpx2 2.16.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, Final

__all__ = ["current_call", "is_streamed", "is_wrapped", "keep_cookies"]

_FRAME: Final = "_send_handling_auth"
_SEND: Final = "send"
_LIBRARIES: Final = ("httpx", "httpx2")
_MAKERS: Final = ("request", "stream")
"""The methods of a client that make a request and call ``send`` with it."""
_SEND_ONE: Final = "_send_single_request"
_METHODS: Final = ("handle_request", "handle_async_request")
_OWN: Final = (*_LIBRARIES, "flexmw")


def current_call() -> Any:
    """An object that lives for at least as long as the innermost call of a client on the stack; ``None`` without a
    client. Weak references to it are possible, except to an authentication flow whose class forbids them.

    A client reads the body in ``send``, when the authentication flow has ended. Only a class that overrides ``send``
    can send the request again after that.
    """
    flow, frame = None, _frame((_FRAME, _SEND))
    if frame is not None and frame.f_code.co_name == _FRAME:
        flow, frame = frame.f_locals.get("auth_flow"), frame.f_back
    if frame is None or not _overrides_send(frame.f_locals.get("self")):
        return flow
    request, maker = frame.f_locals.get("request"), frame.f_back
    if maker is None or _package_of(maker) in _LIBRARIES:
        return flow
    while maker is not None and request is not None:
        is_maker = maker.f_code.co_name in _MAKERS and _package_of(maker) in _LIBRARIES
        if is_maker and maker.f_locals.get("request") is request:
            return request
        maker = maker.f_back
    return flow


def _overrides_send(client: object) -> bool:
    """Return whether the class of a client has a ``send`` of its own."""
    defining = next((cls for cls in type(client).__mro__ if _SEND in vars(cls)), object)
    return defining.__module__.partition(".")[0] not in _LIBRARIES


def is_streamed() -> bool:
    """Whether the caller reads the body of the response piece by piece.

    A client's ``send(stream=False)`` reads the body whole before the caller sees the response. Without a client the
    result is true, because only the caller reads the body.
    """
    frame = _frame((_SEND,))
    return frame is None or bool(frame.f_locals.get("stream", True))


def is_wrapped() -> bool:
    """Whether the class of the client overrides ``send``, or a transport of another package stands between the client
    and the transport that works for it."""
    found = False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        package = _package_of(frame)
        if frame.f_code.co_name == _SEND_ONE and package in _LIBRARIES:
            return found or _overrides_send(frame.f_locals.get("self"))
        found = found or (frame.f_code.co_name in _METHODS and package not in _OWN)
        frame = frame.f_back
    return False


def keep_cookies(request: Any, response: Any, cookie: str | None) -> str | None:
    """Put the cookies of a response that the client will not see into the client's jar (RFC 6265 section 3, erratum
    7604: a user agent processes the ``Set-Cookie`` of every response).

    :param cookie: the ``Cookie`` header that the request was sent with; ``None`` where it had none.
    :returns: the ``Cookie`` header for sending the request again; empty for none.
    """
    frame = _frame()
    jar: Any = None if frame is None else getattr(frame.f_locals.get("self"), "cookies", None)
    if jar is None:
        return cookie
    response.request = request
    jar.extract_cookies(response)
    probe = type(request)(request.method, request.url)
    jar.set_cookie_header(probe)
    set_now = {line.partition("=")[0].strip() for line in response.headers.get_list("set-cookie")}
    pairs = {name: value for name, value in _pairs(cookie or "").items() if name not in set_now}
    pairs.update((name, value) for name, value in _pairs(probe.headers.get("cookie", "")).items() if name in set_now)
    return "; ".join(f"{name}={value}" for name, value in pairs.items())


def _pairs(cookie: str) -> dict[str, str]:
    parts = (part.strip().partition("=") for part in cookie.split(";") if part.strip())
    return {name: value for name, _, value in parts}


def _frame(names: tuple[str, ...] = (_FRAME,)) -> FrameType | None:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name in names and _package_of(frame) in _LIBRARIES:
            return frame
        frame = frame.f_back
    return None


def _package_of(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name.partition(".")[0] if isinstance(name, str) else ""
