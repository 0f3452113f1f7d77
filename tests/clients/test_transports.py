from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import anyio
import httpx
import httpx2
import pytest

import flexmw
from flexmw.errors import ConfigError
from flexmw.kit.clock import SYSTEM
from flexmw.kit.effects import Discard, Follow, Send, Sleep
from flexmw.kit.transport import DRAIN_BYTES, DRAIN_SECONDS, components_of, copy_request
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.hostile.response import Response
from tests.waiting import LONGEST_WAIT


@dataclass(frozen=True)
class Kind:
    """One of the four transports, used in one way from a coroutine."""

    library: ModuleType
    colour: str

    @property
    def sync(self) -> bool:
        return self.colour == "sync"

    @property
    def transport_class(self) -> Any:
        binding = getattr(flexmw, self.library.__name__)
        return binding.Transport if self.sync else binding.AsyncTransport

    @property
    def inner_class(self) -> Any:
        return self.library.HTTPTransport if self.sync else self.library.AsyncHTTPTransport

    def transport(self, *flows: Callable[[Any], Any], clock: Any = SYSTEM, **inner: Any) -> Any:
        return self.transport_class(*map(part, flows), transport=self.inner_class(**inner), clock=clock)

    def client(self, *flows: Callable[[Any], Any], clock: Any = SYSTEM, **inner: Any) -> Client:
        transport = self.transport(*flows, clock=clock, **inner)
        cls = self.library.Client if self.sync else self.library.AsyncClient
        return Client(self, cls(transport=transport, trust_env=False, timeout=LONGEST_WAIT))


class Client:
    """A client of any kind, behind one async interface; the blocking ones run in a thread."""

    def __init__(self, kind: Kind, client: Any) -> None:
        self.kind, self.client = kind, client

    async def __aenter__(self) -> Client:
        if self.kind.sync:
            self.client.__enter__()
        else:
            await self.client.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        if self.kind.sync:
            self.client.__exit__(*exc_info)
        else:
            await self.client.__aexit__(*exc_info)

    async def get(self, url: str, **options: Any) -> Any:
        if self.kind.sync:
            return await anyio.to_thread.run_sync(lambda: self.client.get(url, **options))
        return await self.client.get(url, **options)

    async def open(self, url: str, **options: Any) -> Any:
        """The answer, its body not read."""
        request = self.client.build_request("GET", url, **options)
        if self.kind.sync:
            return await anyio.to_thread.run_sync(lambda: self.client.send(request, stream=True))
        return await self.client.send(request, stream=True)

    async def close(self, response: Any) -> None:
        if self.kind.sync:
            response.close()
        else:
            await response.aclose()

    async def read(self, response: Any) -> bytes:
        body: bytes = response.read() if self.kind.sync else await response.aread()
        return body

    async def first_bytes(self, response: Any) -> bytes:
        chunk: bytes
        first = b""
        if self.kind.sync:
            for chunk in response.iter_raw():
                return chunk
        else:
            # Closed while it is read, so that no generator is left to the garbage collector.
            with contextlib.suppress(self.kind.library.TransportError, self.kind.library.StreamError, RuntimeError):
                async for chunk in response.aiter_raw():
                    first = chunk
                    await response.aclose()
            return first
        return b""


def part(flow: Callable[[Any], Any]) -> Any:
    return type("Part", (), {"flow": staticmethod(flow)})()


KINDS = [
    (Kind(library, colour), backend)
    for library in (httpx, httpx2)
    for colour, backend in (("sync", "asyncio"), ("async", "asyncio"), ("async", "trio"))
]
pytestmark = pytest.mark.anyio


def name(case: tuple[Kind, str]) -> str:
    kind, backend = case
    return f"{kind.library.__name__}-{'sync' if kind.sync else backend}"


@pytest.fixture(params=KINDS, ids=name)
def case(request: pytest.FixtureRequest) -> tuple[Kind, str]:
    """A transport and what its test's coroutine runs on: a blocking one needs no event loop."""
    found: tuple[Kind, str] = request.param
    return found


@pytest.fixture
def anyio_backend(case: tuple[Kind, str]) -> str:
    return case[1]


@pytest.fixture
def kind(case: tuple[Kind, str]) -> Kind:
    return case[0]


only_async = pytest.mark.parametrize("case", [case for case in KINDS if not case[0].sync], indirect=True, ids=name)
only_sync = pytest.mark.parametrize("case", [case for case in KINDS if case[0].sync], indirect=True, ids=name)


