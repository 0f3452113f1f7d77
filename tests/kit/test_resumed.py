"""Bodies that a flow continues where they end, on real sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

import anyio
import httpx
import pytest

import flexmw
from flexmw.kit.effects import Emit, Flow, Follow, Resume, Send, Skip, Sleep
from flexmw.testing import HostileServer
from flexmw.testing.hostile import Fault, Received
from tests.clients.wires import WIRES, Wire

BODY = bytes(range(256)) * 2

pytestmark = pytest.mark.anyio


class Piece(Fault):
    """A part of the body, cut at an offset."""

    def __init__(self, start: int, end: int | None, how: Literal["fin", "rst"] = "fin") -> None:
        self.start, self.stop, self.how = start, end, how

    def run(self, exchange: Any) -> None:
        exchange.execute()
        exchange.start(200, (("content-type", "application/octet-stream"),), None)
        exchange.send(BODY[self.start : self.stop])
        if self.stop is None:
            exchange.end()
        else:
            exchange.close(self.how)


class Cuts:
    """The script of a server: each response is cut at the next offset, and the last one is whole."""

    def __init__(self, *ends: int, how: Literal["fin", "rst"] = "fin") -> None:
        self.ends, self.how = list(ends), how

    def __call__(self, request: Received) -> Fault:
        return Piece(int(request.header("x-from") or 0), self.ends.pop(0) if self.ends else None, self.how)


class Continue:
    """A component that asks for the rest of a body that broke."""

    def __init__(self, wait: float = 0.0) -> None:
        self.size = 0
        self.wait = wait
        self.ends: list[Exception | None] = []
        self.waiting = threading.Event()

    def flow(self, request: Any) -> Flow:
        response = yield Send(request)
        return (yield Resume(response, lambda error: self.again(request, error), self.tap))

    def tap(self, chunk: bytes) -> None:
        self.size += len(chunk)

    def again(self, request: Any, error: Exception | None) -> Flow | None:
        self.ends.append(error)
        return None if error is None else self.rest(request)

    def rest(self, request: Any) -> Flow:
        yield Emit("acme.cut", {"at": self.size})
        self.waiting.set()
        yield Sleep(self.wait)
        request.headers["x-from"] = str(self.size)
        return (yield Send(request))


class Around:
    """A component that keeps what it sees."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.ends: list[Any] = []
        self.size = 0
        self.sends = 0

    def flow(self, request: Any) -> Flow:
        self.sends += 1
        response = yield Send(request, lambda event, details: self.events.append(event))
        return (yield Follow(response, self.ends.append, self.tap))

    def tap(self, chunk: bytes) -> None:
        self.size += len(chunk)


@pytest.mark.parametrize("wire", WIRES, ids=str)
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_body_goes_on_after_each_cut_and_is_equal_byte_for_byte(wire: Wire, how: Literal["fin", "rst"]) -> None:
    outer, component, inner = Around(), Continue(), Around()
    with HostileServer(Cuts(7, 7, 300, how=how)) as server:
        (response,) = wire.call("GET", server.url, outer, component, inner)
    assert response.content == BODY
    assert response.num_bytes_downloaded == len(BODY)
    assert (outer.size, outer.ends, outer.sends) == (len(BODY), [None], 1)
    assert outer.events.count("acme.cut") == 3
    assert (inner.sends, len(inner.ends)) == (4, 4)
    assert [type(end).__name__ for end in inner.ends][-1] == "NoneType"
    assert component.ends[-1] is None


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_a_pool_of_one_connection_is_enough(wire: Wire) -> None:
    limits = {"limits": wire.library.Limits(max_connections=1)}
    with HostileServer(Cuts(7, 300)) as server:
        responses = wire.call("GET", server.url, Continue(), client=limits, times=2, headers={"x-from": "0"})
    assert [response.content for response in responses] == [BODY, BODY]


class Refused(Continue):
    def rest(self, request: Any) -> Flow:
        yield Emit("acme.lost", {})
        raise self.ends[-1] or AssertionError


