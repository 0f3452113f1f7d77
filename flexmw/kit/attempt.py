"""Copies of a request for single attempts, and the observation of what a transport reports of them."""

from __future__ import annotations

from typing import Any, Final

from flexmw.kit.effects import Observer

__all__ = [
    "HEAD_FAILED",
    "HEAD_STARTED",
    "copy_request",
    "observed",
    "observed_async",
    "unobserve",
    "with_own_extensions",
]

HEAD_STARTED: Final = "http11.send_request_headers.started"
"""From here on, over HTTP/1.1, only the failure of this very step matters. (Over HTTP/2 the pool may send the request
again on another stream.)"""
HEAD_FAILED: Final = "http11.send_request_headers.failed"


class _OwnExtensions(dict[str, Any]):
    """The extensions of a copy. The caller's request does not hold them, so an observer may be put into them."""

    __slots__ = ()


def copy_request(request: Any, **extensions: Any) -> Any:
    """A copy of a request with headers and extensions of its own, which an attempt can change."""
    twin = _with_new_extensions(request)
    headers = twin.headers
    twin.headers = type(headers)(headers)
    if extensions:
        twin.extensions.update(extensions)
    return twin


def with_own_extensions(request: Any) -> Any:
    """The request, or a copy, into whose extensions an observer may be put."""
    return request if type(request.extensions) is _OwnExtensions else _with_new_extensions(request)


def _with_new_extensions(request: Any) -> Any:
    """Copy the instance dictionary, which is the whole state of a request in both libraries. A constructor would parse
    everything again, and ``copy.copy`` drops the stream."""
    twin = object.__new__(request.__class__)
    twin.__dict__ = state = request.__dict__.copy()
    state["extensions"] = _OwnExtensions(request.extensions)
    return twin


def observed(request: Any, observe: Observer, own: Any) -> Any:
    """The request whose events a blocking transport reports to ``observe``: a copy, unless it is one already.

    After the send, :func:`unobserve` the extensions of the request that was given: an inner component may send the
    request again.

    :param own: the ``trace`` extension of the request; ``None`` where it has none.
    """
    known = False

    def trace(event: str, details: dict[str, Any]) -> None:
        nonlocal known
        if own is not None:
            own(event, details)
        if known:
            if event == HEAD_FAILED:
                observe(event, details)
            return
        # The request of a CONNECT asks a proxy for a tunnel: see is_connect(), whose call each request would pay for.
        if event == HEAD_STARTED and getattr(details.get("request"), "method", b"") != b"CONNECT":
            known = True
            if own is None:
                extensions.pop("trace", None)  # the transport need not report the rest
        observe(event, details)

    extensions = request.extensions
    if type(extensions) is not _OwnExtensions:
        request = _with_new_extensions(request)
        extensions = request.extensions
    extensions["trace"] = trace
    return request


def observed_async(request: Any, observe: Observer, own: Any) -> Any:
    """As :func:`observed`, for an async transport."""
    known = False

    async def trace(event: str, details: dict[str, Any]) -> None:
        nonlocal known
        if own is not None:
            await own(event, details)
        if known:
            if event == HEAD_FAILED:
                observe(event, details)
            return
        # The request of a CONNECT asks a proxy for a tunnel: see is_connect(), whose call each request would pay for.
        if event == HEAD_STARTED and getattr(details.get("request"), "method", b"") != b"CONNECT":
            known = True
            if own is None:
                extensions.pop("trace", None)
        observe(event, details)

    extensions = request.extensions
    if type(extensions) is not _OwnExtensions:
        request = _with_new_extensions(request)
        extensions = request.extensions
    extensions["trace"] = trace
    return request


def unobserve(extensions: dict[str, Any], own: Any) -> None:
    """Take an observer out of the extensions of a request.

    :param own: the ``trace`` extension that the request had before; ``None`` where it had none.
    """
    if own is None:
        extensions.pop("trace", None)
    else:
        extensions["trace"] = own
