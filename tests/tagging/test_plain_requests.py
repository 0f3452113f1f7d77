"""A request with nothing to write on its span takes the short way, and what is recorded of it is the same."""

from __future__ import annotations

import gc
from asyncio import CancelledError
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, ClassVar
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span
from starlette.applications import Starlette
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as Native
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from flexmw import ModelNotFound
from flexmw.envelope import Envelope
from flexmw.kit.exchange import Exchange
from flexmw.tagging import Tagging
from flexmw.tagging.plain import PlainRequest
from flexmw.tagging.request import RequestTelemetry
from tests.tagging.apps import APPS, call
from tests.tagging.sdk import Signals
from tests.tagging.setups import INSTRUMENTED_INSIDE, OWN_SPANS, WITHOUT_FASTAPI

Setup = Callable[[Signals, Callable[[Any], Any]], Any]

SETUPS: dict[str, Setup] = {
    **{f"app: {name}": setup for name, setup in APPS.items()},
    **{f"own span: {name}": setup for name, setup in OWN_SPANS.items()},
    **{f"without FastAPI's: {name}": setup for name, setup in WITHOUT_FASTAPI.items()},
    **{
        f"inside: {name}": lambda signals, wrap, make=make: wrap(make(signals))  # type: ignore[misc]
        for name, make in INSTRUMENTED_INSIDE.items()
    },
}
COUNT = ("x-stainless-retry-count", "2")
REQUESTS: list[tuple[str, Any]] = [("/ok", ()), ("/ok", (COUNT,)), ("/ok", ()), ("/nowhere", ()), ("/stream", ())]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = [pytest.mark.usefixtures("stable_conventions"), pytest.mark.anyio]


async def test_a_plain_request_is_an_exchange_with_every_field(signals: Signals) -> None:
    fields: list[set[str]] = []

    async def look(app: Any, scope: Any, receive: Any, send: Any) -> None:
        if type(exchange := scope["flexmw"]) is PlainRequest:
            fields.append({name for name in Exchange.__slots__ if hasattr(exchange, name)})
        await app(scope, receive, send)

    tagging = Tagging(**signals.options)
    app = SETUPS["inside: FastAPI"](signals, lambda app: tagging.asgi(partial(look, app)))
    for _ in range(3):
        await call(app, "/ok")
    assert fields[-1:] == [{name for name in Exchange.__slots__ if hasattr(Exchange.of({}), name)}]


async def recorded(setup: Setup, *, plain: bool, sampled: bool, envelope: bool) -> tuple[Any, ...]:
    """What is exported of a number of requests, but times and ids."""
    with Signals(**({} if sampled else {"sampler": ALWAYS_OFF})) as signals:
        tagging = Tagging(**signals.options)
        if not plain:
            object.__setattr__(tagging._settings, "has_plain_requests", False)
        app = setup(signals, lambda app: tagging.asgi(Envelope().asgi(app) if envelope else app))
        responses = [(await call(app, path, headers=headers)).status for path, headers in REQUESTS]
        spans = [(span.name, span.kind, span.status.status_code, dict(span.attributes or {})) for span in signals.spans]
        data = {metric.name: metric.data.data_points for metric in signals.metric_data()}
        counts = [
            (dict(point.attributes), point.value, [bool(exemplar.span_id) for exemplar in point.exemplars])
            for point in data["flexmw.server.requests"]
        ]
        return responses, spans, counts, signals.exceptions, vars(tagging._settings.otel)["live"]


@pytest.mark.parametrize("envelope", [True, False], ids=["envelope", "bare"])
@pytest.mark.parametrize("sampled", [True, False], ids=["sampled", "unsampled"])
@pytest.mark.parametrize("setup", SETUPS)
async def test_a_plain_request_is_recorded_like_any_other_one(setup: str, sampled: bool, envelope: bool) -> None:
    short, long = [
        await recorded(SETUPS[setup], plain=plain, sampled=sampled, envelope=envelope) for plain in (True, False)
    ]
    assert short == long
    assert sum(count for _, count, _ in short[2]) == len(REQUESTS)


