"""What Tagging writes of a call that was sent to several upstreams."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from calls import Upstreams
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import flexmw

Serve = Callable[..., Upstreams]


def test_the_span_of_a_call_names_the_upstream_and_a_switch_is_a_log_event(serve: Serve) -> None:
    upstreams = serve("429:seconds=30", "ok")
    a, b = (server.url for server in upstreams.servers)
    spans, records = InMemorySpanExporter(), InMemoryLogRecordExporter()
    tracing, logging = TracerProvider(), LoggerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    logging.add_log_record_processor(SimpleLogRecordProcessor(records))
    tagging = flexmw.Tagging(call_span=True, tracer_provider=tracing, logger_provider=logging)
    retry = flexmw.Retry(clock=upstreams.clock)
    with flexmw.wrap_client(httpx.Client(), tagging, upstreams.fallback(), retry, clock=upstreams.clock) as client:
        client.post(f"{a}/v1/jobs", json={})
    (span,) = spans.get_finished_spans()
    assert (span.attributes or {})["flexmw.fallback.upstream"] == b
    switched = [
        dict(each.log_record.attributes or {})
        for each in records.get_finished_logs()
        if each.log_record.event_name == "flexmw.fallback.switched"
    ]
    assert switched == [
        {"flexmw.fallback.from": a, "flexmw.fallback.upstream": b, "flexmw.fallback.reason": "429"},
    ]
