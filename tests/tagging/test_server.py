"""The server beyond the matrix: other rooms' facts, exceptions by signal, spans of our own, websockets, warnings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

import flexmw
from flexmw.envelope import Envelope
from flexmw.kit.exchange import Exchange
from flexmw.ratelimit import RateLimit
from flexmw.tagging import Tagging
from flexmw.testing import FakeClock
from flexmw.testing.semconv import assert_semconv
from tests.servers import Serve
from tests.tagging.apps import APPS, Contrib, call, fastapi_app, starlette_app
from tests.tagging.sdk import Signals
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.usefixtures("stable_conventions")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def contrib(signals: Signals, app: Any) -> Any:
    return Contrib(app, tracer_provider=signals.tracer_provider, exclude_spans=["send", "receive"])


def checked(signals: Signals) -> None:
    assert_semconv(signals.spans, signals.metric_data(), signals.raw_logs)


@pytest.mark.anyio
async def test_a_limiters_decision_is_on_the_span_and_in_a_counter(signals: Signals) -> None:
    app = flexmw.wrap_app(starlette_app(), Tagging(**signals.options), Envelope(), RateLimit("2/minute"))
    app = contrib(signals, app)
    assert [(await call(app, "/ok")).status for _ in range(3)] == [200, 200, 429]
    results = [(span.attributes or {})["flexmw.rate_limiting.result"] for span in signals.spans]
    assert results == ["acquired", "acquired", "rejected"]
    last = dict(signals.spans[-1].attributes or {})
    assert last["flexmw.rate_limiting.limit"] == 2
    assert last["flexmw.rate_limiting.remaining"] == 0
    assert 0 < last["flexmw.rate_limiting.retry_after"] <= 60
    assert last["flexmw.error.code"] == "rate_limit_exceeded"
    assert last["flexmw.error.source"] == "rate_limiting"
    assert signals.spans[-1].status.status_code is StatusCode.UNSET
    counted = {a["flexmw.rate_limiting.result"]: v for a, v in signals.points("flexmw.rate_limiting.requests")}
    assert counted == {"acquired": 2, "rejected": 1}
    ((attributes, seconds),) = signals.points("flexmw.rate_limiting.check.duration")
    assert set(attributes) == {"flexmw.rate_limiting.policy"}
    assert seconds > 0
    checked(signals)


@pytest.mark.anyio
async def test_error_responses_are_counted_by_route_and_never_by_path(signals: Signals) -> None:
    async def item(request: Request) -> JSONResponse:
        raise flexmw.ModelNotFound("foo")

    app = flexmw.wrap_app(Starlette(routes=[Route("/item/{id}", item)]), Tagging(**signals.options), Envelope())
    for path in ("/item/1", "/item/2", "/nowhere/3", "/nowhere/4"):
        await call(app, path)
    points = signals.points("flexmw.server.error_responses")
    assert sorted((a.get("http.route", ""), a["flexmw.error.code"], value) for a, value in points) == [
        ("", "unknown_url", 2),
        ("/item/{id}", "model_not_found", 2),
    ]
    checked(signals)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("opt_in", "logs", "signals_of_it"),
    [
        ("", True, ["log"]),
        ("logs", True, ["log"]),
        ("logs/dup", True, ["span", "log"]),
        ("", False, ["span"]),
        ("logs", False, []),
        ("logs/dup", False, ["span"]),
    ],
)
async def test_exceptions_go_to_the_signal_that_was_opted_into(
    opt_in: str, logs: bool, signals_of_it: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", opt_in)
    with Signals(logs=logs) as signals:
        app = contrib(signals, flexmw.wrap_app(starlette_app(), Tagging(**signals.options), Envelope()))
        for _ in range(2):
            await call(app, "/broken")
        assert [signal for signal, _ in signals.exceptions] == sorted(signals_of_it * 2, reverse=True)
    warned = [each.getMessage() for each in caplog.records if each.name == "flexmw.tagging"]
    assert len(warned) == (1 if not signals_of_it else 0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("opt_in", "ours", "signals_of_it"),
    [("", False, ["span"]), ("logs", False, []), ("logs/dup", True, ["span", "log"]), ("", True, ["log"])],
)
@pytest.mark.parametrize("case", ["torn", "broken"])
async def test_exceptions_that_fastapi_does_not_log_go_to_the_signal_that_was_opted_into(
    case: str, opt_in: str, ours: bool, signals_of_it: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", opt_in)
    with Signals(logs=ours) as signals:
        app = fastapi_app({**signals.options, "logs": False})
        await call(flexmw.wrap_app(app, Tagging(**signals.options), Envelope()), f"/{case}")
        assert [signal for signal, _ in signals.exceptions] == signals_of_it
        checked(signals)


@pytest.mark.anyio
async def test_an_exception_event_belongs_to_the_requests_trace_though_its_span_has_ended(signals: Signals) -> None:
    app = contrib(signals, flexmw.wrap_app(starlette_app(), Tagging(**signals.options), Envelope()))
    await call(app, "/broken")
    (record,) = signals.logs
    assert record.event_name == "http.server.request.exception"
    assert record.trace_id == signals.server_span.get_span_context().trace_id
    assert record.span_id == signals.server_span.get_span_context().span_id
    assert record.attributes["http.route"] == "/broken"
    assert record.attributes["flexmw.error.source"] == "unhandled_exception"
    assert 'raise ValueError("broken")' in record.attributes["exception.stacktrace"]
    checked(signals)


@pytest.mark.anyio
@pytest.mark.parametrize("value", ["2", "250", "x"])
async def test_an_sdks_attempt_number_is_on_the_span(value: str, signals: Signals) -> None:
    app = contrib(signals, flexmw.wrap_app(starlette_app(), Tagging(**signals.options), Envelope()))
    await call(app, "/ok", headers=(("x-stainless-retry-count", value),))
    expected = {"2": 2, "250": 100, "x": None}[value]
    assert (signals.server_span.attributes or {}).get("flexmw.request.retry_count") == expected


def emitting_app(*events: tuple[str, dict[str, Any]], **facts: Any) -> Any:
    """An app inside which components tell of events."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchange = Exchange.of(scope)
        exchange.facts.update({name.replace("__", "."): value for name, value in facts.items()})
        for event, details in events:
            exchange.emit(event, details)
        await starlette_app()(scope, receive, send)

    return app