@pytest.mark.parametrize("sampled", [True, False], ids=["sampled", "unsampled"])
@pytest.mark.parametrize("setup", ["inside: FastAPI", "without FastAPI's: off, Starlette's around"])
async def test_a_request_with_nothing_to_write_takes_the_short_way(
    setup: str, sampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = []
    for cls, name in ((RequestTelemetry, "_start"), (RequestTelemetry, "finish"), (PlainRequest, "_count")):
        method = getattr(cls, name)
        monkeypatch.setattr(cls, name, lambda *a, method=method: long.append(method.__name__) or method(*a))
    with Signals(**({} if sampled else {"sampler": ALWAYS_OFF})) as signals:
        tagging = Tagging(**signals.options)
        app = SETUPS[setup](signals, lambda app: tagging.asgi(Envelope().asgi(app)))
        for _ in range(3):  # the first unsampled one finds out that a span is open, the third one notes its count
            await call(app, "/ok")
        del long[:]
        await call(app, "/ok")
        assert long == []
        await call(app, "/ok", headers=(COUNT,))
        assert long == ["_start", "finish"] * sampled
        await call(app, "/nowhere")
        assert long[-2:] == ["_start", "finish"]


START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"ok"}


async def fails_at_the_end(scope: Any, send: Any) -> None:
    await send(END)
    raise RuntimeError


async def ends_twice(scope: Any, send: Any) -> None:
    await send(END)
    await send(END)


async def knows_more_after_the_end(scope: Any, send: Any) -> None:
    await send(END)
    scope["flexmw"].facts["flexmw.idempotency.result"] = "stored"


async def knows_more_before_the_end(scope: Any, send: Any) -> None:
    scope["flexmw"].facts["flexmw.idempotency.result"] = "stored"
    await send(END)


async def emits_after_the_end(scope: Any, send: Any) -> None:
    await send(END)
    scope["flexmw"].emit("acme.event", {})


async def has_a_route_that_raises(scope: Any, send: Any) -> None:
    class Route:
        @property
        def path_format(self) -> str:
            raise RuntimeError

    scope["route"] = Route()
    await send(END)


async def has_a_route_with_a_strange_template(scope: Any, send: Any) -> None:
    class Route:
        path_format: ClassVar[list[str]] = ["/ok"]

    scope["route"] = Route()
    await send(END)


