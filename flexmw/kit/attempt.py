"""Copies of a request for single attempts, and the observation of what a transport reports of them."""

from __future__ import annotations

from typing import Any, Final

from flexmw.kit.effects import Observer, head_leaves

__all__ = ["copy_request", "observed", "observed_async"]

_LAST: Final = "http11.send_request_headers.started"
"""From here on, over HTTP/1.1, only the failure of this very step matters. (Over HTTP/2 the pool may send the request
again on another stream.)"""
_LAST_FAILED: Final = "http11.send_request_headers.failed"


def copy_request(request: Any, **extensions: Any) -> Any:
    """The same request with its own headers and extensions, so that an attempt can change them."""
    twin = _with_extensions(request, extensions)
    twin.headers = type(request.headers)(request.headers)
    return twin


def _with_extensions(request: Any, extensions: dict[str, Any]) -> Any:
    """Copy the instance dictionary, which is the whole state of a request in both libraries. A constructor would parse
    everything again, and ``copy.copy`` drops the stream."""
    twin = object.__new__(type(request))
    twin.__dict__.update(request.__dict__)
    twin.extensions = {**request.extensions, **extensions}
    return twin


def observed(request: Any, observe: Observer | None) -> Any:
    if observe is None:
        return request
    own = request.extensions.get("trace")
    known = False

    def trace(event: str, details: dict[str, Any]) -> None:
        nonlocal known
        if own is not None:
            own(event, details)
        if known:
            if event == _LAST_FAILED:
                observe(event, details)
            return
        if event == _LAST and head_leaves(event, details):
            known = True
            if own is None:
                twin.extensions.pop("trace", None)  # the transport need not report the rest
        observe(event, details)

    twin = _with_extensions(request, {"trace": trace})
    return twin


def observed_async(request: Any, observe: Observer | None) -> Any:
    if observe is None:
        return request
    own = request.extensions.get("trace")
    known = False

    async def trace(event: str, details: dict[str, Any]) -> None:
        nonlocal known
        if own is not None:
            await own(event, details)
        if known:
            if event == _LAST_FAILED:
                observe(event, details)
            return
        if event == _LAST and head_leaves(event, details):
            known = True
            if own is None:
                twin.extensions.pop("trace", None)
        observe(event, details)

    twin = _with_extensions(request, {"trace": trace})
    return twin
