"""A call that begins without a generator behaves as one that is a flow from its beginning."""

from __future__ import annotations

import logging
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest import mock

import anyio
import httpx
import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import flexmw
from flexmw.kit.first_send import begin_of
from flexmw.kit.log_limit import LogLimit
from flexmw.retry import log, outcome_of
from flexmw.testing import FakeClock, HostileServer


class FromTheBeginning(flexmw.Retry):
    """A Retry whose every call is a flow: a subclass with a ``flow`` of its own."""

    def flow(self, request: Any) -> Any:
        return super().flow(request)


HEAD = ("http11.send_request_headers.started", {"request": types.SimpleNamespace(method=b"POST")})
CONNECT = ("http11.send_request_headers.started", {"request": types.SimpleNamespace(method=b"CONNECT")})
CONNECTED = [("connection.connect_tcp.started", {}), ("connection.connect_tcp.complete", {})]
PACED = ("flexmw.pace.waited", {"seconds": 2.0})


def failed(error: BaseException) -> tuple[str, dict[str, Any]]:
    return "http11.send_request_headers.failed", {"exception": error}


class LocalProtocolError(Exception):
    """The name by which h11 refuses a head that cannot be written."""


EVENTS: dict[str, list[Any]] = {
    "none": [],
    "sent": [HEAD],
    "new connection": [*CONNECTED, HEAD],
    "no connection": [("connection.connect_tcp.failed", {})],
    "proxy": [CONNECT],
    "rejected": [HEAD, failed(LocalProtocolError("Illegal header value"))],
    "paced": [PACED, HEAD],
    "http2": [("http2.send_request_headers.started", {"stream_id": 1})],
}
ERRORS = ("ConnectError", "ReadError", "ReadTimeout", "PoolTimeout", "LocalProtocolError")
HEADERS: dict[str, dict[str, str]] = {
    "plain": {},
    "ttl": {"idempotency-key-ttl": "60"},
    "wait": {"retry-after": "1", "content-type": "application/json"},
    "cookie": {"set-cookie": "a=1"},
    "no": {"x-should-retry": "false"},
}

responses = st.tuples(
    st.sampled_from((200, 200, 204, 303, 404, 429, 500, 503)),
    st.sampled_from(sorted(HEADERS)),
    st.sampled_from((None, None, "ReadError", "RemoteProtocolError")),
)
steps = st.tuples(st.sampled_from(sorted(EVENTS)), st.one_of(responses, st.sampled_from((*ERRORS, "ValueError"))))
requests = st.tuples(
    st.sampled_from(("GET", "POST")),
    st.sampled_from(((), ("x-stainless-retry-count", "0"), ("x-stainless-retry-count", "1"), ("idempotency-key", "k"))),
)