def plain(request: Any) -> Any:
    return (yield Send(request))


def second(request: Any) -> Any:
    yield Discard((yield Send(request)))
    return (yield Send(request))


# --- what a transport is ---------------------------------------------------------------------------------------------


async def test_a_transport_is_its_library_s_own_kind(kind: Kind) -> None:
    base = kind.library.BaseTransport if kind.sync else kind.library.AsyncBaseTransport
    transport = kind.transport_class(part(plain))
    assert isinstance(transport, base)
    assert isinstance(transport.wrapped, kind.inner_class)
    assert components_of(transport) == transport.components
    assert len(transport.components) == 1
    assert components_of(transport.wrapped) == ()
    await Client(kind, kind.library.Client() if kind.sync else kind.library.AsyncClient()).__aexit__()


@pytest.mark.parametrize("wrong", [object(), None, type(part(plain))], ids=["object", "none", "class"])
async def test_what_has_no_client_side_is_refused(kind: Kind, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"Transport\(\*components\) = .*: expected objects with a client side"):
        kind.transport_class(wrong)


async def test_a_repr_shows_the_components_and_the_inner_transport_but_no_secret(kind: Kind) -> None:
    @dataclass(frozen=True)
    class Paced:
        storage: str

        def flow(self, request: Any) -> Any:
            return (yield Send(request))

    shown = repr(kind.transport_class(Paced("redis://:hunter2@h"), transport="inner"))
    assert shown == f"{kind.transport_class.__name__}({Paced.__qualname__}(storage='redis://***@h'), transport='inner')"


async def test_entering_leaving_and_closing_are_forwarded_once(kind: Kind) -> None:
    seen: list[str] = []

    class Inner:
        def __enter__(self) -> None:
            seen.append("enter")

        def __exit__(self, *exc_info: Any) -> None:
            seen.append(f"exit {exc_info[0].__name__ if exc_info[0] else None}")

        def close(self) -> None:
            seen.append("close")

        async def __aenter__(self) -> None:
            seen.append("enter")

        async def __aexit__(self, *exc_info: Any) -> None:
            self.__exit__(*exc_info)

        async def aclose(self) -> None:
            seen.append("close")

    async def use(error: Exception | None = None) -> None:
        transport = kind.transport_class(transport=Inner())
        if kind.sync:
            with transport as entered:
                assert entered is transport
                if error:
                    raise error
        else:
            async with transport as entered:
                assert entered is transport
                if error:
                    raise error

    await use()
    with pytest.raises(KeyError):
        await use(KeyError())
    assert seen == ["enter", "exit None", "enter", "exit KeyError"]
    transport = kind.transport_class(transport=Inner())
    if kind.sync:
        transport.close()
    else:
        await transport.aclose()
    assert seen[4:] == ["close"]


# --- flows on the wire -----------------------------------------------------------------------------------------------


async def test_a_flow_sends_over_the_wire_and_sleeps_on_the_clock(kind: Kind) -> None:
    clock = FakeClock()

    def patient(request: Any) -> Any:
        request.headers["x-mark"] = "1"
        yield Sleep(34.0)
        return (yield Send(request))

    with HostileServer() as server:
        async with kind.client(patient, clock=clock) as client:
            assert (await client.get(server.url)).status_code == 200
        assert server.requests[0].header("x-mark") == "1"
    assert clock.slept == [34.0]


async def test_a_transport_error_is_thrown_into_the_flow_and_is_the_caller_s(kind: Kind) -> None:
    seen: list[BaseException] = []

    def watching(request: Any) -> Any:
        try:
            return (yield Send(request))
        except kind.library.TransportError as error:
            seen.append(error)
            raise

    with HostileServer("rst") as server:
        async with kind.client(watching) as client:
            with pytest.raises(kind.library.TransportError) as caught:
                await client.get(server.url)
    assert seen == [caught.value]


async def test_an_unknown_effect_is_a_clear_error_and_the_response_is_not_leaked(kind: Kind) -> None:
    def odd(request: Any) -> Any:
        yield Send(request)
        yield "what?"

    with HostileServer() as server:
        async with kind.client(odd, limits=kind.library.Limits(max_connections=1)) as client:
            for _ in range(2):
                with pytest.raises(ConfigError, match=r"flow\(\) = 'what\?': expected to yield flexmw\.Send"):
                    await client.get(server.url, timeout=2.0)
        assert server.connections == 1


