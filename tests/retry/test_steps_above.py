"""A transport, or an authentication, between the client and Retry that sends requests again by itself."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import logging
import weakref
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import httpx2
import pytest

import flexmw
from flexmw.retry.memory import FailedCall
from flexmw.retry.steps import FAILED_STEPS, FailedStep, FailedSteps
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.hostile import Drip, Response
from tests.retry.outcomes import outcome
from tests.waiting import LONGEST_WAIT

libraries = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


@pytest.fixture(autouse=True)
def no_steps_of_other_tests() -> None:
    FAILED_STEPS.by_call.clear()


def policy_of(**options: Any) -> flexmw.Retry:
    return flexmw.Retry(clock=FakeClock(), jitter=0.0, **options)


def same(request: Any) -> Any:
    return request


def rebuilt(request: Any) -> Any:
    """A transport may make a request of its own for each attempt."""
    headers = [(name, value) for name, value in request.headers.items() if name != "content-length"]
    extensions = {"timeout": request.extensions["timeout"]}
    return type(request)(request.method, request.url, headers=headers, content=request.content, extensions=extensions)


def signed_anew() -> Callable[[Any], Any]:
    numbers = itertools.count()

    def sign(request: Any) -> Any:
        request.headers["authorization"] = f"Signature {next(numbers)}"
        return request

    return sign


def repeating(library: Any, inner: Any, prepare: Callable[[Any], Any] = same, attempts: int = 3) -> Any:
    """A transport around ``inner`` that sends a request again after each lost response and each 5xx."""

    class Repeating(library.BaseTransport, library.AsyncBaseTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            for attempt in range(attempts):
                try:
                    response = inner.handle_request(prepare(request))
                    response.read()
                except library.TransportError:
                    if attempt == attempts - 1:
                        raise
                    continue
                if response.status_code < 500 or attempt == attempts - 1:
                    return response
                response.close()
            raise AssertionError

        async def handle_async_request(self, request: Any) -> Any:
            for attempt in range(attempts):
                try:
                    response = await inner.handle_async_request(prepare(request))
                    await response.aread()
                except library.TransportError:
                    if attempt == attempts - 1:
                        raise
                    continue
                if response.status_code < 500 or attempt == attempts - 1:
                    return response
                await response.aclose()
            raise AssertionError

        def close(self) -> None:
            inner.close()

        async def aclose(self) -> None:
            await inner.aclose()

    return Repeating()


def inner_of(library: Any, policy: flexmw.Retry) -> Any:
    return getattr(flexmw, library.__name__).Transport(
        policy, transport=library.HTTPTransport(verify=False), clock=FakeClock()
    )


def post(
    library: Any,
    server: HostileServer,
    policy: flexmw.Retry,
    prepare: Callable[[Any], Any] = same,
    read: float = 20.0,
) -> Any:
    """The response or the error of a POST over a transport that repeats requests, above Retry."""
    inner = inner_of(library, policy)
    timeout = library.Timeout(20.0, read=read)
    with library.Client(transport=repeating(library, inner, prepare), timeout=timeout) as client:
        try:
            return client.post(server.url, json={"n": 1})
        except library.TransportError as error:
            return error


@libraries
@pytest.mark.parametrize("prepare", [same, rebuilt, signed_anew()], ids=["same", "rebuilt", "signed anew"])
@pytest.mark.parametrize("fault", ["rst", "fin", "hang", "cut-body"])
def test_a_lost_post_is_executed_once_and_its_error_comes_again(library: Any, fault: str, prepare: Any) -> None:
    with HostileServer(then=fault) as server:
        error = post(library, server, policy_of(), prepare, read=0.3 if fault == "hang" else 20.0)
        assert server.executions == len(server.requests) == 1
    assert isinstance(error, library.TransportError)
    assert (outcome(error).outcome, outcome(error).reason) == ("ambiguous", "given_back_before")


@libraries
def test_a_response_that_leaves_it_open_comes_again_whole(library: Any) -> None:
    with HostileServer(then="500") as server:
        response = post(library, server, policy_of())
        assert server.executions == len(server.requests) == 1
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert (outcome(response).outcome, outcome(response).reason) == ("ambiguous", "given_back_before")


@libraries
@pytest.mark.parametrize(("size", "is_kept"), [(64 * 1024, True), (64 * 1024 + 1, False)])
def test_a_body_that_is_too_large_to_come_again_is_an_error_and_not_an_empty_body(
    library: Any, size: int, is_kept: bool
) -> None:
    body = b"x" * size
    with HostileServer(then=Response(500, body=body)) as server:
        transport = repeating(library, inner_of(library, policy_of()), attempts=1)
        with library.Client(transport=transport) as client:  # the first of its attempts is whole in any case
            assert client.post(server.url, json={}).content == body
        given = post(library, server, policy_of())
        assert server.executions == 2
    assert (outcome(given).outcome, outcome(given).reason) == ("ambiguous", "given_back_before")
    if is_kept:
        assert given.content == body
    else:
        assert isinstance(given, library.ReadError)
        assert "a 500 was given back for it before, whose body was too large" in str(given)


@libraries
def test_a_transport_above_that_repeats_nothing_gets_a_slow_response_whole(
    library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flexmw.retry.reading.DRAIN_SECONDS", 0.01)
    with HostileServer(then=Drip(response=Response(500), interval=0.05)) as server:
        transport = repeating(library, inner_of(library, policy_of()), attempts=1)
        with library.Client(transport=transport) as client:
            response = client.post(server.url, json={})
    assert (response.status_code, outcome(response).outcome) == (500, "ambiguous")
    assert response.json()["error"]["code"] == "internal_error"


@libraries
def test_an_async_transport_above_repeats_nothing_that_may_have_been_executed(library: Any) -> None:
    async def run(fault: str) -> int:
        with HostileServer(then=fault) as server:
            inner = getattr(flexmw, library.__name__).AsyncTransport(
                policy_of(), transport=library.AsyncHTTPTransport(verify=False)
            )
            async with library.AsyncClient(transport=repeating(library, inner)) as client:
                try:
                    said = outcome(await client.post(server.url, json={}))
                except library.TransportError as error:
                    said = outcome(error)
            assert said.outcome == "ambiguous"
            return server.executions

    for backend in ("asyncio", "trio"):
        assert [anyio.run(run, fault, backend=backend) for fault in ("rst", "500", "cut-body")] == [1, 1, 1]


@libraries
def test_a_transport_above_that_cancels_each_attempt_executes_a_post_once(library: Any) -> None:
    class Bounded(library.AsyncBaseTransport):  # type: ignore[misc]
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def handle_async_request(self, request: Any) -> Any:
            for _ in range(2):
                with anyio.move_on_after(0.2):
                    return await self.inner.handle_async_request(request)
            return await self.inner.handle_async_request(request)

        async def aclose(self) -> None:
            await self.inner.aclose()

    async def run() -> None:
        with HostileServer(then="hang") as server:
            inner = getattr(flexmw, library.__name__).AsyncTransport(
                policy_of(), transport=library.AsyncHTTPTransport(verify=False)
            )
            async with library.AsyncClient(transport=Bounded(inner)) as client:
                with pytest.raises(library.TransportError, match="given back before") as caught:
                    await client.post(server.url, json={})
            assert (server.executions, outcome(caught.value).outcome) == (1, "ambiguous")

    for backend in ("asyncio", "trio"):
        anyio.run(run, backend=backend)


@libraries
def test_a_transport_above_that_repeats_after_an_error_of_the_app_executes_a_post_once(library: Any) -> None:
    calls: list[Any] = []

    def respond(request: Any) -> Any:
        calls.append(request)
        raise RuntimeError("of the app")

    class Repeating(library.BaseTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            with contextlib.suppress(RuntimeError):
                return inner.handle_request(request)
            return inner.handle_request(request)

    inner = getattr(flexmw, library.__name__).Transport(policy_of(), transport=library.MockTransport(respond))
    with library.Client(transport=Repeating()) as client, pytest.raises(library.TransportError):
        client.post("http://api.test/", json={})
    assert len(calls) == 1


@libraries
def test_what_makes_a_repetition_safe_does_so_above_retry_too(library: Any) -> None:
    with HostileServer(["rst", "rst", "ok"]) as server:
        assert post(library, server, policy_of(idempotent=True, attempts=1)).status_code == 200
        assert server.executions == 3


def retrying_client(library: Any, base: str, **options: Any) -> Any:
    """A client whose ``send`` sends a request again after each lost response."""
    if base == "Client":

        class Blocking(library.Client):  # type: ignore[misc]
            def send(self, request: Any, **how: Any) -> Any:
                for _ in range(2):
                    with contextlib.suppress(library.TransportError):
                        return super().send(request, **how)
                return super().send(request, **how)

        return Blocking(verify=False, **options)

    class Asynchronous(library.AsyncClient):  # type: ignore[misc]
        async def send(self, request: Any, **how: Any) -> Any:
            for _ in range(2):
                with contextlib.suppress(library.TransportError):
                    return await super().send(request, **how)
            return await super().send(request, **how)

    return Asynchronous(verify=False, **options)


@libraries
@pytest.mark.parametrize("fault", ["rst", "cut-body"])
def test_a_client_whose_send_repeats_requests_executes_a_post_once(library: Any, fault: str) -> None:
    with HostileServer(then=fault) as server:
        with retrying_client(library, "Client") as client:
            flexmw.wrap_client(client, policy_of())
            for count in (1, 2):  # the second is a call of its own
                with pytest.raises(library.TransportError) as caught:
                    client.post(server.url, json={})
                assert (server.executions, outcome(caught.value).reason) == (count, "given_back_before")
            with pytest.raises(library.TransportError), client.stream("POST", server.url, json={}) as response:
                response.read()
            assert server.executions == 3

        async def run() -> None:
            async with retrying_client(library, "AsyncClient") as client:
                flexmw.wrap_client(client, policy_of())
                with pytest.raises(library.TransportError) as caught:
                    await client.post(server.url, json={})
                assert outcome(caught.value).reason == "given_back_before"

        anyio.run(run)
        assert server.executions == 4


@libraries
def test_a_client_whose_send_repeats_a_500_gets_the_500_again(library: Any) -> None:
    class Blocking(library.Client):  # type: ignore[misc]
        def send(self, request: Any, **how: Any) -> Any:
            response = super().send(request, **how)
            return response if response.status_code < 500 else super().send(request, **how)

    with HostileServer(then="500") as server, Blocking(verify=False) as client:
        flexmw.wrap_client(client, policy_of())
        response = client.post(server.url, json={})
        assert (response.status_code, server.executions) == (500, 1)
        assert response.json()["error"]["code"] == "internal_error"
        assert outcome(response).reason == "given_back_before"


class Sending:
    """The names of a client's methods in a program, which sends a request twice."""

    @staticmethod
    def request(client: Any, server: HostileServer, error: type[Exception]) -> None:
        request = client.build_request("POST", server.url, json={})
        for count in (1, 2):
            with pytest.raises(error):
                client.send(request)
            assert server.executions == count


