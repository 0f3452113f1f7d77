"""Instruments that are off or exclude a request, spans of the app's own, requests that never reach the app."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

import flexmw
from flexmw.envelope import Envelope
from flexmw.idempotency import Idempotency
from flexmw.ratelimit import RateLimit
from flexmw.tagging import Tagging
from flexmw.tagging.diagnostics import REQUESTS_WITHOUT_HASH
from flexmw.testing.semconv import assert_semconv
from tests.tagging.apps import APPS, OFF, call, fastapi_app, starlette_app
from tests.tagging.sdk import Signals
from tests.tagging.setups import INSTRUMENTED_INSIDE, OWN_SPANS, WITHOUT_FASTAPI, around

FACTS = ("flexmw.error.type", "flexmw.error.code", "flexmw.error.source")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = [pytest.mark.usefixtures("stable_conventions"), pytest.mark.anyio]


@pytest.mark.parametrize("logs", [True, False], ids=["logs", "traces-only"])
@pytest.mark.parametrize("envelope", [True, False], ids=["envelope", "bare"])
@pytest.mark.parametrize("setup", WITHOUT_FASTAPI)
async def test_a_crash_is_recorded_once_where_fastapi_does_not_record_it(
    setup: str, envelope: bool, logs: bool
) -> None:
    with Signals(logs=logs) as signals:
        tagging = Tagging(**signals.options)
        app = WITHOUT_FASTAPI[setup](signals, lambda app: tagging.asgi(Envelope().asgi(app) if envelope else app))
        await call(app, "/broken")
        is_traced = bool(signals.of_kind(SpanKind.SERVER))
        assert [name for _, name in signals.exceptions] == ["ValueError"] * (logs or is_traced)


@pytest.mark.parametrize("envelope", [True, False], ids=["envelope", "bare"])
@pytest.mark.parametrize("setup", ["off", "excluded"])
async def test_a_crash_with_an_own_span_is_recorded_once_where_fastapi_is_off(
    setup: str, envelope: bool, signals: Signals
) -> None:
    tagging = Tagging(server_span=True, **signals.options)
    app = WITHOUT_FASTAPI[setup](signals, lambda app: tagging.asgi(Envelope().asgi(app) if envelope else app))
    await call(app, "/broken")
    assert signals.exceptions == [("log", "ValueError")]


@pytest.mark.parametrize("path", ["/missing", "/offline", "/upstream", "/stream"])
@pytest.mark.parametrize("setup", OWN_SPANS)
async def test_facts_are_on_the_server_span_though_the_app_opens_spans_of_its_own(
    setup: str, path: str, signals: Signals
) -> None:
    components = Tagging(**signals.options), Envelope(), RateLimit("100/minute")
    app = OWN_SPANS[setup](signals, lambda app: flexmw.wrap_app(app, *components))
    await call(app, path)
    attributes = dict(signals.server_span.attributes or {})
    assert attributes["flexmw.rate_limiting.result"] == "acquired"
    if path == "/stream":
        assert attributes["flexmw.response.outcome"] == "complete"
    else:
        assert all(name in attributes for name in FACTS)
    (own,) = [span for span in signals.spans if span.name == "own"]
    assert not [name for name in own.attributes or () if name.startswith("flexmw.")]


@pytest.mark.parametrize("setup", OWN_SPANS)
async def test_facts_are_on_the_server_span_though_another_task_runs_the_app(setup: str, signals: Signals) -> None:
    protected = Idempotency(authenticated=lambda scope: True, caller=lambda scope: "one")
    components = Tagging(**signals.options), Envelope(), RateLimit("9/minute"), protected
    app = OWN_SPANS[setup](signals, lambda app: flexmw.wrap_app(app, *components))
    await call(app, "/ok", method="POST", headers=(("idempotency-key", "k1"),))
    attributes = dict(signals.server_span.attributes or {})
    assert attributes["flexmw.rate_limiting.result"] == "acquired"
    assert "flexmw.idempotency.result" in attributes
    (own,) = [span for span in signals.spans if span.name == "own"]
    assert not [name for name in own.attributes or () if name.startswith("flexmw.")]


@pytest.mark.parametrize("app", INSTRUMENTED_INSIDE)
async def test_each_request_has_one_server_span_whoever_answers_it(app: str, signals: Signals) -> None:
    components = (
        Tagging(**signals.options),
        Envelope(),
        RateLimit("3/minute"),
        Idempotency(authenticated=lambda scope: True, caller=lambda scope: "one"),
    )
    wrapped = flexmw.wrap_app(INSTRUMENTED_INSIDE[app](signals), *components)
    key = (("idempotency-key", "k1"),)
    sent = [("/ok", {}), ("/ok", {"method": "POST", "headers": key, "body": b"1"})]
    sent += [("/ok", {"method": "POST", "headers": key, "body": b"2"}), ("/ok", {})]
    statuses = [(await call(wrapped, path, **how)).status for path, how in sent]
    assert statuses[2:] == [422, 429]
    spans = signals.of_kind(SpanKind.SERVER)
    assert [(span.attributes or {})["http.response.status_code"] for span in spans] == statuses
    assert [span.status.status_code for span in spans] == [StatusCode.UNSET] * 4
    assert (spans[2].attributes or {})["flexmw.error.code"] == "idempotency_key_reused"
    assert (spans[3].attributes or {})["flexmw.rate_limiting.result"] == "rejected"
    assert all(early.start_time <= late.start_time for early, late in pairwise(spans))  # type: ignore[operator]
    measured = [metric for metric in signals.metric_data() if metric.name == "http.server.request.duration"]
    counted = sum(point.count for metric in measured for point in metric.data.data_points)
    assert counted == (0 if app == "Starlette's" else 4)
    assert_semconv(signals.spans, signals.metric_data(), signals.raw_logs)


async def test_a_request_that_contrib_around_excludes_is_no_reason_for_a_warning(
    signals: Signals, caplog: pytest.LogCaptureFixture
) -> None:
    app = flexmw.wrap_app(starlette_app(), Tagging(**signals.options), Envelope())
    await call(_excluding(around(signals, app)), "/ok")
    assert signals.spans == []
    assert [each for each in caplog.records if each.name == "flexmw.tagging"] == []


@pytest.mark.parametrize("app", INSTRUMENTED_INSIDE)
async def test_a_request_that_the_instrument_excludes_gets_no_span(
    app: str, signals: Signals, caplog: pytest.LogCaptureFixture
) -> None:
    inner: dict[str, Any] = {
        "FastAPI": lambda: fastapi_app({**signals.options, "exclude": lambda scope: scope["path"] == "/ok"}),
        "contrib": lambda: _excluding(around(signals, starlette_app())),
        "contrib's FastAPI": lambda: _instrumented(signals, excluded_urls="/ok"),
        "Starlette's": lambda: _starlettes(signals, excluded_urls="/ok"),
    }
    wrapped = flexmw.wrap_app(inner[app](), Tagging(**signals.options), Envelope(), RateLimit("9/minute"))
    for path in ("/ok", "/missing"):
        await call(wrapped, path)
    assert len(signals.of_kind(SpanKind.SERVER)) == 1
    assert [each for each in caplog.records if each.name == "flexmw.tagging"] == []


def _excluding(contrib: Any) -> Any:
    from opentelemetry.util.http import ExcludeList

    contrib.excluded_urls = ExcludeList(["/ok"])
    return contrib


def _instrumented(signals: Signals, **options: Any) -> Any:
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    app = fastapi_app(OFF)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=signals.tracer_provider, **options)
    return app


def _starlettes(signals: Signals, **options: Any) -> Any:
    from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as Native

    return Native(starlette_app(), tracer_provider=signals.tracer_provider, **options)


async def test_a_disabled_sdk_is_no_reason_for_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with Signals() as signals:
        app = flexmw.wrap_app(starlette_app(), Tagging(**signals.options), Envelope())
        await call(app, "/ok")
    assert caplog.records == []


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("setup", [name for name in APPS if name != "nothing"])
async def test_server_span_counts_a_request_once_whether_it_is_sampled_or_not(setup: str, sampled: bool) -> None:
    with Signals(**({} if sampled else {"sampler": ALWAYS_OFF})) as signals:
        tagging = Tagging(server_span=True, **signals.options)
        app = APPS[setup](signals, lambda app: flexmw.wrap_app(app, tagging, Envelope()))
        for path in ("/ok", "/missing"):
            await call(app, path)
        ours = [metric for metric in signals.metric_data() if metric.name == "http.server.request.duration"]
        counted = sum(point.count for metric in ours for point in metric.data.data_points)
        assert counted == (0 if setup.startswith("starlette") else 2)


async def test_server_span_beside_fastapis_metrics_counts_a_request_once(signals: Signals) -> None:
    app = fastapi_app({**signals.options, "tracing": False})
    await call(flexmw.wrap_app(app, Tagging(server_span=True, **signals.options), Envelope()), "/ok")
    assert signals.server_span.name == "GET /ok"
    metrics = [metric for metric in signals.metric_data() if metric.name == "http.server.request.duration"]
    assert sum(point.count for metric in metrics for point in metric.data.data_points) == 1


@pytest.mark.parametrize("setup", [name for name in APPS if name != "nothing"])
async def test_every_metric_of_a_request_has_an_exemplar_with_its_trace(setup: str) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False, exemplar_filter=TraceBasedExemplarFilter())
    quiet = MeterProvider(shutdown_on_exit=False, exemplar_filter=AlwaysOffExemplarFilter())
    with Signals() as signals:
        signals.meter_provider = quiet
        tagging = Tagging(**{**signals.options, "meter_provider": provider})
        app = APPS[setup](signals, lambda app: flexmw.wrap_app(app, tagging, Envelope(), RateLimit("9/minute")))
        await call(app, "/offline")
        trace_id = signals.server_span.get_span_context().trace_id
    data = reader.get_metrics_data()
    assert data is not None
    metrics = [
        metric for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
    ]
    assert {metric.name for metric in metrics} == {
        "flexmw.rate_limiting.requests",
        "flexmw.rate_limiting.check.duration",
        "flexmw.server.error_responses",
        "flexmw.server.requests",
    }
    for metric in metrics:
        for point in metric.data.data_points:
            assert [exemplar.trace_id for exemplar in point.exemplars] == [trace_id], metric.name
    provider.shutdown()
    quiet.shutdown()


@pytest.mark.parametrize("asked", [True, False])
async def test_the_hash_of_the_caller_is_on_the_span_where_it_is_asked_for(asked: bool, signals: Signals) -> None:
    app = flexmw.wrap_app(
        starlette_app(), Tagging(key_hash=asked, **signals.options), Envelope(), RateLimit("9/minute", pepper="p")
    )
    for key in ("sk-one", "sk-one", "sk-two"):
        await call(around(signals, app), "/ok", headers=(("authorization", f"Bearer {key}"),))
    hashes = [(span.attributes or {}).get("flexmw.rate_limiting.key_hash") for span in signals.spans]
    if asked:
        assert hashes[0] == hashes[1] != hashes[2]
        assert all(isinstance(value, str) and len(value) == 16 for value in hashes)
    else:
        assert hashes == [None] * 3
    assert_semconv(signals.spans, signals.metric_data(), signals.raw_logs)


@pytest.mark.parametrize("limited", [True, False])
async def test_a_hash_that_no_limiter_makes_is_warned_about_once(
    limited: bool, signals: Signals, caplog: pytest.LogCaptureFixture
) -> None:
    components = [Tagging(key_hash=True, **signals.options), Envelope(), *([RateLimit("9/minute")] if limited else [])]
    app = around(signals, flexmw.wrap_app(starlette_app(), *components))
    for _ in range(REQUESTS_WITHOUT_HASH + 10):
        await call(app, "/ok")
    warnings = [each.getMessage() for each in caplog.records if each.name == "flexmw.tagging"]
    assert len(warnings) == (not limited)
    assert all("Tagging(key_hash=True) had no effect" in text for text in warnings)


async def test_what_a_shadow_limit_would_have_refused_is_not_counted_as_rejected(signals: Signals) -> None:
    app = flexmw.wrap_app(starlette_app(), Tagging(**signals.options), Envelope(), RateLimit("1/minute", shadow=True))
    assert [(await call(app, "/ok")).status for _ in range(3)] == [200] * 3
    counted = {a["flexmw.rate_limiting.result"]: n for a, n in signals.points("flexmw.rate_limiting.requests")}
    assert counted == {"acquired": 1, "shadow_rejected": 2}
