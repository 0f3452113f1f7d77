"""What every test can ask for: both async backends, real servers, the OTel SDK in memory. And what none may leave."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter as Tally
from collections.abc import Generator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Literal

import hypothesis
import pytest
from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, Metric
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.servers import (
    ASGIApp,
    Child,
    Http,
    Lifespan,
    Serve,
    Served,
    hypercorn_server,
    memcached_binary,
    memcached_process,
    redis_binary,
    redis_process,
    skip_unless,
    uvicorn_server,
)

# The instruments read this once for the whole process: whichever test comes first decides for all.
os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http"

# A busy machine is no failure: properties are bounded by their number of examples, not by time. A change is judged by
# the same examples every time; the nightly run looks for new ones.
_SLOW = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
hypothesis.settings.register_profile("flexmw", deadline=None, suppress_health_check=_SLOW, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, suppress_health_check=_SLOW, max_examples=2000)
# Pure code does not change with the versions of other packages: on the oldest ones a few examples are enough.
hypothesis.settings.register_profile(
    "few", deadline=None, suppress_health_check=_SLOW, derandomize=True, max_examples=10
)
hypothesis.settings.load_profile("flexmw")

# --- backends --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["asyncio", "trio"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The backends of an async test. Code that is asyncio's own overrides this in its module."""
    return str(request.param)


# --- servers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Child]:
    """A real redis-server, one for each worker process. Keys of other tests may be in it: see ``redis_url``."""
    binary = redis_binary()
    skip_unless(binary, "redis-server")
    with redis_process(str(binary), tmp_path_factory.mktemp("redis")) as child:
        yield child


@pytest.fixture
def redis_url(redis_server: Child) -> str:
    """The URL of the worker's redis-server, emptied."""
    assert redis_server.ask(b"FLUSHALL") == b"+OK"
    return redis_server.url


@pytest.fixture(scope="session")
def memcached_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Child]:
    """A real memcached, one for each worker process."""
    binary = memcached_binary()
    skip_unless(binary, "memcached")
    with memcached_process(str(binary), tmp_path_factory.mktemp("memcached")) as child:
        yield child


@pytest.fixture
def memcached_url(memcached_server: Child) -> str:
    """The URL of the worker's memcached, emptied."""
    assert memcached_server.ask(b"flush_all") == b"OK"
    return memcached_server.url


@pytest.fixture
def serve() -> Generator[Serve]:
    """Serve any ASGI app, under uvicorn (h11 or httptools) or hypercorn, until the end of the test."""
    with ExitStack() as stack:

        def start(
            app: ASGIApp,
            *,
            server: Literal["uvicorn", "hypercorn"] = "uvicorn",
            http: Http = "h11",
            lifespan: Lifespan = "auto",
        ) -> Served:
            if server == "hypercorn":
                return stack.enter_context(hypercorn_server(app, lifespan=lifespan))
            return stack.enter_context(uvicorn_server(app, http=http, lifespan=lifespan))

        yield start


# --- telemetry -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Telemetry:
    """The OTel SDK with everything kept in memory, the metrics as differences since the last look."""

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    logger_provider: LoggerProvider
    _spans: InMemorySpanExporter = field(repr=False)
    _reader: InMemoryMetricReader = field(repr=False)
    _logs: InMemoryLogRecordExporter = field(repr=False)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Every span that has ended, in that order."""
        return self._spans.get_finished_spans()

    @property
    def logs(self) -> tuple[ReadableLogRecord, ...]:
        """Every log record and event."""
        return self._logs.get_finished_logs()

    def metrics(self) -> dict[str, Metric]:
        """What was recorded since the last call, by instrument name."""
        data = self._reader.get_metrics_data()
        resources = data.resource_metrics if data else ()
        return {
            metric.name: metric
            for resource in resources
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def clear(self) -> None:
        """Forget everything."""
        self._spans.clear()
        self._logs.clear()
        self._reader.get_metrics_data()


def _telemetry() -> Telemetry:
    instruments = (Counter, Histogram, ObservableCounter, ObservableGauge, ObservableUpDownCounter, UpDownCounter)
    reader = InMemoryMetricReader(preferred_temporality=dict.fromkeys(instruments, AggregationTemporality.DELTA))
    spans = InMemorySpanExporter()
    logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    logger_provider = LoggerProvider(shutdown_on_exit=False)
    logger_provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
    meter_provider = MeterProvider([reader], shutdown_on_exit=False)
    return Telemetry(tracer_provider, meter_provider, logger_provider, spans, reader, logs)


@pytest.fixture
def in_memory_telemetry() -> Generator[Telemetry]:
    """Providers of this test alone, for code that is given a provider. Nothing global changes."""
    telemetry = _telemetry()
    yield telemetry
    telemetry.tracer_provider.shutdown()
    telemetry.meter_provider.shutdown()
    telemetry.logger_provider.shutdown()


@pytest.fixture(scope="session")
def _global_telemetry() -> Telemetry:
    telemetry = _telemetry()
    trace.set_tracer_provider(telemetry.tracer_provider)
    metrics.set_meter_provider(telemetry.meter_provider)
    set_logger_provider(telemetry.logger_provider)
    return telemetry


@pytest.fixture
def global_telemetry(_global_telemetry: Telemetry) -> Generator[Telemetry]:
    """The process's global providers, for code that asks the API. OTel lets them be set once, so they stay set for
    the tests that come later; a test of life without an SDK runs a process of its own.
    """
    _global_telemetry.clear()
    yield _global_telemetry
    _global_telemetry.clear()


# --- what no test may leave ------------------------------------------------------------------------------------------

# Threads that a library keeps for the next caller and ends by itself.
_POOLED = re.compile(r"AnyIO worker thread|Trio thread|asyncio_\d+|ThreadPoolExecutor-|tokio|tqdm", re.IGNORECASE)

_THREAD_SECONDS = 10.0  # for a thread that was told to end and has not come to it


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Generator[None]:
    """Fails a test whose own threads are still there after it. (Sockets: a ResourceWarning is an error already.)"""
    before = set(threading.enumerate())
    yield
    own = [thread for thread in threading.enumerate() if thread not in before and not _POOLED.match(thread.name)]
    for thread in own:
        with suppress(RuntimeError):  # asgiref starts threads of its own at any time; one may be just about to begin
            thread.join(_THREAD_SECONDS)
    left = [thread.name for thread in own if thread.is_alive()]
    assert not left, f"threads that the test left behind: {', '.join(left)}"


def _skips(config: pytest.Config) -> Tally[str]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter else []
    return Tally(str(report.longrepr[-1]).removeprefix("Skipped: ") for report in reports)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the skips by reason, one line each, for people and for CI."""
    for reason, count in sorted(_skips(terminalreporter.config).items()):
        terminalreporter.write_line(f"skipped {count}: {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """CI has all that the tests need: there, a skip is a failure."""
    if os.environ.get("CI") and session.exitstatus == pytest.ExitCode.OK and _skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
