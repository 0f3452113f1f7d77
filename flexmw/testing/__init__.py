"""Test tools: a server that misbehaves on request, a fake clock, and conformance checks for components,
stores and HTTP APIs.

>>> import httpx
>>> from flexmw.testing import HostileServer
>>> with HostileServer(["503", "200"]) as server, httpx.Client() as client:
...     [client.post(server.url, json={}).status_code for _ in range(2)]
[503, 200]

Public: the names in ``__all__``, and the module ``conformance``. The other modules of this package are private.
"""

from __future__ import annotations

from flexmw.testing.app import check_app
from flexmw.testing.assertions import Executions, assert_error, assert_outcome
from flexmw.testing.clock import FakeClock
from flexmw.testing.flow import check_flow
from flexmw.testing.hostile import HostileServer
from flexmw.testing.isolation import fake_clock, memory_stores, reset, use_memory_stores
from flexmw.testing.played import Played, play
from flexmw.testing.semconv import assert_semconv
from flexmw.testing.stores import check_store

__all__ = [
    "Executions",
    "FakeClock",
    "HostileServer",
    "Played",
    "assert_error",
    "assert_outcome",
    "assert_semconv",
    "check_app",
    "check_flow",
    "check_store",
    "fake_clock",
    "memory_stores",
    "play",
    "reset",
    "use_memory_stores",
]