ENDS = [
    fails_at_the_end,
    ends_twice,
    knows_more_after_the_end,
    knows_more_before_the_end,
    emits_after_the_end,
    has_a_route_that_raises,
    has_a_route_with_a_strange_template,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_a_request_is_counted_once_however_it_ends(end: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await end(scope, send)

    results = []
    for plain in (True, False):
        with Signals() as signals:
            tagging = Tagging(**signals.options)
            if not plain:
                object.__setattr__(tagging._settings, "has_plain_requests", False)
            instrumented = Native(tagging.asgi(app), tracer_provider=signals.tracer_provider)
            for _ in range(4):  # the third one is counted without a look at the route
                with suppress(RuntimeError):
                    await call(instrumented, "/ok")
            data = {metric.name: metric.data.data_points for metric in signals.metric_data()}
            counts = {name: [(dict(point.attributes), point.value) for point in data[name]] for name in sorted(data)}
            results.append((counts, [dict(span.attributes or {}) for span in signals.spans], signals.exceptions))
    assert results[0] == results[1]
    assert sum(number for _, number in results[0][0]["flexmw.server.requests"]) == 4


async def test_equal_templates_of_an_app_and_of_its_mount_are_counted_apart() -> None:
    routes = [Route("/ok", lambda request: PlainTextResponse("ok"))]
    with Signals() as signals:
        app = Tagging(**signals.options).asgi(Starlette(routes=[Mount("/v1", routes=routes), *routes]))
        app = Native(app, tracer_provider=signals.tracer_provider)
        for path in ("/ok", "/v1/ok", "/ok", "/v1/ok", "/ok", "/v1/ok", "/ok"):
            await call(app, path)
        counted = {point["http.route"]: number for point, number in signals.points("flexmw.server.requests")}
    assert counted == {"/ok": 4, "/v1/ok": 3}


async def test_a_message_after_the_app_has_returned_is_sent_and_not_counted() -> None:
    sends = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sends.append(send)
        await send(START)
        if scope["path"] == "/ok":
            await send(END)

    with Signals() as signals:
        instrumented = Native(Tagging(**signals.options).asgi(app), tracer_provider=signals.tracer_provider)
        for path in ("/ok", "/ok", "/ok", "/incomplete"):
            received = await call(instrumented, path)
        await sends[-1](END)
        assert received.body == b"ok"
        assert [number for _, number in signals.points("flexmw.server.requests")] == [4]


def body(*, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": more}


OTHERS: list[Any] = [
    "fact",
    "emit",
    {"type": "http.response.trailers", "headers": []},
    RuntimeError("app"),
    CancelledError(),
    ModelNotFound("foo"),
    OSError("of the app"),
]
"""Steps of an app that may come at any moment: an exception is raised, a message sent."""

SCRIPTS = st.builds(
    lambda before, status, within, end, after: [*before, {**START, "status": status}, *within, *end, *after],
    st.lists(st.sampled_from(["receive", "fact", "emit"]), max_size=1),
    st.sampled_from([200, 204, 404, 500, 503]),
    st.lists(st.sampled_from([body(more=True), *OTHERS]), max_size=2),
    st.sampled_from([[body(more=False)], [body(more=False)], [{"type": "http.response.pathsend", "path": "/"}], []]),
    st.lists(st.sampled_from([body(more=True), body(more=False), *OTHERS]), max_size=2),
)


async def play(script: list[Any], scope: Any, receive: Any, send: Any) -> None:
    for step in script:
        if isinstance(step, BaseException):
            raise type(step)(*step.args)
        if step == "receive":
            await receive()
        elif step == "fact":
            scope["flexmw"].facts["flexmw.idempotency.result"] = "stored"
        elif step == "emit":
            scope["flexmw"].emit("acme.event", {})
        else:
            await send(dict(step))


@settings(max_examples=25)
@given(
    scripts=st.lists(SCRIPTS, min_size=6, max_size=6),
    fails_at=st.lists(st.sampled_from([None, None, 0, 1, 2]), min_size=6, max_size=6),
    sampled=st.booleans(),
    around=st.booleans(),
    envelope=st.booleans(),
)
async def test_whatever_an_app_sends_is_recorded_as_by_full_telemetry(
    scripts: list[list[Any]], fails_at: list[int | None], *, sampled: bool, around: bool, envelope: bool
) -> None:
    results = []
    for plain in (True, False):
        with Signals(**({} if sampled else {"sampler": ALWAYS_OFF})) as signals:
            tagging = Tagging(**signals.options)
            if not plain:
                object.__setattr__(tagging._settings, "has_plain_requests", False)
            current: list[Any] = []

            async def app(scope: Any, receive: Any, send: Any, current: list[Any] = current) -> None:
                await play(current[-1], scope, receive, send)

            app = Envelope().asgi(app) if envelope else app
            app = Native(app, tracer_provider=signals.tracer_provider) if not around else app
            app = tagging.asgi(app)
            app = Native(app, tracer_provider=signals.tracer_provider) if around else app
            for script, fail_at in [([START, END], None)] * 2 + list(zip(scripts, fails_at, strict=True)):
                current.append(script)
                with suppress(Exception, CancelledError):
                    await call(app, "/ok", fail_send_at=fail_at)
            counts = [(dict(point), number) for point, number in signals.points("flexmw.server.requests")]
            spans = [(span.status.status_code, dict(span.attributes or {})) for span in signals.spans]
            results.append((sorted(counts, key=str), spans, signals.exceptions))
    assert results[0] == results[1]
    assert sum(number for _, number in results[0][0]) == 8


class Marker:
    """An object whose end can be seen."""


@pytest.mark.parametrize("path", ["/ok", "/stream"])
async def test_nothing_keeps_the_exchange_of_a_request_that_is_over(path: str) -> None:
    markers, scopes = [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        scope["flexmw"].remembered = marker = Marker()
        markers.append(ref(marker))
        await send(START)
        if path == "/stream":
            await send({**END, "more_body": True})
        await send(END)

    gc.disable()  # it would free what is in a reference cycle
    try:
        with Signals() as signals:
            instrumented = Native(Tagging(**signals.options).asgi(app), tracer_provider=signals.tracer_provider)
            for _ in range(3):
                await call(instrumented, path)
            assert "flexmw" not in scopes[-1]
            assert markers[-1]() is None
    finally:
        gc.enable()


async def test_an_observer_of_a_plain_request_gets_the_events_that_tagging_gets() -> None:
    events = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchange = scope["flexmw"]
        exchange.subscribe(lambda event, details: events.append(event))
        exchange.emit("flexmw.rate_limiting.slot_taken", {"policy": "p"})
        await send(START)
        await send(END)

    with Signals() as signals:
        instrumented = Native(Tagging(**signals.options).asgi(app), tracer_provider=signals.tracer_provider)
        for _ in range(4):
            await call(instrumented, "/ok")
        assert events == ["flexmw.rate_limiting.slot_taken"] * 4
        assert [number for _, number in signals.points("flexmw.rate_limiting.slots")] == [4]
        assert [number for _, number in signals.points("flexmw.server.requests")] == [4]


@pytest.mark.parametrize("sampled", [True, False], ids=["sampled", "unsampled"])
async def test_an_app_that_is_called_twice_with_one_scope_is_observed_twice(sampled: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(END)

    with Signals(**({} if sampled else {"sampler": ALWAYS_OFF})) as signals:
        tagged = Tagging(**signals.options).asgi(Tagging(**signals.options).asgi(app))

        async def twice(scope: Any, receive: Any, send: Any) -> None:
            await tagged(scope, receive, send)
            await tagged(scope, receive, send)

        instrumented = Native(twice, tracer_provider=signals.tracer_provider)
        for _ in range(3):
            await call(instrumented, "/ok")
        assert [number for _, number in signals.points("flexmw.server.requests")] == [6]


@pytest.mark.parametrize("parent", [None, "remote", "unsampled"])
@pytest.mark.parametrize("fails", ["raise", "server's send", "500"])
async def test_a_failure_beside_a_span_that_does_not_record_is_reported_once(parent: str | None, fails: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fails" and fails == "raise":
            raise RuntimeError
        await send({**START, "status": 500 if scope["path"] == "/fails" and fails == "500" else 200})
        await send(END)

    results = []
    span = NonRecordingSpan(SpanContext(1, 2, is_remote=parent == "remote"))
    for plain in (True, False):
        with Signals(sampler=ALWAYS_OFF) as signals:
            tagging = Tagging(**signals.options)
            if not plain:
                object.__setattr__(tagging._settings, "has_plain_requests", False)
            tagged = tagging.asgi(app)
            with use_span(span) if parent else nullcontext():
                for _ in range(3):
                    await call(tagged, "/ok")
                await call(tagged, "/fails", fail_send_at=1 if fails == "server's send" else None)
            counts = [(dict(point), number) for point, number in signals.points("flexmw.server.requests")]
            results.append((counts, signals.exceptions))
    assert results[0] == results[1]
    assert sum(number for _, number in results[0][0]) == 4
    assert len(results[0][1]) == (fails != "500")
