"""Calls of clients: how they ended, in whose trace, on a client that is instrumented in a wrong way."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import httpx2
import pytest
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind

import flexmw
from flexmw.retry import Retry
from flexmw.tagging import Tagging
from flexmw.tagging.diagnostics import MAX_WARNINGS
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.semconv import assert_semconv
from tests.tagging.sdk import Signals

DURATION = "flexmw.client.operation.duration"
OUTCOME = "flexmw.response.outcome"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def streaming(*chunks: bytes, media: str = "text/plain") -> Any:
    def respond(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": media}, content=iter(chunks))

    return httpx2.MockTransport(respond)


def outcomes(signals: Signals) -> tuple[Any, Any]:
    """Those of the only call: on its span, and on its metric."""
    (span,) = [span for span in signals.of_kind(SpanKind.INTERNAL) if span.name == "flexmw.call"]
    ((measured, _),) = signals.points(DURATION)
    assert_semconv(signals.spans, signals.metric_data(), signals.raw_logs)
    return (span.attributes or {}).get(OUTCOME), measured.get(OUTCOME)


def wrapped(transport: Any, signals: Signals) -> Any:
    return flexmw.wrap_client(httpx2.Client(transport=transport), Tagging(call_span=True, **signals.options))


def test_a_whole_stream_is_complete(signals: Signals) -> None:
    with wrapped(streaming(b"1", b"2"), signals) as client, client.stream("GET", "http://test") as response:
        assert b"".join(response.iter_bytes()) == b"12"
    assert outcomes(signals) == ("complete", None)


def test_a_stream_that_the_caller_closes_is_abandoned(signals: Signals) -> None:
    with wrapped(streaming(b"1", b"2"), signals) as client, client.stream("GET", "http://test") as response:
        for _ in response.iter_bytes():
            break
    assert outcomes(signals) == ("abandoned", "abandoned")


def test_an_event_stream_that_is_closed_after_its_last_event_is_complete(signals: Signals) -> None:
    events = streaming(b"data: 1\n\ndata: [DO", b"NE]\n\n", b": the end is never read\n\n", media="text/event-stream")
    with wrapped(events, signals) as client, client.stream("GET", "http://test") as response:
        chunks = response.iter_bytes()
        assert [next(chunks), next(chunks)] == [b"data: 1\n\ndata: [DO", b"NE]\n\n"]
    assert outcomes(signals) == ("complete", None)


@pytest.mark.anyio
async def test_a_stream_whose_task_is_cancelled_is_cancelled(signals: Signals) -> None:
    begun = anyio.Event()

    async def chunks() -> Any:
        yield b"1"
        begun.set()
        await anyio.sleep_forever()

    async def respond(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=chunks())

    client = flexmw.wrap_client(
        httpx2.AsyncClient(transport=httpx2.MockTransport(respond)), Tagging(call_span=True, **signals.options)
    )
    async with client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.get, "http://test")
        await begun.wait()
        tasks.cancel_scope.cancel()
    assert outcomes(signals) == ("cancelled", "cancelled")


def test_a_stream_that_breaks_has_failed(signals: Signals) -> None:
    def chunks() -> Any:
        yield b"1"
        raise httpx2.ReadError("broken")

    def respond(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=chunks())

    with wrapped(httpx2.MockTransport(respond), signals) as client, pytest.raises(httpx2.ReadError):
        client.get("http://test")
    assert outcomes(signals) == ("failed", None)
    (record,) = signals.logs
    (span,) = signals.spans
    assert record.event_name == "http.client.request.exception"
    assert record.span_id == span.get_span_context().span_id
    assert record.trace_id == span.get_span_context().trace_id


def test_each_metric_of_a_call_has_an_exemplar_with_its_trace(signals: Signals) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False, exemplar_filter=TraceBasedExemplarFilter())
    tagging = Tagging(call_span=True, **{**signals.options, "meter_provider": provider})
    with flexmw.wrap_client(httpx2.Client(transport=streaming(b"1")), tagging) as client:
        client.get("http://test")
    data: Any = reader.get_metrics_data()
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    assert DURATION in [metric.name for metric in metrics]
    (span,) = signals.spans
    for metric in metrics:
        (point,) = metric.data.data_points
        assert [exemplar.trace_id for exemplar in point.exemplars] == [span.get_span_context().trace_id], metric.name
    provider.shutdown()


@pytest.mark.parametrize("call_span", [False, True])
def test_an_instrumentor_around_the_wrapped_client_is_noticed(
    call_span: bool, signals: Signals, caplog: pytest.LogCaptureFixture
) -> None:
    client = httpx2.Client(trust_env=False)
    flexmw.wrap_client(client, Tagging(call_span=call_span, **signals.options), Retry(clock=FakeClock()))
    HTTPX2ClientInstrumentor.instrument_client(client, tracer_provider=signals.tracer_provider)
    with HostileServer(["503"], then="200") as server, client:
        client.get(server.url)
    (warning,) = [each.getMessage() for each in caplog.records if each.name == "flexmw.tagging"]
    assert "instrumented after it was wrapped" in warning


@pytest.mark.parametrize(
    ("library", "instrumentor", "missing"),
    [
        (httpx2, HTTPXClientInstrumentor, "HTTPX2ClientInstrumentor"),
        (httpx, HTTPX2ClientInstrumentor, "HTTPXClientInstrumentor"),
        (httpx, HTTPXClientInstrumentor, None),
        (httpx2, HTTPX2ClientInstrumentor, None),
    ],
)
def test_a_client_that_the_instrumentor_of_the_other_library_leaves_out_is_noticed_once(
    library: Any, instrumentor: Any, missing: str | None, signals: Signals, caplog: pytest.LogCaptureFixture
) -> None:
    instrumentor().instrument(tracer_provider=signals.tracer_provider)
    try:
        client = flexmw.wrap_client(library.Client(trust_env=False), Tagging(**signals.options))
        with HostileServer([], then="200") as server, client:
            client.get(server.url)
            client.get(server.url)
    finally:
        instrumentor().uninstrument()
    warnings = [each.getMessage() for each in caplog.records if each.name == "flexmw.tagging"]
    assert [missing in text for text in warnings if missing] == [True] * (missing is not None)
    assert len(warnings) == (missing is not None)


def test_clients_that_are_made_for_each_call_share_the_bounds_of_labels(signals: Signals) -> None:
    for number in range(110):
        transport = streaming(b"1")
        with flexmw.wrap_client(httpx2.Client(transport=transport), Tagging(**signals.options)) as client:
            client.get(f"http://customer{number}.test")
    addresses = {attributes["server.address"] for attributes, _ in signals.points(DURATION)}
    assert len(addresses) == 101
    assert "_OTHER" in addresses


def test_a_refused_post_that_is_sent_again_is_known_to_be_safe(signals: Signals) -> None:
    client = httpx2.Client(trust_env=False)
    HTTPX2ClientInstrumentor.instrument_client(client, tracer_provider=signals.tracer_provider)
    flexmw.wrap_client(client, Tagging(**signals.options), Retry(clock=FakeClock()))
    with HostileServer(["429"], then="200") as server, client:
        client.post(server.url, content=b"1")
    assert [(span.attributes or {}).get("flexmw.retry.safety") for span in signals.client_spans] == [None, "refused"]


def test_clients_that_are_made_for_each_call_share_the_bound_of_warnings(
    signals: Signals, caplog: pytest.LogCaptureFixture
) -> None:
    with HostileServer([], then="200") as server:
        for _ in range(MAX_WARNINGS + 2):
            transport = httpx2.HTTPTransport(verify=False)  # no certificates are read: that takes longer than the call
            client = httpx2.Client(transport=transport, trust_env=False)
            flexmw.wrap_client(client, Tagging(**signals.options))
            HTTPX2ClientInstrumentor.instrument_client(client, tracer_provider=signals.tracer_provider)
            with client:
                client.get(server.url)
    assert len([each for each in caplog.records if each.name == "flexmw.tagging"]) == MAX_WARNINGS