@pytest.mark.anyio
async def test_stores_that_do_not_respond_are_events_with_their_exception(signals: Signals) -> None:
    error = ConnectionError("cannot reach redis://app:hunter2@cache")
    limited = {"policy": "10/minute", "result": "storage_error_allowed", "exception": error}
    app = emitting_app(
        ("flexmw.rate_limiting.storage_failed", limited),
        ("flexmw.rate_limiting.decided", {"policy": "10/minute", "duration": 0.1, "error_type": "ConnectionError"}),
        ("flexmw.idempotency.store_failed", {"exception": error}),
        ("acme.audit.done", {}),
    )
    await call(contrib(signals, Tagging(**signals.options).asgi(app)), "/ok")
    assert [(record.event_name, record.severity_text) for record in signals.logs] == [
        ("flexmw.rate_limiting.storage_failed", "WARN"),
        ("flexmw.idempotency.store_failed", "WARN"),
    ]
    assert {record.attributes["exception.type"] for record in signals.logs} == {"ConnectionError"}
    assert all("hunter2" not in str(record.attributes) for record in signals.logs)
    assert signals.points("flexmw.rate_limiting.check.duration") == [
        ({"flexmw.rate_limiting.policy": "10/minute", "error.type": "ConnectionError"}, 0.1)
    ]
    checked(signals)


@pytest.mark.anyio
async def test_a_fact_outside_its_set_is_counted_as_other(signals: Signals) -> None:
    app = emitting_app(flexmw__idempotency__result="sk-secret", flexmw__rate_limiting__result="sk-secret")
    await call(Tagging(**signals.options).asgi(app), "/ok")
    ((counted, number),) = signals.points("flexmw.idempotency.requests")
    assert (counted["flexmw.idempotency.result"], number) == ("_OTHER", 1)
    (limited,) = signals.points("flexmw.rate_limiting.requests")
    assert limited[0]["flexmw.rate_limiting.result"] == "_OTHER"


@pytest.mark.anyio
@pytest.mark.parametrize("ended", [True, False])
async def test_a_component_that_holds_the_end_of_a_stream_reports_its_outcome(ended: bool, signals: Signals) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchange = Exchange.of(scope)
        with signals.tracer_provider.get_tracer("host").start_as_current_span("GET", kind=SpanKind.SERVER):
            exchange.emit("flexmw.stream.began", {})
            if ended:
                exchange.emit("flexmw.stream.ended", {})
        await starlette_app()(scope, receive, send)

    await call(Tagging(**signals.options).asgi(app), "/stream")
    assert (signals.server_span.attributes or {})["flexmw.response.outcome"] == ("complete" if ended else "failed")


