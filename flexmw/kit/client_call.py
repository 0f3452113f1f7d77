"""The call of a client that a transport works for, as httpx and httpx2 keep it on the stack.

A transport sees single requests. Redirects and authentication make several requests of one call of the user. No
argument of the transport says which requests belong together: the ``Request`` may be the same object in two calls, and
different objects in one call. Both libraries run the authentication flow of a call in one frame for as long as the call
lasts; that flow identifies the call. A transport that is called without a client has no such frame.

A subclass of a client may override a method that sends requests, and may call that of the library several times within
one call of the user. The outermost frame of such a method is the call.

Checked with httpx 0.28 and httpx2 2.16, on Python 3.11 to 3.15.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, Final

__all__ = ["current_call", "has_direct_client", "is_streamed", "keep_cookies"]

_FRAME: Final = "_send_handling_auth"
_SEND: Final = "send"
_LIBRARIES: Final = ("httpx", "httpx2")
_SENDING: Final = (_SEND, "request", "stream", "get", "options", "head", "post", "put", "patch", "delete")
"""The methods of a client that send requests."""
_SEND_ONE: Final = "_send_single_request"
_METHODS: Final = ("handle_request", "handle_async_request")
_OWN: Final = (*_LIBRARIES, "flexmw")

_MARK: Final = "flexmw: call"
"""A name in the local variables of a frame. No variable of a function can have it."""


class _Call:
    """Identifies the call of a method that overrides one of a client.

    The frame of the method holds the object and ends with the call. Frames allow no weak references, and a later frame
    may have the same ``id``. The request of the call was taken for the call before: a class that overrides ``request``
    has another one for each repetition, and a program may send its request in two calls.
    """

    __slots__ = ("__weakref__",)


def current_call() -> Any:
    """An object that lives for at least as long as the innermost call of a client on the stack; ``None`` without a
    client. Weak references to it are possible, except to an authentication flow whose class forbids them.

    A client reads the body in ``send``, when the authentication flow has ended. Only a class with methods of its own
    can send the request again after that.
    """
    frame = _frame((_FRAME, _SEND))
    if frame is None:
        return None
    outermost = _outermost_override(frame)
    if outermost is None:
        return frame.f_locals.get("auth_flow") if frame.f_code.co_name == _FRAME else None
    variables = outermost.f_locals
    call = variables.get(_MARK)
    if call is None:
        variables[_MARK] = call = _Call()
    return call


def _outermost_override(frame: FrameType) -> FrameType | None:
    """Return the outermost frame of a method that overrides one of the client, whose method runs in ``frame``."""
    client = frame.f_locals.get("self")
    overrides = set(_overrides(type(client)))
    outermost, caller = None, frame.f_back if overrides else None
    while caller is not None:
        if caller.f_code in overrides and _first_argument(caller) is client:
            outermost = caller
        caller = caller.f_back
    return outermost


def _overrides(cls: type) -> Iterator[CodeType]:
    """Yield the code of each method that sends requests, and that a class of another package has overridden. A
    decorator (tenacity's) may have replaced the method: then it is the code of the decorator's function."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] not in _LIBRARIES:
            for name in _SENDING:
                code = getattr(vars(base).get(name), "__code__", None)
                if isinstance(code, CodeType):
                    yield code


def _first_argument(frame: FrameType) -> object:
    """Return the first positional argument of a function; ``None`` if it has none."""
    names = frame.f_code.co_varnames
    first = frame.f_locals.get(names[0]) if names else None
    if frame.f_code.co_argcount == 0 and isinstance(first, tuple):  # `def wrapper(*args)`
        return first[0] if first else None
    return first


def is_streamed() -> bool:
    """Whether the caller reads the body of the response piece by piece.

    A client's ``send(stream=False)`` reads the body whole before the caller sees the response. Without a client the
    result is true, because only the caller reads the body.
    """
    frame = _frame((_SEND,))
    return frame is None or bool(frame.f_locals.get("stream", True))


def has_direct_client() -> bool:
    """Whether a client calls the transport that works for it, and nothing in between can send a request again: the
    class of the client overrides no method that sends requests, and no transport of another package is in between."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        package = _package_of(frame)
        if frame.f_code.co_name == _SEND_ONE and package in _LIBRARIES:
            return next(_overrides(type(frame.f_locals.get("self"))), None) is None
        if frame.f_code.co_name in _METHODS and package not in _OWN:
            return False
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
