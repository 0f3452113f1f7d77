"""Only the client library's own transport errors say something about the transport; any other error passes at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import httpx2
import pytest

import flexmw
from flexmw.testing import FakeClock, HostileServer
from tests.clients.wires import WIRES, Wire
from tests.retry.test_deadline import Drops

both = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


class SoftTimeLimitExceeded(Exception):
    """As Celery raises it into a task, out of a signal handler."""


@contextmanager
def time_limit(seconds: float, error: type[BaseException]) -> Iterator[None]:
    def end(*_: Any) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals need the main thread")
@both
@pytest.mark.parametrize("fault", ["hang", "draining"])
def test_a_time_limit_that_is_raised_into_a_call_ends_it(library: Any, fault: str) -> None:
    with HostileServer([Drops() if fault == "draining" else fault]) as server:
        client = flexmw.wrap_client(library.Client(trust_env=False, timeout=20.0))
        with client, time_limit(0.5, SoftTimeLimitExceeded), pytest.raises(SoftTimeLimitExceeded) as caught:
            client.get(server.url)
        assert len(server.requests) <= 1
    assert not hasattr(caught.value, "flexmw")


@pytest.mark.parametrize("wire", WIRES, ids=str)
@pytest.mark.parametrize("error", [AssertionError("unexpected call"), TypeError("bug"), KeyError("bug")], ids=repr)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_error_of_a_mock_or_a_bug_passes_at_the_first_call(wire: Wire, error: Exception, method: str) -> None:
    calls: list[Any] = []

    def fail(request: Any) -> Any:
        calls.append(request)
        raise error

    clock = FakeClock()
    options = {"transport": wire.library.MockTransport(fail)}
    [result] = wire.call(method, "http://test", flexmw.Retry(clock=clock), clock=clock, client=options)
    assert (result, len(calls), clock.slept) == (error, 1, [])
    assert not hasattr(result, "flexmw")


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_a_kept_connection_of_a_closed_event_loop_is_replaced(wire: Wire) -> None:
    calls: list[Any] = []

    def answer(request: Any) -> Any:
        calls.append(request)
        if len(calls) == 1:
            raise RuntimeError("Event loop is closed")
        return wire.library.Response(200)

    clock = FakeClock()
    options = {"transport": wire.library.MockTransport(answer)}
    [result] = wire.call("GET", "http://test", flexmw.Retry(clock=clock), clock=clock, client=options)
    assert (result.status_code, len(calls)) == (200, 2)
