"""Instrumenting without a change of code: beside the instrumentors of others, and without a trace afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette

import flexmw
from flexmw.instrument import FlexmwInstrumentor
from flexmw.retry import Retry
from flexmw.testing import FakeClock, HostileServer
from tests.tagging.apps import call, contrib_inside, fastapi_native, starlette_app
from tests.tagging.sdk import Signals
from tests.waiting import LONGEST_WAIT

OPTIONS: dict[str, Any] = {"timeout": LONGEST_WAIT, "trust_env": False}

LIBRARIES: dict[str, Any] = {"httpx": (httpx, HTTPXClientInstrumentor), "httpx2": (httpx2, HTTPX2ClientInstrumentor)}
PATCHED = (
    (Starlette, "__call__"),
    *(
        (getattr(library, name), "_transport_for_url")
        for library in (httpx, httpx2)
        for name in ("Client", "AsyncClient")
    ),
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[Signals]:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    instrumentor = FlexmwInstrumentor()
    with Signals() as signals:
        instrumentor.instrument(**signals.options)
        yield signals
        instrumentor.uninstrument()


@pytest.mark.anyio
@pytest.mark.parametrize("setup", [fastapi_native, contrib_inside])
@pytest.mark.parametrize("wrapped", [False, True])
async def test_apps_are_tagged_once_whether_they_were_wrapped_or_not(
    setup: Any, wrapped: bool, signals: Signals
) -> None:
    def wrap(app: Any) -> Any:
        # Without options Tagging would write to the global providers, which an earlier test may have set.
        return flexmw.wrap_app(app, flexmw.Tagging(**signals.options), flexmw.Envelope()) if wrapped else app

    app = setup(signals, wrap)
    await call(app, "/upstream")
    assert signals.server_span.status.status_code is StatusCode.ERROR
    assert [name for _, name in signals.exceptions] == ["TimeoutError"]


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("library", LIBRARIES)
async def test_clients_are_tagged_beside_their_instrumentor_in_either_order(
    library: str, order: str, mode: str, signals: Signals
) -> None:
    module, instrumentor = LIBRARIES[library]
    FlexmwInstrumentor().uninstrument()
    providers = {"tracer_provider": signals.tracer_provider, "meter_provider": signals.meter_provider}
    steps = [lambda: FlexmwInstrumentor().instrument(**signals.options), lambda: instrumentor().instrument(**providers)]
    for step in steps if order == "before" else reversed(steps):
        step()
    try:
        with HostileServer(["503"], then="200") as server:
            retry = Retry(clock=FakeClock())
            if mode == "sync":
                with flexmw.wrap_client(module.Client(**OPTIONS), retry, clock=FakeClock()) as client:
                    client.get(server.url)
            else:
                async with flexmw.wrap_client(module.AsyncClient(**OPTIONS), retry, clock=FakeClock()) as client:
                    await client.get(server.url)
    finally:
        instrumentor().uninstrument()
    counts = [(span.attributes or {}).get("http.request.resend_count") for span in signals.of_kind(SpanKind.CLIENT)]
    assert counts == [None, 1]
    ((attributes, _),) = signals.points("flexmw.client.operation.duration")
    assert attributes["http.response.status_code"] == 200


def test_a_client_with_a_tagging_stays_as_it_is(signals: Signals) -> None:
    with HostileServer() as server, flexmw.wrap_client(httpx.Client(**OPTIONS)) as client:
        client.get(server.url)
    assert signals.points("flexmw.client.operation.duration") == []


def test_a_client_made_before_is_tagged_and_may_be_wrapped_later(signals: Signals) -> None:
    with HostileServer() as server, httpx.Client(**OPTIONS) as client:
        for _ in range(2):
            client.get(server.url)
        flexmw.wrap_client(client, Retry())
        client.get(server.url)
    ((_, _),) = signals.points("flexmw.client.operation.duration")
    (metric,) = [each for each in signals.metric_data() if each.name == "flexmw.client.operation.duration"]
    assert metric.data.data_points[0].count == 3


@pytest.mark.anyio
async def test_nothing_is_left_after_uninstrumenting() -> None:
    before = [owner.__dict__[name] for owner, name in PATCHED]
    app, client = starlette_app(), httpx.AsyncClient(**OPTIONS)
    with Signals() as signals, HostileServer() as server:
        FlexmwInstrumentor().instrument(**signals.options)
        assert all(owner.__dict__[name] is not old for (owner, name), old in zip(PATCHED, before, strict=True))
        await client.get(server.url)
        await call(app, "/upstream")
        assert len(signals.exceptions) == 1
        FlexmwInstrumentor().uninstrument()
        await client.get(server.url)
        await call(app, "/upstream")
        assert len(signals.exceptions) == 1
        (metric,) = [each for each in signals.metric_data() if each.name == "flexmw.client.operation.duration"]
        assert metric.data.data_points[0].count == 1
        await client.aclose()
    assert [owner.__dict__[name] for owner, name in PATCHED] == before


@pytest.mark.anyio
async def test_instrumenting_again_uses_the_new_providers() -> None:
    app = starlette_app()
    for _ in range(2):
        with Signals() as signals:
            FlexmwInstrumentor().instrument(**signals.options)
            await call(app, "/upstream")
            FlexmwInstrumentor().uninstrument()
            assert len(signals.exceptions) == 1


@pytest.fixture
def retrying() -> Iterator[None]:
    instrumentor = FlexmwInstrumentor()
    instrumentor.instrument(retry=Retry(jitter=0.0))
    yield
    instrumentor.uninstrument()


@pytest.mark.usefixtures("retrying")
@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_retry_reaches_a_client_that_nobody_has_wrapped(library: Any) -> None:
    with (
        HostileServer(["429:ms=0.01", "rst"]) as server,
        library.Client(**OPTIONS) as client,
    ):
        response = client.get(f"{server.url}/safe")
        assert flexmw.outcome_of(response) is not None
        assert response.status_code == 200
        assert len(server.requests) == 3
    with HostileServer(then="rst") as server, library.Client(**OPTIONS) as client:
        with pytest.raises(library.ReadError) as caught:
            client.post(server.url, json={})
        assert caught.value.flexmw.outcome == "ambiguous"
        assert server.executions == 1


@pytest.mark.usefixtures("retrying")
def test_a_client_with_a_retry_of_its_own_keeps_it() -> None:
    with HostileServer(then="429:ms=0.01") as server:
        with flexmw.wrap_client(httpx.Client(**OPTIONS), Retry(attempts=2, jitter=0.0)) as client:
            assert client.get(server.url).status_code == 429
        assert len(server.requests) == 2


@pytest.mark.usefixtures("retrying")
def test_a_retry_inside_another_transport_is_not_added_again() -> None:
    class Cached(httpx.BaseTransport):
        def __init__(self) -> None:
            self._below = flexmw.httpx.Transport(Retry(attempts=2, jitter=0.0))

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return self._below.handle_request(request)

        def close(self) -> None:
            self._below.close()

    with HostileServer(then="429:ms=0.01") as server:
        with httpx.Client(transport=Cached(), **OPTIONS) as client:
            assert client.get(server.url).status_code == 429
        assert len(server.requests) == 2


def test_an_adopted_transport_of_a_client_is_not_doubled() -> None:
    class Counting(httpx.BaseTransport):
        def __init__(self, transport: Any) -> None:
            self._transport, self.requests = transport, 0
            made.append(self)

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            self.requests += 1
            return self._transport.handle_request(request)  # type: ignore[no-any-return]

        def close(self) -> None:
            self._transport.close()

    made: list[Counting] = []
    with HostileServer(then="429:ms=0.01") as server:
        components = flexmw.Pace(), flexmw.adopt(Counting), Retry(attempts=2, jitter=0.0)
        with flexmw.wrap_client(httpx.Client(**OPTIONS), *components) as client:
            assert client.get(server.url).status_code == 429
        assert [transport.requests for transport in made] == [1]
        assert len(server.requests) == 2


def test_retry_is_not_added_unasked(signals: Signals) -> None:
    with HostileServer(then="429:ms=0.01") as server, httpx.Client(**OPTIONS) as client:
        assert client.get(server.url).status_code == 429
        assert len(server.requests) == 1


@pytest.mark.parametrize(("value", "requests"), [("1", 2), ("TRUE", 2), ("0", 1), ("", 1)])
def test_the_environment_can_ask_for_retry(value: str, requests: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEXMW_RETRY", value)
    instrumentor = FlexmwInstrumentor()
    instrumentor.instrument()
    try:
        with HostileServer(["429:ms=0.01"]) as server, httpx.Client(**OPTIONS) as client:
            client.get(server.url)
            assert len(server.requests) == requests
    finally:
        instrumentor.uninstrument()


def test_a_wrong_retry_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(flexmw.ConfigError, match=r"expected a flexmw\.Retry, or None"):
        FlexmwInstrumentor().instrument(retry=3)
    monkeypatch.setenv("FLEXMW_RETRY", "yes please")
    with pytest.raises(flexmw.ConfigError, match="FLEXMW_RETRY = 'yes please': expected 1, true, 0 or false"):
        FlexmwInstrumentor().instrument()