@pytest.mark.parametrize("size", [0, 200, DRAIN_BYTES])
async def test_a_small_discarded_body_is_read_and_its_connection_used_again(kind: Kind, size: int) -> None:
    with HostileServer([Response(503, body=b"x" * size), "ok"]) as server:
        async with kind.client(second) as client:
            assert (await client.get(server.url)).status_code == 200
        assert (server.connections, len(server.requests)) == (1, 2)


async def test_a_big_discarded_body_is_closed_and_the_pool_stays_usable(kind: Kind) -> None:
    with HostileServer(["big-error", "ok", "ok"]) as server:
        async with kind.client(second, limits=kind.library.Limits(max_connections=1)) as client:
            assert (await client.get(server.url)).status_code == 200
            assert (await client.get(server.url)).status_code == 200
        assert (server.connections, len(server.requests)) == (2, 4)
    gc.collect()


@pytest.mark.parametrize("fault", ["cut-body", "rst-body"])
async def test_a_discarded_body_that_breaks_is_nobody_s_error(kind: Kind, fault: str) -> None:
    with HostileServer([fault, "ok"]) as server:
        async with kind.client(second, limits=kind.library.Limits(max_connections=1)) as client:
            assert (await client.get(server.url)).status_code == 200
        assert server.connections == 2


class Body:
    """A body that takes its time: so many seconds of the clock for each chunk. Of both colours."""

    def __init__(self, clock: FakeClock, seconds: float, chunk: bytes, error: BaseException | None = None) -> None:
        self.clock, self.seconds, self.chunk, self.error = clock, seconds, chunk, error
        self.read = self.closed = 0

    def _next(self) -> bytes:
        if self.closed:
            raise OSError("closed")
        self.read += 1
        self.clock.advance(self.seconds)
        if self.error is not None:
            raise self.error
        return self.chunk

    def __iter__(self) -> Any:
        for _ in range(1000):
            yield self._next()

    async def __aiter__(self) -> Any:
        for _ in range(1000):
            yield self._next()

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


def stub(body: Any) -> Any:
    """An inner transport that answers with this body."""

    class Response:
        status_code, stream = 503, body

        def close(self) -> None:
            body.close()

        async def aclose(self) -> None:
            await body.aclose()

    class Inner:
        def handle_request(self, request: Any) -> Any:
            return Response()

        async def handle_async_request(self, request: Any) -> Any:
            return Response()

    return Inner()


async def handle(transport: Any, request: Any) -> Any:
    if hasattr(transport, "handle_request"):
        return transport.handle_request(request)
    return await transport.handle_async_request(request)