@pytest.mark.parametrize("wire", WIRES, ids=str)
@pytest.mark.parametrize("component", [Refused, Around])
def test_a_body_that_is_not_continued_breaks_as_it_did(wire: Wire, component: Callable[[], Any]) -> None:
    with HostileServer(Cuts(7)) as server:
        (error,) = wire.call("GET", server.url, component())
    assert type(error) is wire.library.RemoteProtocolError
    assert "incomplete chunked read" in str(error)
    assert server.executions == 1


def test_a_caller_that_leaves_the_loop_gets_no_further_request() -> None:
    component = Continue()
    with (
        HostileServer(Cuts(7)) as server,
        flexmw.wrap_client(httpx.Client(trust_env=False), component) as client,
        client.stream("GET", server.url) as response,
    ):
        for _ in response.iter_raw():
            break
    assert (server.executions, component.ends) == (1, [])


def test_a_body_that_is_closed_while_it_is_continued_sends_nothing_more() -> None:
    component = Continue(wait=0.3)
    with (
        HostileServer(Cuts(7)) as server,
        flexmw.wrap_client(httpx.Client(trust_env=False), component) as client,
        client.stream("GET", server.url) as response,
    ):

        def close() -> None:
            component.waiting.wait(5.0)
            response.close()

        closing = threading.Thread(target=close)
        closing.start()
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            list(response.iter_raw())
        closing.join()
    assert server.executions == 1


async def test_a_task_that_is_cancelled_while_a_body_is_continued_sends_nothing_more() -> None:
    component = Continue(wait=30.0)
    with HostileServer(Cuts(7)) as server:
        async with flexmw.wrap_client(httpx.AsyncClient(trust_env=False), component) as client:
            async with anyio.create_task_group() as tasks, client.stream("GET", server.url) as response:
                tasks.start_soon(when_waiting, component, tasks.cancel_scope.cancel)
                async for _ in response.aiter_raw():
                    pass
            assert tasks.cancel_scope.cancel_called
    assert server.executions == 1


async def when_waiting(component: Continue, function: Callable[[], Any]) -> None:
    await anyio.to_thread.run_sync(component.waiting.wait, 5.0)
    result = function()
    if result is not None:
        await result


async def test_a_body_that_another_task_closes_while_it_is_continued_sends_nothing_more() -> None:
    component = Continue(wait=0.3)
    with HostileServer(Cuts(7)) as server:
        async with (
            flexmw.wrap_client(httpx.AsyncClient(trust_env=False), component) as client,
            client.stream("GET", server.url) as response,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(when_waiting, component, response.aclose)
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
                async for _ in response.aiter_raw():
                    pass
    assert server.executions == 1


class SkipSome:
    """A component that drops the beginning of a body."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.dropped = b""
        self.result = -1

    def flow(self, request: Any) -> Flow:
        response = yield Send(request)
        self.result = yield Skip(response, self.size, self.tap)
        return response

    def tap(self, chunk: bytes) -> None:
        self.dropped += chunk


@pytest.mark.parametrize("wire", WIRES, ids=str)
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
def test_the_beginning_of_a_body_is_skipped(wire: Wire, size: int) -> None:
    component = SkipSome(size)
    with HostileServer(Cuts()) as server:
        (response,) = wire.call("GET", server.url, component)
    assert response.content == BODY[size:]
    assert component.dropped == BODY[:size]
    assert component.result == min(size, 512)


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_what_breaks_a_body_while_it_is_skipped_is_raised(wire: Wire) -> None:
    with HostileServer(Cuts(9)) as server:
        (error,) = wire.call("GET", server.url, SkipSome(100))
    assert type(error) is wire.library.RemoteProtocolError


def test_a_body_in_memory_is_not_continued() -> None:
    component = Continue()
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=BODY))
    with flexmw.wrap_client(httpx.Client(transport=transport), component) as client:
        assert client.get("https://api.test/").content == BODY
    assert component.ends == []