# --- a span of our own -----------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "status", "error_type"),
    [("ok", StatusCode.UNSET, None), ("missing", StatusCode.UNSET, None), ("offline", StatusCode.ERROR, "503")],
)
async def test_server_span_opens_a_complete_span_where_nothing_records(
    path: str, status: StatusCode, error_type: str | None, signals: Signals
) -> None:
    app = flexmw.wrap_app(starlette_app(), Tagging(server_span=True, **signals.options), Envelope())
    parent = "00-11111111111111111111111111111111-2222222222222222-01"
    received = await call(app, f"/{path}", query="api_key=abc&page=2", headers=(("traceparent", parent),))
    span = signals.server_span
    assert span.name == f"GET /{path}"
    assert span.status.status_code is status
    assert span.parent is not None
    assert format(span.get_span_context().trace_id, "032x") == "1" * 32
    attributes = dict(span.attributes or {})
    assert attributes["http.response.status_code"] == received.status
    assert attributes["http.route"] == f"/{path}"
    assert attributes["url.query"] == "api_key=REDACTED&page=2"
    assert attributes["server.address"] == "127.0.0.1"
    assert attributes["server.port"] == 80
    assert attributes.get("error.type") == error_type
    assert attributes["client.address"] == "127.0.0.1"
    ((measured, _),) = signals.points("http.server.request.duration")
    assert measured.get("error.type") == error_type
    assert measured["http.response.status_code"] == received.status
    assert not trace.get_current_span().is_recording()
    checked(signals)


@pytest.mark.anyio
@pytest.mark.parametrize("opened_at_arrival", [True, False])
async def test_the_own_server_span_takes_its_times_from_the_clock(opened_at_arrival: bool, signals: Signals) -> None:
    clock = FakeClock(now=1_800_000_000.0)

    class Refusing:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            clock.advance(2.5)
            await send({"type": "http.response.start", "status": 429, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    inner = starlette_app() if opened_at_arrival else fastapi_app(signals.options)
    app = Tagging(server_span=opened_at_arrival, clock=clock, **signals.options).asgi(Refusing(inner))
    await call(app, "/ok")
    span = signals.server_span
    assert (span.start_time, span.end_time) == (1_800_000_000_000_000_000, 1_800_000_002_500_000_000)
    assert [seconds for _, seconds in signals.points("http.server.request.duration")] == [2.5]


@pytest.mark.anyio
async def test_a_port_that_the_server_gives_as_a_text_is_a_number_on_the_span(signals: Signals) -> None:
    app = Tagging(server_span=True, **signals.options).asgi(starlette_app())

    async def granian(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "server": ("127.0.0.1", "8443")}, receive, send)

    await call(granian, "/ok", host=False)
    assert (signals.server_span.attributes or {})["server.port"] == 8443


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("host", "address", "port"),
    [("api.test:8443", "api.test", 8443), ("api.test", "api.test", 80), ("[::1]:81", "[::1]", 81)],
)
async def test_the_own_server_span_has_the_address_of_the_host_header(
    host: str, address: str, port: int, signals: Signals
) -> None:
    app = Tagging(server_span=True, **signals.options).asgi(starlette_app())
    await call(app, "/ok", method="BREW", headers=(("host", host), ("user-agent", "test/1")), host=False)
    attributes = dict(signals.server_span.attributes or {})
    assert (attributes["server.address"], attributes["server.port"]) == (address, port)
    assert attributes["http.request.method"] == "_OTHER"
    assert attributes["http.request.method_original"] == "BREW"
    assert attributes["user_agent.original"] == "test/1"
    assert signals.server_span.name == "HTTP /ok"


@pytest.mark.anyio
@pytest.mark.parametrize("logs", [True, False])
@pytest.mark.parametrize("case", ["broken", "torn", "handled"])
async def test_the_own_server_span_has_each_exception_once(case: str, logs: bool) -> None:
    with Signals(logs=logs) as signals:
        app = flexmw.wrap_app(starlette_app(), Tagging(server_span=True, **signals.options), Envelope())
        await call(app, f"/{case}")
        assert [signal for signal, _ in signals.exceptions] == ["log" if logs else "span"]
        assert signals.server_span.status.status_code is StatusCode.ERROR
        assert signals.server_span.status.description is None


@pytest.mark.anyio
@pytest.mark.parametrize("setup", [name for name in APPS if name != "nothing"])
async def test_a_second_server_span_is_never_opened(setup: str, signals: Signals) -> None:
    tagging = Tagging(server_span=True, **signals.options)
    app = APPS[setup](signals, lambda app: tagging.asgi(Envelope().asgi(app)))
    for path in ("/ok", "/missing", "/offline"):
        await call(app, path)
    assert len(signals.of_kind(SpanKind.SERVER)) == 3


