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
from inspect import isasyncgenfunction, isgeneratorfunction
from types import CellType, CodeType, FrameType
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
_MAX_DECORATORS: Final = 8
"""The largest number of decorators of a method that are looked through."""

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
    client, and where a client's own ``send`` calls that of the library in a task or a thread, because the stack does
    not show the call there. Weak references to the object are possible, except to an authentication flow whose class
    forbids them.

    A client reads the body in ``send``, when the authentication flow has ended. Only a class with methods of its own
    can send the request again after that.
    """
    frame = _frame((_FRAME, _SEND))
    if frame is None:
        return None
    methods = tuple(_overrides(type(frame.f_locals.get("self"))))
    outermost = _outermost_frame(methods, frame) if methods else None
    if outermost is None:
        if any(name == _SEND for name, _ in methods):  # the method calls that of the library in a task or a thread
            return None
        return frame.f_locals.get("auth_flow") if frame.f_code.co_name == _FRAME else None
    variables = outermost.f_locals
    call = variables.get(_MARK)
    if call is None:
        variables[_MARK] = call = _Call()
    return call


def _outermost_frame(methods: tuple[tuple[str, Any], ...], frame: FrameType) -> FrameType | None:
    """Return the outermost frame of the methods of the client, whose own method runs in ``frame``."""
    client = frame.f_locals.get("self")
    functions: dict[CodeType, list[Any]] = {}
    for _, method in methods:
        functions.setdefault(method.__code__, []).append(method)
    outermost, caller = None, frame.f_back
    while caller is not None:
        for function in functions.get(caller.f_code, ()):
            if _first_argument(caller) is client and _is_frame_of(caller, function):
                outermost = caller
        caller = caller.f_back
    return outermost


def _overrides(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the name and the function of each method that sends requests, and that a class of another package has
    overridden. A decorator (tenacity's) may have replaced the method: then also the function that was decorated, which
    alone is on the stack where the decorator is that of a context manager.

    A method that is a generator makes as many calls as a program wants: after a lost POST, a ``stream`` that polls for
    ever sent nothing any more."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] not in _LIBRARIES:
            for name in _SENDING:
                function = vars(base).get(name)
                if isgeneratorfunction(function) or isasyncgenfunction(function):
                    continue
                for _ in range(_MAX_DECORATORS):
                    if isinstance(getattr(function, "__code__", None), CodeType):
                        yield name, function
                    function = getattr(function, "__wrapped__", None)


def _is_frame_of(frame: FrameType, function: Any) -> bool:
    """Return whether a frame with the code of a function is one of this function. All functions that one decorator has
    made have the same code, and differ in the functions that they close over: the loop of a client's ``run`` was taken
    for one call of its ``request``, where both had the same decorator. Other values that they close over, such as a
    number of calls, may change at any time."""
    variables = frame.f_locals
    contents = map(_content_of, getattr(function, "__closure__", None) or ())
    pairs = zip(function.__code__.co_freevars, contents, strict=False)
    return all(variables.get(name) is content for name, content in pairs if callable(content))


def _content_of(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # the variable has no value
        return None


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
