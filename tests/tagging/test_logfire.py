"""The failures of ``test_asgi.py`` in apps that logfire instruments. Nothing is sent over the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flexmw.envelope import Envelope
from flexmw.tagging import Tagging
from flexmw.testing.semconv import assert_semconv
from tests.tagging.apps import OFF, call, fastapi_app, starlette_app
from tests.tagging.sdk import Signals
from tests.tagging.test_asgi import CASES, ERROR

pytestmark = [pytest.mark.usefixtures("stable_conventions"), pytest.mark.anyio]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Logfire(Signals):
    """logfire's own providers, and what came out of them."""

    def __init__(self) -> None:
        import logfire

        self._spans, self._logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
        self._metrics = InMemoryMetricReader()
        self.instance = logfire.configure(
            local=True,
            send_to_logfire=False,
            console=False,
            inspect_arguments=False,
            distributed_tracing=True,
            additional_span_processors=[SimpleSpanProcessor(self._spans)],
            metrics=logfire.MetricsOptions(additional_readers=[self._metrics]),
            advanced=logfire.AdvancedOptions(log_record_processors=[SimpleLogRecordProcessor(self._logs)]),
        )
        config = self.instance.config
        self.tracer_provider: Any = config.get_tracer_provider()
        self.meter_provider: Any = config.get_meter_provider()
        self.logger_provider: Any = config.get_logger_provider()

    def __exit__(self, *_: object) -> None:
        self.instance.shutdown()


@pytest.fixture
def signals() -> Iterator[Logfire]:
    with Logfire() as signals:
        yield signals


def asgi(signals: Logfire, wrap: Any) -> Any:
    """logfire.instrument_asgi around everything."""
    return signals.instance.instrument_asgi(wrap(starlette_app()))


def fastapi(signals: Logfire, wrap: Any) -> Any:
    """logfire.instrument_fastapi on the application, flexmw around it."""
    app = fastapi_app(OFF)
    signals.instance.instrument_fastapi(app)
    return wrap(app)


APPS = {each.__name__: each for each in (asgi, fastapi)}

TWICE = {("fastapi", "torn"), ("fastapi", "gone")}
"""The instrument under logfire itself records these on two levels. flexmw adds none."""


@pytest.mark.parametrize("envelope", [True, False], ids=["envelope", "bare"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("setup", APPS)
async def test_every_failure_is_recorded_once_with_its_true_status(
    setup: str, case: str, envelope: bool, signals: Logfire
) -> None:
    row = CASES[case]
    tagging = Tagging(**signals.options)
    app = APPS[setup](signals, lambda app: tagging.asgi(Envelope().asgi(app) if envelope else app))
    received = await call(app, f"/{row.path or case}", **row.how)
    assert received.status == row.status
    span = signals.server_span
    attributes = dict(span.attributes or {})
    assert span.status.status_code is row.span
    assert attributes.get("http.response.status_code") == row.status
    if envelope and row.envelope is not None:
        names = ["flexmw.error.type", "flexmw.error.code", "flexmw.error.source"]
        assert tuple(attributes.get(name) for name in names) == row.envelope
    assert ("error.type" in attributes) <= (row.span is ERROR)
    if case in ("torn", "gone"):
        assert attributes["flexmw.response.outcome"] == {"torn": "failed", "gone": "client_disconnected"}[case]
    recorded = [name for _, name in signals.exceptions]
    assert set(recorded) <= set(row.records)
    assert len(recorded) == (2 if (setup, case) in TWICE else bool(row.records)), signals.exceptions
    assert_semconv([span], signals.metric_data(), signals.raw_logs)
