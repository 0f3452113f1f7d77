"""Tagging inside and outside of instruments: where it sees no span it warns once, and records what it can."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from opentelemetry._logs import NoOpLoggerProvider
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider

import flexmw
from flexmw.envelope import Envelope
from flexmw.tagging import Tagging
from flexmw.testing import FakeClock
from flexmw.testing.semconv import assert_semconv
from tests.tagging.apps import APPS, Native, call, fastapi_app, starlette_app
from tests.tagging.sdk import Signals

pytestmark = pytest.mark.usefixtures("stable_conventions")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_tagging_that_sees_no_span_warns_once(signals: Signals, caplog: pytest.LogCaptureFixture) -> None:
    app = flexmw.wrap_app(starlette_app(), Tagging(**signals.options), Envelope())
    for _ in range(3):
        await call(app, "/ok")
    (warning,) = [each for each in caplog.records if each.name == "flexmw.tagging"]
    assert warning.levelno == logging.WARNING
    assert "Tagging(server_span=True)" in warning.getMessage()


@pytest.mark.anyio
@pytest.mark.parametrize("setup", [name for name in APPS if name != "nothing"])
async def test_a_tagging_that_sees_a_span_does_not_warn(
    setup: str, signals: Signals, caplog: pytest.LogCaptureFixture
) -> None:
    app = APPS[setup](signals, lambda app: flexmw.wrap_app(app, Tagging(**signals.options), Envelope()))
    for path in ("/ok", "/missing", "/offline", "/torn", *(["/broken"] if setup != "starlette_native" else [])):
        await call(app, path)
    assert [each for each in caplog.records if each.name == "flexmw.tagging"] == []


@pytest.mark.anyio
@pytest.mark.parametrize("setup", [name for name in APPS if name != "nothing"])
async def test_a_tagging_that_sees_only_unsampled_spans_does_not_warn(
    setup: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Signals(sampler=ALWAYS_OFF) as signals:
        app = APPS[setup](signals, lambda app: flexmw.wrap_app(app, Tagging(**signals.options), Envelope()))
        for path in ("/ok", "/missing"):
            await call(app, path)
    assert [each for each in caplog.records if each.name == "flexmw.tagging"] == []


@pytest.mark.anyio
async def test_starlettes_span_inside_that_closes_before_the_response_is_warned_about_and_the_advice_helps(
    signals: Signals, caplog: pytest.LogCaptureFixture
) -> None:
    app = APPS["starlette_native"](signals, lambda app: flexmw.wrap_app(app, Tagging(**signals.options), Envelope()))
    for _ in range(2):
        await call(app, "/broken")
    (warning,) = [each.getMessage() for each in caplog.records if each.name == "flexmw.tagging"]
    assert "app = OpenTelemetryMiddleware(flexmw.wrap_app(app))" in warning
    assert "flexmw.error.code" not in (signals.spans[-1].attributes or {})
    advised = flexmw.wrap_app(starlette_app(), Tagging(**signals.options), Envelope())
    await call(Native(advised, tracer_provider=signals.tracer_provider), "/broken")
    assert (signals.spans[-1].attributes or {})["flexmw.error.code"] == "internal_error"
    assert len([each for each in caplog.records if each.name == "flexmw.tagging"]) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("native", ["starlette", "fastapi"])
async def test_the_response_of_an_envelope_further_out_is_on_the_span_of_the_instrument_in_between(
    native: str, signals: Signals
) -> None:
    options = signals.options
    app: Any = fastapi_app(options) if native == "fastapi" else starlette_app()
    app.add_middleware(Tagging(**options).asgi)
    if native == "starlette":
        app.add_middleware(Native, tracer_provider=signals.tracer_provider)
    received = await call(Envelope().asgi(app), "/broken")
    error = json.loads(received.body)["error"]
    attributes = dict(signals.server_span.attributes or {})
    assert (attributes["flexmw.error.type"], attributes["flexmw.error.code"]) == (error["type"], error["code"])
    assert attributes["flexmw.error.source"] == "unhandled_exception"
    ((counted, _),) = signals.points("flexmw.server.error_responses")
    assert (counted["flexmw.error.code"], counted["http.response.status_code"]) == (error["code"], received.status)
    assert [name for _, name in signals.exceptions] == ["ValueError"]
    assert_semconv(signals.spans, signals.metric_data(), signals.raw_logs)


@pytest.mark.anyio
async def test_a_route_function_that_raises_is_warned_about_and_the_request_goes_on(
    signals: Signals, caplog: pytest.LogCaptureFixture
) -> None:
    def route(scope: Any) -> str | None:
        raise KeyError("no route")

    app = flexmw.wrap_app(starlette_app(), Tagging(route=route, **signals.options), Envelope())
    for _ in range(2):
        assert (await call(app, "/missing")).status == 404
    (warning,) = [each.getMessage() for each in caplog.records if each.name == "flexmw.tagging"]
    assert "Tagging(route=...)" in warning


@pytest.mark.anyio
async def test_while_nothing_records_one_request_a_second_is_observed_and_the_others_pass_untouched() -> None:
    looked_at = list[bool]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        looked_at.append("flexmw" in scope)
        await starlette_app()(scope, receive, send)

    clock, off = FakeClock(), (NoOpTracerProvider(), NoOpMeterProvider(), NoOpLoggerProvider())
    providers = dict(zip(("tracer_provider", "meter_provider", "logger_provider"), off, strict=True))
    tagged = Tagging(clock=clock, server_span=True, **providers).asgi(app)
    for seconds in (0.0, 0.0, 0.9, 0.1, 0.5):
        clock.advance(seconds)
        await call(tagged, "/ok")
    assert looked_at == [True, False, False, True, False]


@pytest.mark.anyio
async def test_server_span_opens_no_span_where_only_metrics_are_collected(signals: Signals) -> None:
    tagging = Tagging(server_span=True, meter_provider=signals.meter_provider, tracer_provider=NoOpTracerProvider())
    await call(flexmw.wrap_app(starlette_app(), tagging, Envelope()), "/missing")
    assert signals.points("http.server.request.duration") == []
    assert len(signals.points("flexmw.server.error_responses")) == 1
