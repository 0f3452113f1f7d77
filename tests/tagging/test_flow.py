"""The client: attempts on other people's spans, one measure per call, through real transports to a real server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from opentelemetry import trace
from opentelemetry._logs import NoOpLoggerProvider
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode

import flexmw
from flexmw.kit.effects import Follow, Send
from flexmw.retry import Retry
from flexmw.tagging import Tagging
from flexmw.testing import FakeClock, HostileServer
from flexmw.testing.semconv import assert_semconv
from tests.tagging.sdk import Signals

pytestmark = pytest.mark.usefixtures("stable_conventions")

LIBRARIES = {"httpx": (httpx, HTTPXClientInstrumentor), "httpx2": (httpx2, HTTPX2ClientInstrumentor)}
RESENDS = "http.request.resend_count"
ENVELOPE = b'{"error":{"message":"%s","type":"server_error","code":"internal_error"}}'


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Client:
    """A client of either library, blocking or not, instrumented somehow, that is used the same way."""

    def __init__(self, library: str, mode: str, *components: Any) -> None:
        self.module: ModuleType = LIBRARIES[library][0]
        self.sync = mode == "sync"
        kit = getattr(flexmw, library)
        self._face = kit.Transport if self.sync else kit.AsyncTransport
        self.components = components
        inner = self.module.HTTPTransport() if self.sync else self.module.AsyncHTTPTransport()
        self.raw = (self.module.Client if self.sync else self.module.AsyncClient)(transport=inner, trust_env=False)

    def wrap(self) -> None:
        self.raw._transport = self._face(*self.components, transport=self.raw._transport, clock=FakeClock())

    async def request(self, method: str, url: str, **options: Any) -> Any:
        if self.sync:
            return self.raw.request(method, url, **options)
        return await self.raw.request(method, url, **options)

    async def close(self) -> None:
        if self.sync:
            self.raw.close()
        else:
            await self.raw.aclose()


@contextmanager
def instrumented(client: Client, library: str, how: str, signals: Signals) -> Iterator[None]:
    """Instrument globally, this client before it is wrapped, or after."""
    instrumentor = LIBRARIES[library][1]
    options = {"tracer_provider": signals.tracer_provider, "meter_provider": signals.meter_provider}
    if how == "globally":
        instrumentor().instrument(**options)
    if how == "before":
        instrumentor.instrument_client(client.raw, **options)
    client.wrap()
    if how == "after":
        instrumentor.instrument_client(client.raw, **options)
    try:
        yield
    finally:
        if how == "globally":
            instrumentor().uninstrument()


def components(signals: Signals, **retry: Any) -> tuple[Any, ...]:
    return Tagging(**signals.options), Retry(clock=FakeClock(), **retry)


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["globally", "before"])
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("library", LIBRARIES)
async def test_every_resend_is_counted_on_the_instrumentors_own_span(
    library: str, mode: str, how: str, signals: Signals
) -> None:
    client = Client(library, mode, *components(signals))
    with HostileServer(["503", "rst"], then="200") as server, instrumented(client, library, how, signals):
        response = await client.request("GET", server.url)
        await client.close()
    assert response.status_code == 200
    spans = signals.client_spans
    assert [(span.attributes or {}).get(RESENDS) for span in spans] == [None, 1, 2]
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert signals.of_kind(SpanKind.INTERNAL) == []


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_client_that_was_instrumented_after_wrapping_is_warned_about_once(
    library: str, mode: str, signals: Signals, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(library, mode, *components(signals))
    with HostileServer(["503", "200", "503"], then="200") as server, instrumented(client, library, "after", signals):
        for _ in range(2):
            await client.request("GET", server.url)
        await client.close()
    assert [(span.attributes or {}).get(RESENDS) for span in signals.client_spans] == [None, None]
    warnings = [record for record in caplog.records if record.name == "flexmw.tagging"]
    assert [record.levelno for record in warnings] == [logging.WARNING]
    assert "instrument_client(client) before flexmw.wrap_client(client)" in warnings[0].getMessage()


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("library", LIBRARIES)
async def test_attempts_that_never_connect_are_counted_too(library: str, mode: str, signals: Signals) -> None:
    client = Client(library, mode, *components(signals))
    with HostileServer() as server, instrumented(client, library, "globally", signals), server.refusing():
        with pytest.raises(client.module.ConnectError):
            await client.request("POST", server.url)
        await client.close()
    assert [(span.attributes or {}).get(RESENDS) for span in signals.client_spans] == [None, 1, 2]
    ((attributes, seconds),) = signals.points("flexmw.client.operation.duration")
    assert attributes == {"http.request.method": "POST", "server.address": "127.0.0.1", "error.type": "ConnectError"}
    assert seconds > 0
    assert {(span.attributes or {})["error.type"] for span in signals.client_spans} == {"ConnectError"}
    (event,) = [record for record in signals.logs if record.event_name == "http.client.request.exception"]
    assert event.severity_text == "WARN"
    assert event.attributes["exception.type"] == f"{library}.ConnectError"


def test_the_span_of_the_caller_is_never_written_to(signals: Signals) -> None:
    tracer = signals.tracer_provider.get_tracer("app")
    client = Client("httpx", "sync", *components(signals))
    client.wrap()
    with HostileServer(["503"], then="200") as server:
        with tracer.start_as_current_span("work", kind=SpanKind.CLIENT):
            client.raw.get(server.url)
        client.raw.close()
    (span,) = signals.spans
    assert span.attributes == {}


ENDINGS: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "success": ("GET", ["200"], {"http.response.status_code": 200}),
    "refused": ("POST", ["402"], {"http.response.status_code": 402, "error.type": "402"}),
    "ambiguous": ("POST", ["500"], {"http.response.status_code": 500, "error.type": "500"}),
    "recovered": ("GET", ["500", "200"], {"http.response.status_code": 200}),
    "lost": ("POST", ["rst"], {"error.type": "ReadError"}),
    "torn body": ("POST", ["cut-body"], {"http.response.status_code": 200, "error.type": "RemoteProtocolError"}),
}


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", ENDINGS)
async def test_every_call_has_one_duration_with_its_true_status(
    case: str, library: str, mode: str, signals: Signals
) -> None:
    method, script, expected = ENDINGS[case]
    client = Client(library, mode, *components(signals))
    client.wrap()
    with HostileServer(script) as server:
        with suppress(client.module.TransportError):
            await client.request(method, server.url)
        await client.close()
    ((attributes, _),) = signals.points("flexmw.client.operation.duration")
    assert attributes == {"http.request.method": method, "server.address": "127.0.0.1", **expected}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("body", [{"content": b"x"}, {"json": {}}, {}], ids=str)
def test_a_call_whose_mocked_body_was_read_before_ends_too(library: str, body: Any, signals: Signals) -> None:
    module = {"httpx": httpx, "httpx2": httpx2}[library]
    transport = module.MockTransport(lambda request: module.Response(200, **body))
    with flexmw.wrap_client(module.Client(transport=transport), *components(signals)) as client:
        answer = client.post("http://test/")
        assert answer.content == module.Response(200, **body).content
    ((attributes, _),) = signals.points("flexmw.client.operation.duration")
    assert attributes["http.response.status_code"] == 200


def test_retries_and_their_end_are_events_and_counters(signals: Signals) -> None:
    client = Client("httpx", "sync", *components(signals))
    client.wrap()
    with HostileServer(["429:seconds=34", "503", "500", "500"]) as server:
        client.raw.get(server.url)
        client.raw.post(server.url)
        client.raw.close()
    events = [(record.event_name, record.severity_text, dict(record.attributes)) for record in signals.logs]
    assert [(name, severity) for name, severity, _ in events] == [
        ("flexmw.retry.scheduled", "DEBUG"),
        ("flexmw.retry.scheduled", "DEBUG"),
        ("flexmw.retry.stopped", "WARN"),
        ("flexmw.retry.stopped", "INFO"),
    ]
    first, _, exhausted, unsafe = (attributes for _, _, attributes in events)
    assert first["http.request.resend_count"] == 1
    assert first["error.type"] == "429"
    assert first["flexmw.retry.delay_source"] == "retry_after"
    assert first["flexmw.retry.delay"] >= 34
    assert exhausted["flexmw.retry.stop_reason"] == "attempts_exhausted"
    assert unsafe == {"flexmw.retry.stop_reason": "unsafe_method", "flexmw.retry.safety": "none", "error.type": "500"}
    assert sum(value for _, value in signals.points("flexmw.client.retries")) == 2
    assert sorted(
        (attributes["flexmw.retry.stop_reason"], value)
        for attributes, value in signals.points("flexmw.client.retry_stops")
    ) == [("attempts_exhausted", 1), ("unsafe_method", 1)]


@pytest.mark.anyio
async def test_a_cancelled_call_has_not_failed(signals: Signals) -> None:
    client = Client("httpx2", "async", *components(signals))
    client.wrap()
    with HostileServer(["hang"]) as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.request, "GET", server.url)
            await anyio.to_thread.run_sync(server.wait_for)
            tasks.cancel_scope.cancel()
        await client.close()
    ((attributes, _),) = signals.points("flexmw.client.operation.duration")
    assert attributes == {"http.request.method": "GET", "server.address": "127.0.0.1"}
    assert signals.logs == []


def test_the_callers_own_trace_callback_still_gets_every_event(signals: Signals) -> None:
    heard: list[str] = []
    client = Client("httpx", "sync", *components(signals))
    client.wrap()
    with HostileServer(["503"], then="200") as server:
        client.raw.get(server.url, extensions={"trace": lambda name, info: heard.append(name)})
        client.raw.close()
    assert heard.count("http11.send_request_headers.started") == 2


def test_a_connect_to_a_proxy_is_not_an_attempt_of_the_request(signals: Signals) -> None:
    tracer = signals.tracer_provider.get_tracer("app")
    request = httpx.Request("GET", "https://127.0.0.1/")
    flow = Tagging(**signals.options).flow(request)
    send = next(flow)
    assert isinstance(send, Send)
    assert send.observe is not None
    with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT):
        connect = httpx.Request("CONNECT", "https://127.0.0.1/")
        connect.method = b"CONNECT"  # type: ignore[assignment]
        send.observe("http11.send_request_headers.started", {"request": connect})
        send.observe("http11.send_request_headers.started", {"request": request})
    followed = flow.send(httpx.Response(200))
    assert isinstance(followed, Follow)
    (span,) = signals.spans
    assert RESENDS not in (span.attributes or {})


def test_without_a_retry_component_resends_are_counted_by_their_heads(signals: Signals) -> None:
    tracer = signals.tracer_provider.get_tracer("app")
    request = httpx.Request("GET", "https://127.0.0.1/")
    send = next(Tagging(**signals.options).flow(request))
    assert isinstance(send, Send)
    assert send.observe is not None
    for _ in range(3):
        with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT):
            send.observe("http11.send_request_headers.started", {"request": request})
    assert [(span.attributes or {}).get(RESENDS) for span in signals.spans] == [None, 1, 2]


def test_where_nothing_records_a_call_is_sent_unchanged() -> None:
    # Its own providers and clock: another test of this process may have set the global ones.
    nothing: dict[str, Any] = {
        "tracer_provider": NoOpTracerProvider(),
        "meter_provider": NoOpMeterProvider(),
        "logger_provider": NoOpLoggerProvider(),
    }
    tagging = Tagging(**nothing, clock=FakeClock())
    sends: list[Any] = [next(tagging.flow(httpx.Request("GET", "http://127.0.0.1/"))) for _ in range(64)]
    unobserved: Callable[[Any], bool] = lambda send: send.observe is None  # noqa: E731
    assert sum(map(unobserved, sends)) == 63


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("library", LIBRARIES)
async def test_one_span_around_a_call_is_the_parent_of_its_attempts(library: str, mode: str, signals: Signals) -> None:
    tagging = Tagging(call_span=True, **signals.options)
    client = Client(library, mode, tagging, Retry(clock=FakeClock()))
    with HostileServer(["503"], then="402") as server, instrumented(client, library, "globally", signals):
        await client.request("GET", server.url)
        await client.close()
    (call,) = signals.of_kind(SpanKind.INTERNAL)
    assert call.name == "flexmw.call"
    assert [span.parent and span.parent.span_id for span in signals.client_spans] == [
        call.get_span_context().span_id
    ] * 2
    assert [(span.attributes or {}).get(RESENDS) for span in signals.client_spans] == [None, 1]
    assert call.status.status_code is StatusCode.ERROR
    attributes = dict(call.attributes or {})
    assert attributes["flexmw.error.type"] == "insufficient_quota"
    assert attributes["flexmw.error.code"] == "402"
    assert attributes["flexmw.retry.attempts"] == 2
    assert attributes["error.type"] == "402"
    assert not [name for name in attributes if name.startswith("http.")]
    assert not trace.get_current_span().is_recording()
    assert_semconv(signals.spans, signals.metric_data(), signals.raw_logs)


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        (
            {"content-type": "application/json"},
            b'{"error":{"message":"m","type":"server_error","code":"internal_error"}}',
            1,
        ),
        ({"content-type": "application/problem+json; charset=utf-8"}, b'{"detail":"x"}', 0),
        ({"content-type": "application/json", "content-encoding": "gzip"}, b"\x1f\x8b", 0),
        ({"content-type": "text/event-stream"}, b"data: {}", 0),
        (
            {"content-type": "application/json"},
            b'{"error":{"message":"' + b"m" * 70_000 + b'","type":"t","code":"c"}}',
            0,
        ),
    ],
    ids=["envelope", "another", "compressed", "stream", "too long"],
)
def test_the_code_of_an_error_is_read_from_the_body_as_the_caller_reads_it_up_to_a_limit(
    headers: dict[str, str], body: bytes, code: int, signals: Signals
) -> None:
    answer = httpx.MockTransport(lambda request: httpx.Response(500, headers=headers, stream=httpx.ByteStream(body)))
    transport = flexmw.httpx.Transport(Tagging(call_span=True, **signals.options), transport=answer)
    with httpx.Client(transport=transport) as client, client.stream("GET", "http://127.0.0.1/") as response:
        assert b"".join(response.stream) == body  # type: ignore[arg-type]
    (span,) = signals.spans
    assert ("flexmw.error.code" in (span.attributes or {})) == bool(code)