@libraries
def test_a_program_that_sends_its_request_again_makes_a_call_of_its_own(library: Any) -> None:
    class Logging(library.Client):  # type: ignore[misc]
        def send(self, request: Any, **how: Any) -> Any:
            return super().send(request, **how)

    for kind in (library.Client, Logging):
        with HostileServer(then="rst") as server, kind(verify=False) as client:
            flexmw.wrap_client(client, policy_of())
            Sending.request(client, server, library.TransportError)


@libraries
def test_the_steps_of_requests_that_a_program_keeps_are_bounded(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flexmw.retry.steps._MAX_BODIES", 3)
    monkeypatch.setattr(FAILED_STEPS, "by_call", {})  # without the steps of requests that other tests have kept
    monkeypatch.setattr(FAILED_STEPS, "_bodies", {})

    def respond(_: Any) -> Any:
        return library.Response(500)

    transport = getattr(flexmw, library.__name__).Transport(policy_of(), transport=library.MockTransport(respond))
    requests = [library.Request("POST", "http://api.test/", json={}) for _ in range(5)]
    assert {transport.handle_request(request).status_code for request in requests} == {500}
    assert len(FAILED_STEPS.by_call) == 3
    requests.clear()
    gc.collect()
    assert not FAILED_STEPS.by_call


def test_a_body_at_the_address_of_an_earlier_one_is_no_older_than_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Body:
        pass

    monkeypatch.setattr("flexmw.retry.steps._MAX_BODIES", 2)
    steps = FailedSteps()
    known = FailedCall(None, 0.0, True, b"")
    for _ in range(9):  # a body that has ended makes room for the next one but one
        body = Body()
        steps.note(None, body, FailedStep(weakref.ref(body), b"", "", b"", known, True, None))
        assert steps.find(body)


@libraries
def test_each_of_many_calls_at_once_is_executed_once_by_a_transport_above(library: Any) -> None:
    calls = 300
    executed, is_full = [], anyio.Event()

    async def lose(request: Any) -> Any:
        executed.append(request)
        if len(executed) == calls:
            is_full.set()
        await is_full.wait()
        raise library.ReadError("lost", request=request)

    async def run() -> None:
        inner = getattr(flexmw, library.__name__).AsyncTransport(policy_of(), transport=library.MockTransport(lose))
        async with library.AsyncClient(transport=repeating(library, inner)) as client:

            async def post(number: int) -> None:
                with pytest.raises(library.TransportError):
                    await client.post("http://api.test/", json={"number": number})

            with anyio.fail_after(LONGEST_WAIT):
                async with anyio.create_task_group() as tasks:
                    for number in range(calls):
                        tasks.start_soon(post, number)

    anyio.run(run)
    assert len(executed) == calls


def by_a_wrapper(method: Any) -> Any:
    """A decorator that repeats a method of a client, as that of tenacity does, and counts."""
    attempts = 0

    @functools.wraps(method)
    def wrapper(*args: Any, **options: Any) -> Any:
        nonlocal attempts
        for _ in range(2):
            attempts += 1
            try:
                response = method(*args, **options)
            except (httpx.TransportError, httpx2.TransportError):
                continue
            if response.status_code < 500:
                return response
        return method(*args, **options)

    return wrapper


@libraries
@pytest.mark.parametrize("fault", ["rst", "cut-body", "500"])
@pytest.mark.parametrize("name", ["send", "request", "post"])
def test_a_client_with_a_method_that_repeats_requests_executes_a_post_once(library: Any, name: str, fault: str) -> None:
    def call(self: Any, *args: Any, **options: Any) -> Any:
        return getattr(library.Client, name)(self, *args, **options)

    kind = type("Repeating", (library.Client,), {"__module__": "program", name: by_a_wrapper(call)})
    with HostileServer(then=fault) as server, kind(verify=False) as client:
        flexmw.wrap_client(client, policy_of())
        request = client.build_request("POST", server.url, json={})
        calls: list[Callable[[], Any]] = [lambda: client.post(server.url, json={})] * 2
        calls += [lambda: client.send(request)] * 2 if name == "send" else []
        for count, post in enumerate(calls, 1):  # each is a call of its own
            said = outcome(raised(library, post))
            assert (server.executions, said.outcome, said.reason) == (count, "ambiguous", "given_back_before")


@libraries
def test_a_client_whose_stream_repeats_requests_executes_a_post_once(library: Any) -> None:
    class Streaming(library.Client):  # type: ignore[misc]
        @contextlib.contextmanager
        def stream(self, *args: Any, **options: Any) -> Any:
            with contextlib.suppress(library.TransportError), super().stream(*args, **options) as response:
                yield response
                return
            with super().stream(*args, **options) as response:
                yield response

    with HostileServer(then="rst") as server, Streaming(verify=False) as client:
        flexmw.wrap_client(client, policy_of())
        with pytest.raises(library.TransportError) as caught, client.stream("POST", server.url, json={}):
            pass
        assert (server.executions, outcome(caught.value).reason) == (1, "given_back_before")


@libraries
def test_a_loop_of_a_program_with_the_decorator_of_a_method_makes_calls_of_its_own(library: Any) -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            return function(*args, **options)

        return wrapper

    class Bot(library.Client):  # type: ignore[misc]
        @logged
        def request(self, *args: Any, **options: Any) -> Any:
            return super().request(*args, **options)

        @logged
        def run(self, url: str) -> list[Any]:
            return [outcome(raised(library, lambda: self.post(url, json={}))).reason for _ in range(2)]

    with HostileServer(then="rst") as server, Bot(verify=False) as client:
        flexmw.wrap_client(client, policy_of())
        assert (client.run(server.url), server.executions) == (["unsafe_method"] * 2, 2)


@libraries
def test_a_method_that_is_a_generator_makes_calls_of_its_own(library: Any) -> None:
    class Polling(library.Client):  # type: ignore[misc]
        def stream(self, url: str) -> Any:
            while True:
                yield raised(library, lambda: self.post(url, json={}))

    with HostileServer(["rst"]) as server, Polling(verify=False) as client:
        flexmw.wrap_client(client, policy_of())
        lost, polled = itertools.islice(client.stream(server.url), 2)
        assert (outcome(lost).outcome, polled.status_code) == ("ambiguous", 200)


@libraries
def test_a_client_whose_send_makes_a_task_for_each_attempt_executes_a_post_once(library: Any) -> None:
    class Bounded(library.AsyncClient):  # type: ignore[misc]
        async def send(self, request: Any, **how: Any) -> Any:
            async def send() -> Any:
                return await library.AsyncClient.send(self, request, **how)

            with contextlib.suppress(library.TransportError):
                return await in_a_task(send)
            return await in_a_task(send)

    async def run(server: HostileServer) -> None:
        async with Bounded(verify=False) as client:
            flexmw.wrap_client(client, policy_of())
            with pytest.raises(library.TransportError) as caught:
                await client.post(server.url, json={})
            assert outcome(caught.value).reason == "given_back_before"

    with HostileServer(then="rst") as server:
        for backend in ("asyncio", "trio"):
            anyio.run(run, server, backend=backend)
        assert server.executions == 2


def raised(library: Any, call: Callable[[], Any]) -> Any:
    """The response or the error of a call."""
    try:
        return call()
    except library.TransportError as error:
        return error


async def in_a_task(send: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """What a transport does that sends each attempt in a task of its own."""
    results: list[Any] = []

    async def run() -> None:
        try:
            results.append(await send())
        except Exception as error:
            results.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]


async def at_once(send: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return await send()


@libraries
@pytest.mark.parametrize("fault", ["rst", "500", "cut-body"])
@pytest.mark.parametrize("first", [in_a_task, at_once])
def test_a_transport_above_with_a_task_for_each_attempt_executes_a_post_once(
    library: Any, fault: str, first: Any
) -> None:
    class Repeating(library.AsyncBaseTransport):  # type: ignore[misc]
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def handle_async_request(self, request: Any) -> Any:
            async def send() -> Any:
                response = await self.inner.handle_async_request(request)
                await response.aread()
                return response

            with contextlib.suppress(library.TransportError):
                response = await first(send)
                if response.status_code < 500:
                    return response
            return await in_a_task(send)

        async def aclose(self) -> None:
            await self.inner.aclose()

    async def run(server: HostileServer) -> None:
        inner = getattr(flexmw, library.__name__).AsyncTransport(
            policy_of(), transport=library.AsyncHTTPTransport(verify=False)
        )
        async with library.AsyncClient(transport=Repeating(inner)) as client:
            for count in (1, 2):  # the second is a call of its own
                try:
                    said = outcome(await client.post(server.url, json={}))
                except library.TransportError as error:
                    said = outcome(error)
                assert (said.outcome, said.reason) == ("ambiguous", "given_back_before")
                assert server.executions % 2 == count % 2

    with HostileServer(then=fault) as server:
        for backend in ("asyncio", "trio"):
            anyio.run(run, server, backend=backend)
        assert server.executions == 4


@libraries
@pytest.mark.parametrize("fault", ["rst", "500"])
def test_a_transport_above_with_a_thread_for_each_attempt_executes_a_post_once(library: Any, fault: str) -> None:
    class Threaded(library.BaseTransport):  # type: ignore[misc]
        def __init__(self, inner: Any) -> None:
            self.inner, self.pool = inner, ThreadPoolExecutor(1)

        def handle_request(self, request: Any) -> Any:
            return self.pool.submit(self.inner.handle_request, request).result(LONGEST_WAIT)

        def close(self) -> None:
            self.inner.close()
            self.pool.shutdown()

    with HostileServer(then=fault) as server:
        transport = repeating(library, Threaded(inner_of(library, policy_of())))
        with library.Client(transport=transport) as client:
            said = outcome(raised(library, lambda: client.post(server.url, json={})))
        assert (server.executions, said.outcome, said.reason) == (1, "ambiguous", "given_back_before")


@libraries
def test_a_program_whose_stream_broke_may_send_its_request_again(library: Any) -> None:
    with HostileServer(["cut-body"]) as server, library.Client(verify=False) as client:
        flexmw.wrap_client(client, policy_of())
        request = client.build_request("POST", server.url, json={})
        response = client.send(request, stream=True)
        with pytest.raises(library.TransportError):
            response.read()
        assert client.send(request).status_code == 200
        assert server.executions == 2


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        line
        for line in caplog.messages
        if "a transport, an authentication or a method of the client above flexmw" in line
    ]


@libraries
def test_repetitions_of_refusals_and_of_safe_requests_get_one_attempt_each(
    library: Any, caplog: pytest.LogCaptureFixture
) -> None:
    policy = policy_of()
    with HostileServer(then="503:ms=0.01") as server, caplog.at_level(logging.WARNING, "flexmw.retry"):
        assert post(library, server, policy).status_code == 503
        assert len(server.requests) == 3 + 1 + 1
        server.follow(["rst"] * 9)
        inner = inner_of(library, policy)
        with library.Client(transport=repeating(library, inner)) as client, pytest.raises(library.TransportError):
            client.get(server.url)
        assert len(server.requests) == 2 * (3 + 1 + 1)
    assert len(lines(caplog)) == 1


def answering(library: Any, **new: str) -> Any:
    """An authentication that sends a request again after each error, with other headers."""

    class Auth(library.Auth):  # type: ignore[misc]
        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            response = yield request
            if response.status_code >= 400:
                request.headers.update(new)
                yield request

    return Auth()


@libraries
def test_an_authentication_that_answers_a_500_executes_a_post_once(library: Any) -> None:
    with HostileServer(then="500") as server, library.Client(verify=False) as client:
        flexmw.wrap_client(client, policy_of())
        for auth in (answering(library), answering(library, authorization="Bearer new")):
            before = server.executions
            with pytest.raises(library.TransportError) as caught:
                client.post(server.url, json={}, auth=auth)
            assert server.executions == before + 1
            assert (outcome(caught.value).outcome, outcome(caught.value).reason) == ("ambiguous", "given_back_before")


@libraries
def test_an_authentication_that_answers_a_429_by_another_key_makes_a_call_of_its_own(
    library: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with HostileServer(["429:ms=0.01"] * 5) as server, library.Client(verify=False) as client:
        flexmw.wrap_client(client, policy_of())
        response = client.post(server.url, json={}, auth=answering(library, authorization="Bearer next"))
        assert (response.status_code, len(server.requests)) == (200, 6)
    assert not lines(caplog)


@libraries
def test_another_call_and_another_request_of_a_call_are_no_repetitions(library: Any) -> None:
    class TwoBodies(library.Auth):  # type: ignore[misc]
        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            yield type(request)(request.method, request.url, json={"first": True})
            yield request

    with HostileServer(["500", "ok", "500", "500"]) as server, library.Client(verify=False) as client:
        flexmw.wrap_client(client, policy_of())
        assert client.post(server.url, json={}, auth=TwoBodies()).status_code == 200
        for _ in range(2):
            assert client.post(server.url, json={}).status_code == 500
        assert server.executions == 4


@libraries
def test_requests_of_an_authentication_of_its_own_are_no_repetitions(library: Any) -> None:
    class Token(library.Auth):  # type: ignore[misc]
        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            for path in ("/token", "/token/other"):
                response = yield type(request)("POST", request.url.copy_with(path=path), content=path.encode())
                if response.is_success:
                    break
            yield request

    with HostileServer(["500", "ok", "ok"]) as server, library.Client(verify=False) as client:
        flexmw.wrap_client(client, policy_of())
        response = client.post(server.url, json={}, auth=Token())
        assert (response.status_code, outcome(response).outcome) == (200, "answered")
        assert server.executions == 3


@libraries
@pytest.mark.parametrize("token", ["ok", "500"])
def test_a_request_for_a_token_hides_no_request_that_may_have_been_executed(library: Any, token: str) -> None:
    class Renewing(library.Auth):  # type: ignore[misc]
        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            yield request
            yield type(request)("POST", request.url.copy_with(path="/token"), content=b"renew")
            request.headers["authorization"] = "Bearer new"
            yield request

    with HostileServer(["rst", "401", token]) as server, library.Client(verify=False) as client:
        flexmw.wrap_client(client, policy_of(auto_key=True, key_origins=[server.url.rstrip("/")]))
        with pytest.raises(library.TransportError, match="other credentials"):
            client.post(server.url, json={}, auth=Renewing())
        assert [request.target for request in server.requests if request.target != "/token"] == ["/", "/"]


@libraries
def test_a_poll_after_a_good_response_gets_no_key_of_an_earlier_poll(library: Any) -> None:
    class Polling(library.Auth):  # type: ignore[misc]
        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            for _ in range(3):
                yield request

    with HostileServer(["rst"]) as server, library.Client(verify=False) as client:
        flexmw.wrap_client(client, policy_of(auto_key=True, key_origins=[server.url.rstrip("/")]))
        assert client.post(server.url, json={}, auth=Polling()).status_code == 200
        lost, *polls = [request.header("idempotency-key") for request in server.requests]
        assert (lost, len(set(polls))) == (polls[0], 3)


@libraries
def test_an_authentication_flow_without_weak_references_leaves_the_response_as_it_is(library: Any) -> None:
    class Flow:
        __slots__ = ("request",)

        def __init__(self, request: Any) -> None:
            self.request = request

        def __next__(self) -> Any:
            return self.request

        def send(self, response: Any) -> Any:
            raise StopIteration

        def close(self) -> None:
            pass

    class Auth(library.Auth):  # type: ignore[misc]
        def sync_auth_flow(self, request: Any) -> Any:
            return Flow(request)

    with HostileServer(then="500") as server, library.Client(verify=False) as client:
        flexmw.wrap_client(client, policy_of())
        assert client.post(server.url, json={}, auth=Auth()).status_code == 500


@libraries
def test_nothing_is_kept_of_a_call_that_has_ended(library: Any) -> None:
    def lost_post() -> Exception:
        with pytest.raises(library.TransportError) as caught:
            client.post(server.url, json={})
        return caught.value

    with HostileServer(then="rst") as server, library.Client(verify=False) as client:
        flexmw.wrap_client(client, policy_of())
        errors = [lost_post() for _ in range(3)]  # their tracebacks hold the calls
        assert not FAILED_STEPS.find(None)
        assert not FAILED_STEPS.by_call
        errors = [lost_post()]
        errors.clear()
        gc.collect()
        assert not FAILED_STEPS.by_call