@only_sync
@pytest.mark.parametrize(
    ("seconds", "chunk", "read"),
    [
        (DRAIN_SECONDS / 4, b"x", 5),
        (DRAIN_SECONDS * 2, b"x", 1),
        (0.0, b"x" * (DRAIN_BYTES // 4), 5),
        (0.0, b"x" * (DRAIN_BYTES + 1), 1),
    ],
)
async def test_a_blocking_drain_ends_at_64_kib_or_one_second_of_the_clock(
    kind: Kind, seconds: float, chunk: bytes, read: int
) -> None:
    clock = FakeClock()
    body = Body(clock, seconds, chunk)

    def discarding(request: Any) -> Any:
        response = yield Send(request)
        assert (yield Discard(response)) is None
        return response

    await handle(kind.transport_class(part(discarding), transport=stub(body), clock=clock), "request")
    assert (body.read, body.closed) == (read, 1)
    gc.collect()


@only_async
@pytest.mark.parametrize(("share", "read"), [(0.25, 5), (1.0, 2), (1.1, 1)])
async def test_an_async_drain_ends_at_64_kib(kind: Kind, share: float, read: int) -> None:
    body = Body(FakeClock(), 0.0, b"x" * int(DRAIN_BYTES * share))
    await handle(kind.transport_class(part(second), transport=stub(body)), "request")
    assert (body.read, body.closed > 0) == (read, True)


@only_async
async def test_an_async_drain_of_a_body_that_stalls_ends_after_a_second(kind: Kind) -> None:
    with HostileServer(["stall-body", "ok"]) as server:
        async with kind.client(second, limits=kind.library.Limits(max_connections=1)) as client:
            with anyio.fail_after(LONGEST_WAIT):
                assert (await client.get(server.url, timeout=None)).status_code == 200
        assert server.connections == 2


@pytest.mark.parametrize("error", [OSError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
async def test_a_discarded_response_is_closed_whatever_reading_it_does(kind: Kind, error: BaseException) -> None:
    body = Body(FakeClock(), 0.0, b"", error)
    transport = kind.transport_class(part(second), transport=stub(body))
    if isinstance(error, Exception):
        await handle(transport, "request")
    else:
        with pytest.raises(KeyboardInterrupt):
            await handle(transport, "request")
    assert body.closed > 0


async def test_an_error_of_closing_a_discarded_response_is_nobody_s_error(kind: Kind) -> None:
    class Stuck(Body):
        def close(self) -> None:
            raise OSError("stuck")

        async def aclose(self) -> None:
            raise OSError("stuck")

    answer = await handle(kind.transport_class(part(second), transport=stub(Stuck(FakeClock(), 2.0, b""))), "request")
    assert answer.status_code == 503


# --- following a body -------------------------------------------------------------------------------------------------


def following(ends: list[Any]) -> Callable[[Any], Any]:
    def flow(request: Any) -> Any:
        response = yield Send(request)
        assert (yield Follow(response, ends.append)) is response
        return response

    return flow


async def test_a_body_that_was_read_has_ended_well_once(kind: Kind) -> None:
    ends: list[Any] = []
    with HostileServer() as server:
        async with kind.client(following(ends)) as client:
            response = await client.get(server.url)
            assert response.content
            await client.close(response)
            await client.get(server.url)
        assert server.connections == 1
    assert ends == [None, None]


@pytest.mark.parametrize("fault", ["cut-body", "rst-body", "cut-chunk"])
async def test_a_body_that_breaks_ends_with_the_error_that_the_caller_gets(kind: Kind, fault: str) -> None:
    ends: list[Any] = []
    with HostileServer(fault) as server:
        async with kind.client(following(ends)) as client:
            with pytest.raises(kind.library.TransportError) as caught:
                await client.get(server.url)
    assert ends == [caught.value]


@pytest.mark.parametrize("begin", [False, True])
async def test_a_body_that_is_closed_early_says_so_once(kind: Kind, begin: bool) -> None:
    ends: list[Any] = []
    with HostileServer(Response(200, body=b"x" * 200_000)) as server:
        async with kind.client(following(ends), limits=kind.library.Limits(max_connections=1)) as client:
            for _ in range(2):
                response = await client.open(server.url, timeout=2.0)
                assert len(ends) % 2 == len(ends)
                if begin:
                    assert await client.first_bytes(response)
                await client.close(response)
                await client.close(response)
    assert [type(end) for end in ends] == [GeneratorExit, GeneratorExit]


async def test_a_body_whose_closing_fails_has_ended_all_the_same(kind: Kind) -> None:
    class Stuck(Body):
        def close(self) -> None:
            raise OSError("stuck")

        async def aclose(self) -> None:
            raise OSError("stuck")

    ends: list[Any] = []
    body = Stuck(FakeClock(), 0.0, b"x")
    response = await handle(kind.transport_class(part(following(ends)), transport=stub(body)), "request")
    with pytest.raises(OSError, match="stuck"):
        await Client(kind, None).close(response.stream)
    assert [type(end) for end in ends] == [GeneratorExit]


async def test_two_followers_of_one_body_are_both_called(kind: Kind) -> None:
    outer: list[Any] = []
    inner: list[Any] = []
    with HostileServer() as server:
        async with kind.client(following(outer), following(inner)) as client:
            await client.get(server.url)
    assert (outer, inner) == ([None], [None])


async def test_a_followed_body_is_a_stream_of_its_library(kind: Kind) -> None:
    streams: list[Any] = []

    def flow(request: Any) -> Any:
        response = yield Follow((yield Send(request)), lambda error: None)
        streams.append(response.stream)
        return response

    with HostileServer() as server:
        async with kind.client(flow) as client:
            await client.get(server.url)
    base = kind.library.SyncByteStream if kind.sync else kind.library.AsyncByteStream
    assert isinstance(streams[0], base)


def following_at_once(ends: list[Any]) -> Callable[[Any], Any]:
    def flow(request: Any) -> Any:
        return (yield Send(request, on_end=ends.append))

    return flow


@pytest.mark.parametrize("inner", [[], [plain]], ids=["alone", "around another"])
async def test_a_send_with_on_end_follows_the_response(kind: Kind, inner: list[Any]) -> None:
    ends: list[Any] = []
    with HostileServer(["ok", "cut-body"]) as server:
        async with kind.client(following_at_once(ends), *inner) as client:
            await client.get(server.url)
            assert ends == [None]
            with pytest.raises(kind.library.TransportError) as caught:
                await client.get(server.url)
    assert ends == [None, caught.value]


# --- components that are left out -------------------------------------------------------------------------------------


async def test_a_component_that_is_idle_is_left_out_of_the_call(kind: Kind) -> None:
    calls: list[str] = []

    class Sleepy:
        name, api = "acme.sleepy", 1
        idle = True

        def is_idle(self) -> bool:
            return self.idle

        def flow(self, request: Any) -> Any:
            calls.append("sleepy")
            return (yield Send(request))

    def outer(request: Any) -> Any:
        calls.append("outer")
        return (yield Send(request))

    sleepy = Sleepy()
    answer = kind.library.Response(200)
    transport = kind.transport_class(part(outer), sleepy, transport=stub_of(kind, answer))
    assert await handle(transport, kind.library.Request("GET", "http://a.example")) is answer
    sleepy.idle = False
    await handle(transport, kind.library.Request("GET", "http://a.example"))
    assert calls == ["outer", "outer", "sleepy"]


def stub_of(kind: Kind, answer: Any) -> Any:
    class Inner:
        def handle_request(self, request: Any) -> Any:
            return answer

        async def handle_async_request(self, request: Any) -> Any:
            return answer

    return Inner()


# --- observing --------------------------------------------------------------------------------------------------------


async def test_an_observer_gets_the_transport_s_events_and_so_does_the_caller_s_own_trace(kind: Kind) -> None:
    heard: list[str] = []
    own: list[str] = []

    def watching(request: Any) -> Any:
        return (yield Send(request, lambda event, details: heard.append(event)))

    def trace(event: str, details: Any) -> None:
        own.append(event)

    async def atrace(event: str, details: Any) -> None:
        own.append(event)

    extensions = {"trace": trace if kind.sync else atrace}
    with HostileServer() as server:
        async with kind.client(watching) as client:
            await client.get(server.url, extensions=extensions)
            assert "http11.send_request_headers.started" in heard
            assert heard == own[: len(heard)]
            assert heard[-1] == "http11.send_request_headers.started"
            assert "http11.receive_response_headers.complete" in own
            heard.clear()
            await client.get(server.url)
    assert "http11.send_request_headers.started" in heard
    assert list(extensions.values()) == [trace if kind.sync else atrace]


async def test_without_an_observer_the_caller_s_request_itself_is_sent(kind: Kind) -> None:
    sent: list[Any] = []

    class Inner:
        def handle_request(self, request: Any) -> Any:
            sent.append(request)
            return kind.library.Response(200)

        async def handle_async_request(self, request: Any) -> Any:
            return self.handle_request(request)

    request = kind.library.Request("GET", "http://a.example")
    await handle(kind.transport_class(part(plain), transport=Inner()), request)
    assert sent == [request]
    assert sent[0] is request


async def test_a_copy_of_a_request_shares_its_stream_and_nothing_that_an_attempt_changes(kind: Kind) -> None:
    request = kind.library.Request(
        "POST", "http://a.example/x", headers={"x-a": "1"}, content=b"body", extensions={"timeout": {"read": 1}}
    )
    twin = copy_request(request, trace=print)
    assert type(twin) is type(request)
    assert (twin.method, twin.url, twin.read()) == ("POST", request.url, b"body")
    assert twin.stream is request.stream
    twin.headers["x-a"] = "2"
    twin.headers["x-b"] = "3"
    twin.extensions["more"] = 1
    assert request.headers["x-a"] == "1"
    assert "x-b" not in request.headers
    assert request.extensions == {"timeout": {"read": 1}}
    assert twin.extensions == {"timeout": {"read": 1}, "trace": print, "more": 1}


async def test_an_observed_attempt_changes_neither_headers_nor_extensions_of_the_request(kind: Kind) -> None:
    requests: list[Any] = []

    def watching(request: Any) -> Any:
        requests.append((request, dict(request.headers), dict(request.extensions)))
        return (yield Send(request, lambda event, details: None))

    with HostileServer() as server:
        async with kind.client(watching) as client:
            await client.get(server.url)
    [(request, headers, extensions)] = requests
    assert dict(request.headers) == headers
    assert dict(request.extensions) == extensions
    assert "trace" not in request.extensions


async def test_a_copy_that_is_sent_twice_reports_each_event_once(kind: Kind) -> None:
    heard: list[str] = []
    own: list[str] = []

    def trace(event: str, details: Any) -> None:
        own.append(event)

    async def atrace(event: str, details: Any) -> None:
        own.append(event)

    def copying(request: Any) -> Any:
        attempt = copy_request(request, trace=trace if kind.sync else atrace)
        response = yield Send(attempt, lambda event, details: heard.append(event))
        assert attempt.extensions["trace"] is (trace if kind.sync else atrace)
        return response

    def twice(request: Any) -> Any:
        yield Discard((yield Send(request)))
        return (yield Send(request))

    def resent(request: Any) -> Any:
        """An inner component that sends one attempt until it is through."""
        try:
            return (yield Send(request))
        except kind.library.ConnectError:
            return (yield Send(request))

    with HostileServer() as server:
        async with kind.client(copying, twice) as client:
            await client.get(server.url)
    assert heard.count("http11.send_request_headers.started") == 2
    assert own.count("http11.send_request_headers.started") == 2
    heard.clear()
    async with kind.client(copying, resent) as client:
        with pytest.raises(kind.library.ConnectError):
            await client.get("http://127.0.0.1:1/")
    assert heard.count("connection.connect_tcp.failed") == 2


# --- cancellation -----------------------------------------------------------------------------------------------------


def asleep(request: Any) -> Any:
    response = yield Send(request)
    if response.status_code == 503:
        yield Sleep(60.0)
    return response


def resending(request: Any) -> Any:
    """Holds a refused answer while it sends again."""
    response = yield Send(request)
    return (yield Send(request)) if response.status_code == 503 else response


@only_async
@pytest.mark.parametrize(
    ("flow", "script"),
    [(plain, ["hang"]), (asleep, ["503"]), (second, ["stall-body"]), (resending, ["503", "hang"])],
    ids=["sending", "asleep", "discarding", "holding"],
)
async def test_a_call_that_is_cancelled_leaves_the_pool_usable(kind: Kind, flow: Any, script: list[str]) -> None:
    limits = kind.library.Limits(max_connections=2 if flow is resending else 1)
    with HostileServer(script) as server:
        async with kind.client(flow, limits=limits) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(client.get, server.url)
                await anyio.to_thread.run_sync(lambda: server.wait_for(len(script), "requests"))
                if flow is asleep:
                    await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
            for _ in range(3):
                assert (await client.get(server.url, timeout=LONGEST_WAIT)).status_code == 200
            pool = client.client._transport.wrapped._pool
            assert len(pool.connections) <= 2
    gc.collect()


async def test_a_call_that_times_out_leaves_the_pool_usable(kind: Kind) -> None:
    with HostileServer(["hang", "stall-body"]) as server:
        async with kind.client(plain, limits=kind.library.Limits(max_connections=1)) as client:
            for _ in range(2):
                with pytest.raises(kind.library.ReadTimeout):
                    await client.get(server.url, timeout=0.2)
            assert (await client.get(server.url, timeout=LONGEST_WAIT)).status_code == 200


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
@pytest.mark.parametrize("colour", ["sync", "asyncio"])
def test_a_transport_of_another_library_or_kind_is_refused_at_once(library: ModuleType, colour: str) -> None:
    kind = Kind(library, colour)
    other = Kind(httpx2 if library is httpx else httpx, colour)
    opposite = Kind(library, "asyncio" if kind.sync else "sync")
    right = f"such as {library.__name__}.{kind.inner_class.__name__}()"
    for wrong in (other.inner_class(), opposite.inner_class(), opposite.transport_class()):
        with pytest.raises(ConfigError, match=r"Transport\(transport=\.\.\.\) = ") as caught:
            kind.transport_class(flexmw.Retry(), transport=wrong)
        assert right in str(caught.value)


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("library", [httpx, httpx2])
def test_two_retries_around_one_client_are_refused_side_by_side_and_one_in_the_other(
    library: ModuleType, colour: str
) -> None:
    transport = Kind(library, colour).transport_class
    with pytest.raises(ConfigError, match="a second one multiplies its attempts"):
        transport(flexmw.Retry(), flexmw.Tagging(), flexmw.Retry(attempts=5))
    with pytest.raises(ConfigError, match="a second one multiplies its attempts"):
        transport(flexmw.Retry(), transport=transport(flexmw.Retry()))
    assert transport(flexmw.Tagging(), transport=transport(flexmw.Retry(), flexmw.Tagging()))
