"""Transports for httpx: the same components, run in a thread or in a task.

>>> import httpx, flexmw
>>> client = httpx.Client(transport=flexmw.httpx.Transport(flexmw.Retry()))
>>> client.close()
"""

from __future__ import annotations

import httpx

from flexmw.kit.bodies import AsyncObservedBody, ObservedBody
from flexmw.kit.resumed import AsyncResumedBody, ResumedBody
from flexmw.kit.transport_async import AsyncTransportBase
from flexmw.kit.transport_blocking import SyncTransportBase

__all__ = ["AsyncStream", "AsyncTransport", "Stream", "Transport"]


class Stream(ObservedBody, httpx.SyncByteStream):
    """A response body that reports how it ends."""


class AsyncStream(AsyncObservedBody, httpx.AsyncByteStream):
    """A response body that reports how it ends."""


class ResumedStream(ResumedBody, httpx.SyncByteStream):
    """A response body that a flow continues where it ends."""


class AsyncResumedStream(AsyncResumedBody, httpx.AsyncByteStream):
    """A response body that a flow continues where it ends."""


class Transport(SyncTransportBase[httpx.Request, httpx.Response], httpx.BaseTransport):
    """``Transport(*components, transport=None)``: components, outermost first, around a blocking transport
    (``httpx.HTTPTransport()`` if none is given)."""

    _default = httpx.HTTPTransport
    _followed = Stream
    _resumed = ResumedStream


class AsyncTransport(AsyncTransportBase[httpx.Request, httpx.Response], httpx.AsyncBaseTransport):
    """The same around an async transport (``httpx.AsyncHTTPTransport()`` if none is given)."""

    _default = httpx.AsyncHTTPTransport
    _followed = AsyncStream
    _resumed = AsyncResumedStream