@pytest.mark.anyio
async def test_a_bare_span_around_the_app_is_enriched(signals: Signals) -> None:
    app = flexmw.wrap_app(starlette_app(), Tagging(**signals.options), Envelope())
    with signals.tracer_provider.get_tracer("app").start_as_current_span("work"):
        await call(app, "/offline")
    (span,) = signals.spans
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "503"
    assert (span.attributes or {})["flexmw.error.code"] == "service_unavailable"


@pytest.mark.anyio
async def test_a_span_of_the_apps_own_work_is_not_mistaken_for_the_requests(signals: Signals) -> None:
    async def work(scope: Any, receive: Any, send: Any) -> None:
        with signals.tracer_provider.get_tracer("app").start_as_current_span("work"):
            await starlette_app()(scope, receive, send)

    await call(contrib(signals, flexmw.wrap_app(work, Tagging(**signals.options), Envelope())), "/missing")
    (inner,) = signals.of_kind(SpanKind.INTERNAL)
    assert inner.attributes == {}
    assert (signals.server_span.attributes or {})["flexmw.error.code"] == "not_found"


@pytest.mark.anyio
async def test_a_span_that_is_not_sampled_costs_no_attribute_and_still_counts() -> None:
    with Signals(sampler=ALWAYS_OFF) as signals:
        app = contrib(signals, flexmw.wrap_app(starlette_app(), Tagging(**signals.options), Envelope()))
        await call(app, "/broken")
        assert signals.spans == []
        assert [signal for signal, _ in signals.exceptions] == ["log"]
        assert len(signals.points("flexmw.server.error_responses")) == 1


@pytest.mark.anyio
async def test_the_context_is_restored_after_a_request(signals: Signals) -> None:
    before = context.get_current()
    app = flexmw.wrap_app(starlette_app(), Tagging(server_span=True, **signals.options), Envelope())
    for path in ("/ok", "/broken"):
        await call(app, path)
    assert context.get_current() == before


@pytest.mark.anyio
async def test_one_tagging_inside_another_records_nothing_twice(signals: Signals) -> None:
    inner = flexmw.wrap_app(starlette_app(), Tagging(**signals.options), Envelope())
    await call(contrib(signals, Tagging(**signals.options).asgi(inner)), "/broken")
    assert [name for _, name in signals.exceptions] == ["ValueError"]
    assert sum(value for _, value in signals.points("flexmw.server.error_responses")) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
async def test_a_real_client_that_leaves_a_stream_is_distinguished_from_one_that_stays(
    server: Any, serve: Serve, signals: Signals
) -> None:
    async def endless(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            for n in range(100_000):
                yield b"x" * 65536
                if n > 2:
                    await anyio.sleep(0.005)

        return StreamingResponse(chunks())

    app = Starlette(routes=[Route("/endless", endless), *starlette_app().routes])
    served = serve(contrib(signals, flexmw.wrap_app(app, Tagging(**signals.options), Envelope())), server=server)
    async with httpx.AsyncClient(base_url=served.url, trust_env=False, timeout=LONGEST_WAIT) as client:
        assert (await client.get("/stream")).status_code == 200
        await anyio.to_thread.run_sync(signals.wait_for_server_spans, 1)
        async with client.stream("GET", "/endless") as response:
            async for _ in response.aiter_raw():
                break
    await anyio.to_thread.run_sync(signals.wait_for_server_spans, 2)
    stayed, left = ((span.attributes or {})["flexmw.response.outcome"] for span in signals.of_kind(SpanKind.SERVER))
    assert stayed == "complete"
    assert left in ("client_disconnected", "cancelled")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_cancelled_request_has_not_failed(anyio_backend: str, signals: Signals) -> None:
    started = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        started.set()
        await anyio.sleep_forever()

    async def nothing(*_: Any) -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    tagged = Tagging(server_span=True, **signals.options).asgi(app)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tagged, scope, nothing, nothing)
        await started.wait()
        tasks.cancel_scope.cancel()
    assert signals.server_span.status.status_code is StatusCode.UNSET
    assert (signals.server_span.attributes or {})["flexmw.response.outcome"] == "cancelled"
    assert "error.type" not in (signals.server_span.attributes or {})
    assert signals.exceptions == []


@pytest.mark.anyio
async def test_without_the_private_logs_module_exceptions_go_to_the_span(
    signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flexmw.tagging.otel._logs", None)
    app = contrib(signals, flexmw.wrap_app(starlette_app(), Tagging(**signals.options), Envelope()))
    await call(app, "/broken")
    assert [signal for signal, _ in signals.exceptions] == ["span"]
