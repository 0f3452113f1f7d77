"""Fault-injecting HTTP server: it misbehaves on request, and counts how often the work was done.

A lost response, then a refusal:

>>> import httpx
>>> from flexmw.testing import HostileServer
>>> with HostileServer(["rst", "503:seconds=2"]) as server, httpx.Client(base_url=server.url) as client:
...     try:
...         client.post("/v1/chat/completions", json={"model": "m"})
...     except httpx.ReadError:
...         print("lost, after", server.executions, "execution")
...     refused = client.post("/v1/chat/completions", json={"model": "m"})
...     good = client.post("/v1/chat/completions", json={"model": "m"})
lost, after 1 execution
>>> refused.status_code, refused.headers["retry-after"], good.json()["id"]
(503, '2', 'chatcmpl-2')
>>> [request.header("content-type") for request in server.executed]
['application/json', 'application/json']

An **execution** is a request that was read to its end and not refused. A request that was cut short, a ``CONNECT``, a
429, and a 503 or 529 with Retry-After, count none. A 500, a 503 without Retry-After and every lost response count one,
because the client cannot know better. ``Response(500, executes=False)`` counts none.

The faults by name. Each is a frozen dataclass of this package with options of its own; ``E`` is its executions:

=======================  =  =========================================================  ==========================
name                     E  what happens                                               what a plain client sees
=======================  =  =========================================================  ==========================
``rst-on-connect``       0  accepted, then reset                                       ConnectError, ReadError
``handshake-hang``       0  accepted, then silence, before any TLS                     ConnectTimeout (https)
``plain-text``           0  a TLS client meets a port without TLS                      ConnectError (https)
``proxy-407``            0  a proxy wants credentials, for a ``CONNECT`` too           ProxyError (https), 407
``rst-unread``           0  reset with the body unread                                 one of three, see below
``rst-reading``          0  reset with half of the body read                           one of three, see below
``refused-stream``       0  HTTP/2 RST_STREAM 7, REFUSED_STREAM                        RemoteProtocolError
``goaway``               0  HTTP/2 GOAWAY that does not cover the request              see :class:`GoAway`
``rst``, ``fin``         1  the response is lost: by a reset, by an orderly end        ReadError, RemoteProtocolError
``hang``                 1  the response never comes                                   ReadTimeout
``cut-head``             1  the end comes within the headers                           RemoteProtocolError
``garbage``              1  the response is not HTTP                                   RemoteProtocolError
``cut-body``             1  the end comes within the body; ``cut-chunk``: chunked      RemoteProtocolError
``rst-body``             1  a reset within the body                                    ReadError
``stall-body``           1  half of the body, then silence                             ReadTimeout
``slow-body``            1  a good response in drops: no read timeout ever fires       200
``slow-error``           1  a 503 in drops                                             503
``big-error``            1  a 500 with a megabyte of body                              500
``reset-stream``         1  HTTP/2 RST_STREAM 2, INTERNAL_ERROR                        RemoteProtocolError
``goaway-late``          1  HTTP/2 GOAWAY that covers the request, and no response     RemoteProtocolError
``stale``                1  a good response, then the kept connection is closed        200
``stale-race``           1  the same, when the next request is already under way       200, then ReadError
=======================  =  =========================================================  ==========================

A reset that meets a client which is still writing shows as ReadError, WriteError or RemoteProtocolError, run by run.
A port that refuses connections is :func:`closed_port`, or ``server.refusing()`` for a while. Every status is a name
too: ``"503"``, ``"429:seconds=2"``, ``"429:date-skewed"``, ``"500:should-not-retry"``. The word after the colon is a
key of :data:`WAITS`.

The good response is JSON that the SDK behind the path can parse (``/v1/chat/completions``, ``/v1/messages``,
``/v1/responses``, ``/v1/embeddings``, ``/v1/models``, ``/v2/chat``, ``:generateContent``); the first two respond with
server-sent events if the body contains ``"stream": true``; every other path gets ``{"ok": true}``. An
``Idempotency-Key`` is ignored, as most servers ignore it, unless ``dedup=True``.

As a proxy it accepts a ``CONNECT`` and speaks TLS as the requested host. The script serves the request inside like
every other request, and ``server.client_context()`` trusts it.

A fault of your own reads the ``share`` of the body that it declares, and then does anything:

>>> from dataclasses import dataclass
>>> from flexmw.testing.hostile import Exchange, Fault, Response
>>> @dataclass(frozen=True)
... class BilledTwice(Fault):
...     def run(self, exchange: Exchange) -> None:
...         exchange.execute()
...         Response().run(exchange)
>>> with HostileServer(BilledTwice()) as server, httpx.Client() as client:
...     client.get(server.url).status_code, server.executions
(200, 2)

Public: the names in ``__all__``. The modules of this package are private.
"""

from __future__ import annotations

import warnings
from typing import Any

from flexmw.testing.hostile.exchange import Exchange
from flexmw.testing.hostile.faults import (
    FAULTS,
    Cut,
    CutHead,
    Drip,
    Drop,
    Garbage,
    GoAway,
    Hang,
    PlainText,
    ResetConnection,
    ResetStream,
    Silence,
    Stale,
    Stall,
    fault,
)
from flexmw.testing.hostile.ports import closed_port
from flexmw.testing.hostile.received import Received
from flexmw.testing.hostile.response import ConnectionFault, Fault, Response
from flexmw.testing.hostile.server import HostileServer
from flexmw.testing.hostile.waits import WAITS
from flexmw.testing.hostile.wire import Gone, Wire

__all__ = [
    "FAULTS",
    "WAITS",
    "ConnectionFault",
    "Cut",
    "CutHead",
    "Drip",
    "Drop",
    "Exchange",
    "Fault",
    "Garbage",
    "GoAway",
    "Gone",
    "Hang",
    "HostileServer",
    "PlainText",
    "Received",
    "ResetConnection",
    "ResetStream",
    "Response",
    "Silence",
    "Stale",
    "Stall",
    "Wire",
    "closed_port",
    "fault",
]


def __getattr__(name: str) -> Any:
    if name != "Answer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.Answer is now {__name__}.Response", DeprecationWarning, stacklevel=2)
    return Response
