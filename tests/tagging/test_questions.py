"""The metrics answer what one asks of them at night: what was paid, who failed, who waited, and who is hot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import flexmw
from flexmw.pace import Pace
from flexmw.retry import Retry
from flexmw.retry.continuation import step_delay
from flexmw.tagging import Tagging
from flexmw.tagging.hot_callers import HotCallers
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.hostile.ports import HOST, closed_port
from flexmw.testing.semconv import assert_semconv
from tests.conftest import Telemetry
from tests.retry.stream_server import Cut, StreamServer, refusal
from tests.stores import client_of
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio

Points = list[tuple[dict[str, Any], float]]
LIMIT = {"x-ratelimit-limit-requests": "1", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "5"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def points(telemetry: Telemetry) -> Callable[..., Points]:
    """A function that returns the points of an instrument: attributes, and the value, or the number of measurements
    (with ``"sum"``: their sum)."""
    metrics = telemetry.metrics()
    assert_semconv(metrics=metrics.values())

    def of(name: str, measure: str = "count") -> Points:
        found = metrics.get(name)
        data: Any = [] if found is None else found.data.data_points
        return [(dict(point.attributes), getattr(point, "value", getattr(point, measure, None))) for point in data]

    return of


def client(telemetry: Telemetry, *components: Any, clock: FakeClock | None = None, **options: Any) -> httpx.Client:
    tagging = Tagging(
        meter_provider=telemetry.meter_provider,
        tracer_provider=telemetry.tracer_provider,
        logger_provider=telemetry.logger_provider,
        call_span=True,
    )
    transport = flexmw.httpx.Transport(tagging, *components, clock=clock or FakeClock(), **options)
    return httpx.Client(transport=transport)


# --- money -----------------------------------------------------------------------------------------------------------


def test_an_ambiguous_outcome_is_counted_by_upstream(in_memory_telemetry: Telemetry) -> None:
    with HostileServer(["rst"], then="200") as server, client(in_memory_telemetry, Retry()) as caller:
        with pytest.raises(httpx.TransportError):
            caller.post(server.url, json={})
        caller.get(server.url)
        of = points(in_memory_telemetry)
    assert of("flexmw.client.outcomes") == [
        (
            {
                "flexmw.call.outcome": "ambiguous",
                "flexmw.retry.stop_reason": "unsafe_method",
                "server.address": HOST,
            },
            1,
        ),
        ({"flexmw.call.outcome": "answered", "server.address": HOST}, 1),
    ]
    assert of("flexmw.client.retry_stops")[0][0]["server.address"] == HOST


def test_a_body_that_breaks_is_ambiguous(in_memory_telemetry: Telemetry) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        def body() -> Any:
            yield b"{"
            raise httpx.RemoteProtocolError("cut")

        return httpx.Response(200, content=body())

    with client(in_memory_telemetry, Retry(), transport=httpx.MockTransport(respond)) as caller:
        with pytest.raises(httpx.RemoteProtocolError):
            caller.post("http://up.example/", json={})
        of = points(in_memory_telemetry)
    ((attributes, _),) = of("flexmw.client.outcomes")
    assert attributes["flexmw.call.outcome"] == "ambiguous"


def test_a_call_that_was_given_back_before_is_neither_a_send_nor_a_failure_of_its_own(
    in_memory_telemetry: Telemetry,
) -> None:
    with HostileServer(["rst"], then="200") as server, client(in_memory_telemetry, Retry()) as caller:
        for count in range(3):
            with pytest.raises(httpx.TransportError):
                caller.post(server.url, json={}, headers={"x-stainless-retry-count": str(count)})
        of = points(in_memory_telemetry)
    assert [(attributes["flexmw.call.outcome"], number) for attributes, number in of("flexmw.client.outcomes")] == [
        ("ambiguous", 1),
        ("given_back_before", 2),
    ]
    assert of("flexmw.client.requests") == [({"http.request.method": "POST", "server.address": HOST}, 1)]
    stops = {attributes["flexmw.retry.stop_reason"]: number for attributes, number in of("flexmw.client.retry_stops")}
    assert stops == {"unsafe_method": 1, "given_back_before": 2}
    durations = {attributes["error.type"]: n for attributes, n in of("flexmw.client.operation.duration")}
    assert durations["given_back_before"] == 2
    spans = [dict(span.attributes or {}) for span in in_memory_telemetry.spans if span.name == "flexmw.call"]
    assert [span["flexmw.retry.attempts"] for span in spans] == [1, 0, 0]
    assert [span["flexmw.retry.stop_reason"] for span in spans][1:] == ["given_back_before"] * 2
    names = [log.log_record.event_name for log in in_memory_telemetry.logs]
    assert names.count("http.client.request.exception") == 1


def test_what_was_really_sent_is_counted(in_memory_telemetry: Telemetry) -> None:
    with HostileServer(["500"], then="200") as server, client(in_memory_telemetry, Retry()) as caller:
        caller.get(server.url)
        with closed_port() as away, suppress(httpx.TransportError):
            caller.get(away)
        of = points(in_memory_telemetry)
    assert [number for _, number in of("flexmw.client.requests")] == [len(server.requests)] == [2]


async def test_a_cancelled_call_is_neither_answered_nor_failed(in_memory_telemetry: Telemetry) -> None:
    entered = asyncio.Event()

    async def respond(request: httpx.Request) -> httpx.Response:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    tagging = Tagging(meter_provider=in_memory_telemetry.meter_provider)
    transport = flexmw.httpx.AsyncTransport(tagging, Retry(), transport=httpx.MockTransport(respond))
    async with httpx.AsyncClient(transport=transport) as caller:
        task = asyncio.create_task(caller.post("http://up.example/", json={}))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    of = points(in_memory_telemetry)
    cancelled = {"flexmw.call.outcome": "cancelled", "flexmw.retry.stop_reason": "cancelled"}
    assert of("flexmw.client.outcomes") == [({**cancelled, "server.address": "up.example"}, 1)]


# --- streams ---------------------------------------------------------------------------------------------------------


def read_stream(telemetry: Telemetry, script: StreamServer, chance: float = 0.0) -> Callable[..., Points]:
    """Read one stream of a server with a key, whether it breaks or not, and return the points."""
    clock = FakeClock()
    retry = Retry(clock=clock, random=lambda: chance)
    with (
        HostileServer(script) as server,
        client(telemetry, retry, clock=clock) as caller,
        suppress(httpx.TransportError),
    ):
        caller.post(server.url, headers={"idempotency-key": "k-1"}, json={})
    return points(telemetry)


def test_the_cuts_of_a_stream_that_goes_on_are_counted_with_the_gap_of_each_resumption(
    in_memory_telemetry: Telemetry,
) -> None:
    script = StreamServer(cuts=[Cut(7), Cut(100)])
    of = read_stream(in_memory_telemetry, script, chance=1.0)
    assert of("flexmw.client.stream_cuts") == [({"error.type": "RemoteProtocolError", "server.address": HOST}, 2)]
    assert of("flexmw.client.stream_gap.duration") == [({"server.address": HOST}, 2)]
    assert of("flexmw.client.stream_losses") == []
    ((_, seconds),) = of("flexmw.client.stream_gap.duration", "sum")
    assert seconds == pytest.approx(2 * step_delay(0, 1.0))


def test_a_gap_lasts_until_the_stream_goes_on_however_many_requests_that_takes(in_memory_telemetry: Telemetry) -> None:
    script = StreamServer(cuts=[Cut(7)], refusals=[refusal(503, retry_after="2"), refusal(502)])
    of = read_stream(in_memory_telemetry, script)
    assert of("flexmw.client.stream_cuts")[0][1] == of("flexmw.client.stream_gap.duration")[0][1] == 1
    ((_, seconds),) = of("flexmw.client.stream_gap.duration", "sum")
    assert seconds >= 2
    assert of("flexmw.client.requests") == [({"http.request.method": "POST", "server.address": HOST}, 4)]


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (refusal(410, "idempotency_stream_gone"), "stream_gone"),
        (refusal(409, "idempotency_stream_changed"), "stream_changed"),
        (refusal(409, "idempotency_unknown"), "stream_lost"),
        (refusal(503, retry_after="9999"), "resume_exhausted"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_stream_that_is_lost_is_counted_by_reason_and_upstream(
    in_memory_telemetry: Telemetry, refused: Any, reason: str
) -> None:
    of = read_stream(in_memory_telemetry, StreamServer(cuts=[Cut(7)], refusals=[refused]))
    assert of("flexmw.client.stream_cuts") == [({"error.type": "RemoteProtocolError", "server.address": HOST}, 1)]
    assert of("flexmw.client.stream_losses") == [({"flexmw.retry.stop_reason": reason, "server.address": HOST}, 1)]
    assert of("flexmw.client.stream_gap.duration") == []


def test_a_clean_end_that_is_confirmed_is_no_cut(in_memory_telemetry: Telemetry) -> None:
    of = read_stream(in_memory_telemetry, StreamServer(body=b"data: 1\n\n"))
    assert of("flexmw.client.requests")[0][1] == 2
    assert of("flexmw.client.stream_cuts") == of("flexmw.client.stream_gap.duration") == []


async def test_a_stream_of_an_async_client_is_counted_and_names_no_upstream_where_none_may_be_named(
    in_memory_telemetry: Telemetry,
) -> None:
    tagging = Tagging(meter_provider=in_memory_telemetry.meter_provider, server_address=False)
    transport = flexmw.httpx.AsyncTransport(tagging, Retry(), clock=FakeClock())
    script = StreamServer(cuts=[Cut(7), Cut(9)], refusals=[None, refusal(410)])
    with HostileServer(script) as server:
        async with httpx.AsyncClient(transport=transport) as caller:
            with pytest.raises(httpx.RemoteProtocolError):
                await caller.post(server.url, headers={"idempotency-key": "k-1"}, json={})
    of = points(in_memory_telemetry)
    assert of("flexmw.client.stream_cuts") == [({"error.type": "RemoteProtocolError"}, 2)]
    assert of("flexmw.client.stream_gap.duration") == [({}, 1)]
    assert of("flexmw.client.stream_losses") == [({"flexmw.retry.stop_reason": "stream_gone"}, 1)]


# --- time ------------------------------------------------------------------------------------------------------------


def test_the_waits_of_retry_and_pace_are_told_apart_with_their_reasons(in_memory_telemetry: Telemetry) -> None:
    clock = FakeClock()
    responses = iter([httpx.Response(200, headers=LIMIT), httpx.Response(500), httpx.Response(200)])
    transport = httpx.MockTransport(lambda request: next(responses))
    with client(in_memory_telemetry, Retry(), Pace(clock=clock), clock=clock, transport=transport) as caller:
        for _ in range(2):
            caller.get("http://up.example/")
        of = points(in_memory_telemetry)
    waits = {
        (attributes["flexmw.wait.component"], attributes["flexmw.wait.reason"], attributes["server.address"])
        for attributes, _ in of("flexmw.client.wait.duration")
    }
    assert waits == {("retry", "backoff", "up.example"), ("pace", "limit", "up.example")}
    assert of("flexmw.client.retries")[0][0]["server.address"] == "up.example"


# --- stores ----------------------------------------------------------------------------------------------------------


def operations(of: Callable[[str], Points]) -> set[tuple[Any, ...]]:
    return {
        tuple(attributes.get(name) for name in ("flexmw.store.component", "flexmw.store.operation", "error.type"))
        for attributes, _ in of("flexmw.store.operation.duration")
    }


def app_of() -> Starlette:
    async def run(request: Request) -> JSONResponse:
        return JSONResponse({})

    return Starlette(routes=[Route("/jobs/{job}", run, methods=["GET", "POST"])])


async def test_the_operations_on_every_store_are_recorded(
    in_memory_telemetry: Telemetry, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flexmw.pace.registry.TIMEOUT", LONGEST_WAIT)  # an operation that is late has an error
    tagging = Tagging(meter_provider=in_memory_telemetry.meter_provider)
    limit = flexmw.RateLimit("9/minute", storage=redis_url, store_timeout=LONGEST_WAIT)
    keys = flexmw.Idempotency(storage=redis_url, store_timeout=LONGEST_WAIT)
    wrapped: Any = flexmw.wrap_app(app_of(), tagging, flexmw.Envelope(), limit, keys)
    async with client_of(wrapped) as caller:
        assert (await caller.post("/jobs/1", headers={"idempotency-key": "k"})).status_code == 200
        assert (await caller.get("/jobs/1")).status_code == 200
    paced = flexmw.httpx.Transport(
        tagging, Pace(storage=redis_url), transport=httpx.MockTransport(lambda request: httpx.Response(200))
    )
    with httpx.Client(transport=paced) as client:
        await asyncio.to_thread(client.get, "http://up.example/")
    of = points(in_memory_telemetry)
    assert operations(of) == {
        ("ratelimit", "decide", None),
        ("idempotency", "swap", None),
        ("pace", "swap", None),
    }
    routed = [attributes for attributes, _ in of("flexmw.idempotency.requests")]
    assert routed == [{"flexmw.idempotency.result": "stored", "http.route": "/jobs/{job}"}]
    assert of("flexmw.server.requests") == [({"http.response.status_code": 200, "http.route": "/jobs/{job}"}, 2)]
    await _close(wrapped)


async def _close(app: Any) -> None:
    while app is not None:
        if hasattr(app, "close"):
            await app.close()
        app = getattr(app, "app", None)


async def test_a_store_that_fails_is_recorded_with_its_error(in_memory_telemetry: Telemetry) -> None:
    away = f"redis://{HOST}:1"
    tagging = Tagging(meter_provider=in_memory_telemetry.meter_provider)
    limit = flexmw.RateLimit("9/minute", storage=away, on_store_failure="open")
    wrapped = flexmw.wrap_app(app_of(), tagging, flexmw.Envelope(), limit)
    async with client_of(wrapped) as caller:
        assert (await caller.get("/jobs/1")).status_code == 200
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    with httpx.Client(transport=flexmw.httpx.Transport(tagging, Pace(storage=away), transport=transport)) as client:
        await asyncio.to_thread(client.get, "http://up.example/")
    errors = {(component, error.rpartition(".")[2]) for component, _, error in operations(points(in_memory_telemetry))}
    assert errors == {("ratelimit", "ConnectionError"), ("pace", "ConnectionError")}
    await _close(wrapped)


# --- callers ---------------------------------------------------------------------------------------------------------


async def test_the_slots_in_use_are_counted_while_they_are_held(in_memory_telemetry: Telemetry) -> None:
    entered, opened = asyncio.Event(), asyncio.Event()

    async def wait(request: Request) -> JSONResponse:
        entered.set()
        await opened.wait()
        return JSONResponse({})

    tagging = Tagging(meter_provider=in_memory_telemetry.meter_provider)
    app = Starlette(routes=[Route("/", wait)])
    wrapped = flexmw.wrap_app(app, tagging, flexmw.Envelope(), flexmw.RateLimit("9/minute", concurrency=1))
    async with client_of(wrapped) as caller:
        first = asyncio.create_task(caller.get("/"))
        await entered.wait()
        assert (await caller.get("/")).status_code == 429
        held = points(in_memory_telemetry)("flexmw.rate_limiting.slots")
        opened.set()
        assert (await first).status_code == 200
        released = points(in_memory_telemetry)("flexmw.rate_limiting.slots")
    assert held == [({"flexmw.rate_limiting.policy": "1 at once"}, 1)]
    assert [number for _, number in released] == [-1]


def test_the_hottest_callers_of_the_last_minute_are_reported() -> None:
    clock = FakeClock()
    callers = HotCallers(2, clock.monotonic)
    for number in range(1000):
        for caller in ("hot", "hot", f"cold{number}", "warm"):
            callers.add(caller)
    assert [caller for _, caller in callers.top()] == ["hot", "warm"]  # of the first minute so far
    clock.advance(60.0)
    top = callers.top()
    assert [caller for _, caller in top] == ["hot", "warm"]
    assert top[0][0] == 2000
    assert len(callers._last) <= 100
    clock.advance(200.0)
    assert callers.top() == []


async def test_hot_callers_are_reported_by_hash_where_it_is_asked_for(in_memory_telemetry: Telemetry) -> None:
    clock = FakeClock()
    tagging = Tagging(meter_provider=in_memory_telemetry.meter_provider, hot_callers=1, clock=clock)
    wrapped = flexmw.wrap_app(app_of(), tagging, flexmw.Envelope(), flexmw.RateLimit("99/minute"))
    async with client_of(wrapped) as caller:
        for number in (1, 2, 2):
            await caller.get("/jobs/1", headers={"authorization": f"Bearer secret-{number}"})
        clock.advance(60.0)
    ((attributes, number),) = points(in_memory_telemetry)("flexmw.rate_limiting.hot_callers")
    assert number == 2
    assert len(attributes["flexmw.rate_limiting.key_hash"]) == 16
    assert "secret" not in str(attributes)


async def test_the_hot_callers_of_two_apps_are_reported_by_one_provider(in_memory_telemetry: Telemetry) -> None:
    async def call(tagging: Tagging, *tokens: str) -> None:
        wrapped = flexmw.wrap_app(app_of(), tagging, flexmw.Envelope(), flexmw.RateLimit("99/minute"))
        async with client_of(wrapped) as caller:
            for token in tokens:
                await caller.get("/jobs/1", headers={"authorization": f"Bearer {token}"})

    taggings = [Tagging(meter_provider=in_memory_telemetry.meter_provider, hot_callers=2) for _ in range(2)]
    await call(taggings[0], "both", "first")
    await call(taggings[1], "both", "both", "second")
    reported = points(in_memory_telemetry)("flexmw.rate_limiting.hot_callers")
    assert sorted(number for _, number in reported) == [1, 1, 3]
