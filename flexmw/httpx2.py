"""Transports for httpx2: the same components, run in a thread or in a task.

>>> import httpx2, flexmw
>>> client = httpx2.Client(transport=flexmw.httpx2.Transport(flexmw.Retry()))
>>> client.close()
"""

from __future__ import annotations

import httpx2

from flexmw.kit.bodies import AsyncObservedBody, ObservedBody
from flexmw.kit.resumed import AsyncResumedBody, ResumedBody
from flexmw.kit.transport_async import AsyncTransportBase
from flexmw.kit.transport_blocking import SyncTransportBase

__all__ = ["AsyncStream", "AsyncTransport", "Stream", "Transport"]


class Stream(ObservedBody, httpx2.SyncByteStream):
    """A response body that reports how it ends."""


class AsyncStream(AsyncObservedBody, httpx2.AsyncByteStream):
    """A response body that reports how it ends."""


class ResumedStream(ResumedBody, httpx2.SyncByteStream):
    """A response body that a flow continues where it ends."""


class AsyncResumedStream(AsyncResumedBody, httpx2.AsyncByteStream):
    """A response body that a flow continues where it ends."""


class Transport(SyncTransportBase[httpx2.Request, httpx2.Response], httpx2.BaseTransport):
    """``Transport(*components, transport=None)``: components, outermost first, around a blocking transport
    (``httpx2.HTTPTransport()`` if none is given)."""

    _default = httpx2.HTTPTransport
    _followed = Stream
    _resumed = ResumedStream


class AsyncTransport(AsyncTransportBase[httpx2.Request, httpx2.Response], httpx2.AsyncBaseTransport):
    """The same around an async transport (``httpx2.AsyncHTTPTransport()`` if none is given)."""

    _default = httpx2.AsyncHTTPTransport
    _followed = AsyncStream
    _resumed = AsyncResumedStream