class Body(httpx.SyncByteStream, httpx.AsyncByteStream, httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body of two chunks that may break after the first one."""

    def __init__(self, error: Exception | None) -> None:
        self.error, self.closed = error, 0

    def __iter__(self) -> Iterator[bytes]:
        yield b"one"
        if self.error is not None:
            raise self.error
        yield b"two"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


class Scripted(httpx.BaseTransport, httpx.AsyncBaseTransport, httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """A transport that reports events, and then responds or fails, as a script says."""

    def __init__(self, library: Any, script: list[Any]) -> None:
        self.library, self.script, self.seen = library, list(script), list[Any]()
        self.bodies: list[Body] = []

    def _note(self, request: Any) -> list[Any]:
        extensions = {name: value for name, value in request.extensions.items() if name != "trace"}
        self.seen.append((request.method, sorted(request.headers.items()), extensions))
        return EVENTS[self.script[0][0]] if self.script else [HEAD]

    def _end(self, request: Any) -> Any:
        _, end = self.script.pop(0) if self.script else ("sent", (200, "plain", None))
        request.headers["traceparent"] = "00-1"  # as instruments do: the caller's request must not get it
        if end == "ValueError":
            raise ValueError("a bug in a transport")
        if isinstance(end, str):
            raise getattr(self.library, end)("broken", request=request)
        status, headers, broken = end
        body = Body(None if broken is None else getattr(self.library, broken)("cut"))
        self.bodies.append(body)
        return self.library.Response(status, headers=HEADERS[headers], stream=body)

    def handle_request(self, request: Any) -> Any:
        for event, details in self._note(request):
            if trace := request.extensions.get("trace"):
                trace(event, details)
        return self._end(request)

    async def handle_async_request(self, request: Any) -> Any:
        for event, details in self._note(request):
            if trace := request.extensions.get("trace"):
                await trace(event, details)
        return self._end(request)


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def behaviour(
    make: Callable[..., flexmw.Retry], library: Any, asynch: bool, script: list[Any], calls: list[Any]
) -> Any:
    """What a client and its server see of some calls."""
    clock, inner = FakeClock(), Scripted(library, script)
    policy = make(clock=clock, random=lambda: 0.5)
    transports: Any = flexmw.httpx if library is httpx else flexmw.httpx2
    lines = Lines()
    with (
        mock.patch.object(log, "LIMIT", LogLimit(burst=100, per_second=1.0, monotonic=clock.monotonic)),
        mock.patch.multiple(log.LOGGER, handlers=[lines], level=logging.DEBUG, propagate=False, _cache={}),
    ):
        if asynch:
            transport = transports.AsyncTransport(policy, transport=inner, clock=clock)
            results = anyio.run(_async_calls, library.AsyncClient(transport=transport), calls)
        else:
            client = library.Client(transport=transports.Transport(policy, transport=inner, clock=clock))
            results = [_call(client, *call) for call in calls]
            client.close()
    closed = [body.closed for body in inner.bodies]
    return results, inner.seen, clock.slept, lines.lines, closed, vars(policy._budget)["_tokens"]


def _result(response: Any) -> Any:
    return response.status_code, response.content, outcome_of(response), "traceparent" in response.request.headers


def _error(error: Exception) -> Any:
    context = type(error.__context__).__name__
    return type(error).__name__, str(error), outcome_of(error), getattr(error, "__notes__", None), context


def _call(client: Any, method: str, header: Any) -> Any:
    try:
        return _result(client.request(method, "http://api.test/v1", headers=dict([header] if header else [])))
    except Exception as error:
        return _error(error)


async def _async_calls(client: Any, calls: list[Any]) -> list[Any]:
    results = []
    async with client:
        for method, header in calls:
            try:
                headers = dict([header] if header else [])
                results.append(_result(await client.request(method, "http://api.test/v1", headers=headers)))
            except Exception as error:
                results.append(_error(error))
    return results


@example(httpx, False, [("sent", (200, "ttl", None)), ("sent", (200, "plain", None))], [("POST", ())] * 2)
@example(httpx2, True, [("sent", (200, "plain", "ReadError"))], [("POST", ("x-stainless-retry-count", "0"))])
@example(httpx, False, [("rejected", "LocalProtocolError")], [("POST", ())])
@example(httpx, True, [("paced", (200, "plain", None))], [("GET", ())])
@example(httpx2, False, [("http2", "ReadError"), ("sent", "ReadTimeout")], [("POST", ()), ("GET", ())])
@given(
    library=st.sampled_from((httpx, httpx2)),
    asynch=st.booleans(),
    script=st.lists(steps, max_size=5),
    calls=st.lists(requests, min_size=1, max_size=3),
)
def test_a_call_begun_without_a_generator_is_the_call_of_the_flow(
    library: Any, asynch: bool, script: list[Any], calls: list[Any]
) -> None:
    known = behaviour(FromTheBeginning, library, asynch, script, calls)
    assert behaviour(flexmw.Retry, library, asynch, script, calls) == known


def test_only_options_that_look_once_at_a_response_begin_without_a_generator() -> None:
    assert begin_of(flexmw.Retry(attempts=5, idempotent=True, on_retry=print)) is not None
    for options in ({"deadline": 5.0}, {"auto_key": True}, {"classify": lambda response, body: None}, {"reread": True}):
        assert begin_of(flexmw.Retry(**options)) is None
    assert begin_of(FromTheBeginning()) is None
    assert begin_of(flexmw.Tagging()) is None


def test_what_asks_for_more_is_a_flow_from_the_beginning() -> None:
    begin: Any = begin_of(flexmw.Retry())
    transport = httpx.MockTransport(lambda request: httpx.Response(204))
    with flexmw.httpx.Transport(flexmw.Retry(), transport=transport) as first:
        first.handle_request(httpx.Request("POST", "http://api.test", json={}))  # which makes the class of a body known
    assert begin(httpx.Request("POST", "http://api.test", json={})) is not None
    assert begin(httpx.Request("POST", "http://api.test", headers={"idempotency-key": "k"})) is None
    assert begin(httpx.Request("POST", "http://api.test", headers={"x-stainless-retry-count": "1"})) is None
    assert begin(httpx.Request("POST", "http://api.test", content=iter([b"once"]))) is None
    for name in ("flexmw.retry", "flexmw.deadline", "flexmw.retry.limits", "trace"):
        assert begin(httpx.Request("POST", "http://api.test", json={}, extensions={name: None})) is None
    with flexmw.retry_options(idempotent=True):
        assert begin(httpx.Request("POST", "http://api.test", json={})) is None


def test_only_repetitions_to_hosts_where_an_sdk_counts_on_the_stack_are_flows_from_the_beginning() -> None:
    policy = flexmw.Retry()
    policy._memory.count_on_stack("api.cohere.test")
    begin = begin_of(policy)
    assert begin is not None

    def is_begun(count: int, method: str, url: str) -> bool:
        """Begin a call as an SDK that Fern has generated does."""
        names = {"__name__": "acme.core.http_client", "begin": begin, "httpx": httpx}
        source = (
            "def request(count, method, url, retries=0):\n"
            "    if retries < count:\n"
            "        return request(count, method, url, retries + 1)\n"
            "    return begin(httpx.Request(method, url, content=b'')) is not None\n"
        )
        exec(source, names)
        return bool(names["request"](count, method, url))  # type: ignore[operator]

    transport = httpx.MockTransport(lambda request: httpx.Response(204))
    with flexmw.httpx.Transport(flexmw.Retry(), transport=transport) as first:
        first.handle_request(httpx.Request("POST", "http://api.test", json={}))  # which makes the class of a body known
    assert not is_begun(1, "POST", "http://api.cohere.test/chat")
    assert is_begun(0, "POST", "http://api.cohere.test/chat")
    assert is_begun(1, "GET", "http://api.cohere.test/models")
    assert is_begun(1, "POST", "http://other.test/chat")


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_giving_a_first_response_up_leaves_the_timeouts_of_the_caller(library: Any) -> None:
    fault = "429:ms=0.01"
    with HostileServer(["ok", fault, "ok", fault, "ok", fault, "ok"]) as server:
        with library.Client(verify=False, timeout=20.0) as client:
            flexmw.wrap_client(client, flexmw.Retry(jitter=0.0))
            client.post(server.url, json={})  # the first call of a transport is always a flow
            request = client.build_request("POST", server.url, json={})
            response = client.send(request)
            assert (response.status_code, flexmw.outcome_of(response).attempts) == (200, 2)  # type: ignore[union-attr]
            assert set(request.extensions["timeout"].values()) == {20.0}
            # A request that no client has made may be without timeouts.
            request = library.Request("POST", server.url, json={})
            response = client._transport.handle_request(request)
            response.read()
            assert (response.status_code, request.extensions) == (200, {})

        async def run() -> None:
            async with library.AsyncClient(verify=False, timeout=20.0) as client:
                flexmw.wrap_client(client, flexmw.Retry(jitter=0.0))
                await client.get(server.url)
                server.follow([fault, "ok"])
                request = client.build_request("POST", server.url, json={})
                assert (await client.send(request)).status_code == 200
                assert set(request.extensions["timeout"].values()) == {20.0}

        anyio.run(run)
