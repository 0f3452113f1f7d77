"""Outcomes of streams on the span of the app's instrument. Envelope holds the last message back, so that span may have
ended before the message is sent."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

import flexmw
from flexmw.envelope import Envelope
from flexmw.tagging import Tagging
from tests.servers import Serve
from tests.tagging.apps import APPS, OFF, Contrib, Native, call
from tests.tagging.sdk import Signals
from tests.waiting import LONGEST_WAIT

pytestmark = [pytest.mark.usefixtures("stable_conventions"), pytest.mark.anyio]

EVENT = b"data: 1\n\n"
MEDIA = ["text/event-stream", "application/x-ndjson", "text/plain"]
SPANNED = [name for name in APPS if name != "nothing"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def route(media: str, *, torn: bool) -> Any:
    async def stream(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield EVENT
            yield EVENT
            if torn:
                raise RuntimeError("torn")

        return StreamingResponse(chunks(), media_type=media)

    return stream


@pytest.mark.parametrize("envelope", [True, False], ids=["envelope", "bare"])
@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
@pytest.mark.parametrize("media", MEDIA)
@pytest.mark.parametrize("setup", SPANNED)
async def test_the_outcome_of_a_stream_is_on_the_span_of_the_instrument(
    setup: str, media: str, torn: bool, envelope: bool, signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.tagging.apps.ROUTES", {"stream": route(media, torn=torn)})
    tagging = Tagging(**signals.options)
    app = APPS[setup](signals, lambda app: tagging.asgi(Envelope().asgi(app) if envelope else app))
    received = await call(app, "/stream")
    span = signals.server_span
    assert (span.attributes or {})["flexmw.response.outcome"] == ("failed" if torn else "complete")
    assert span.status.status_code is (StatusCode.ERROR if torn else StatusCode.UNSET)
    assert received.body.startswith(EVENT + EVENT)


@pytest.mark.parametrize("setup", SPANNED)
async def test_a_stream_that_fails_before_its_first_event_has_no_outcome(
    setup: str, signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stream(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            raise RuntimeError("early")
            yield EVENT

        return StreamingResponse(chunks(), media_type=MEDIA[0])

    monkeypatch.setattr("tests.tagging.apps.ROUTES", {"stream": stream})
    tagging = Tagging(**signals.options)
    app = APPS[setup](signals, lambda app: tagging.asgi(Envelope().asgi(app)))
    assert (await call(app, "/stream")).status == 500
    assert "flexmw.response.outcome" not in (signals.server_span.attributes or {})


def fastapi_events(*, fails: bool, **telemetry: Any) -> FastAPI:
    """FastAPI's own event stream, which ends like a whole one before what its generator raises comes out."""
    app = FastAPI(telemetry=telemetry)  # type: ignore[arg-type]

    @app.get("/events", response_class=EventSourceResponse)
    async def events() -> AsyncIterable[dict[str, int]]:
        yield {"n": 1}
        await anyio.sleep(0.01)  # FastAPI drops what it has not sent when the generator raises
        if fails:
            raise RuntimeError("torn")

    return app


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("where", ["native", "starlette", "contrib"])
async def test_a_stream_that_fastapi_ends_well_before_it_fails_has_failed(
    where: str, fails: bool, signals: Signals
) -> None:
    app: Any = fastapi_events(fails=fails, **(signals.options if where == "native" else OFF))
    if where == "starlette":
        app.add_middleware(Native, tracer_provider=signals.tracer_provider)
    elif where == "contrib":
        app = Contrib(app, tracer_provider=signals.tracer_provider, exclude_spans=["send", "receive"])
    received = await call(Tagging(**signals.options).asgi(Envelope().asgi(app)), "/events")
    span = signals.server_span
    assert (span.attributes or {})["flexmw.response.outcome"] == ("failed" if fails else "complete")
    assert span.status.status_code is (StatusCode.ERROR if fails else StatusCode.UNSET)
    assert received.body.startswith(b'data: {"n":1}\n\n')
    assert (b'"code":"internal_error"' in received.body) is fails
    assert len(signals.exceptions) == fails


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
async def test_over_a_real_server_every_outcome_is_on_the_span_of_fastapi(
    server: Any, serve: Serve, signals: Signals
) -> None:
    app = fastapi_events(fails=False, **signals.options)
    for path, torn in (("/whole", False), ("/torn", True)):
        app.add_route(path, route(MEDIA[0], torn=torn))
    served = serve(Tagging(**signals.options).asgi(Envelope().asgi(app)), server=server)
    # The server closes a connection on which the app has raised: a client that keeps it could send on it first.
    once = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=served.url, trust_env=False, limits=once, timeout=LONGEST_WAIT) as client:
        bodies = [(await client.get(path)).content for path in ("/whole", "/torn", "/events")]
    await anyio.to_thread.run_sync(signals.wait_for_server_spans, 3)
    outcomes = {
        (span.attributes or {})["http.route"]: (span.attributes or {})["flexmw.response.outcome"]
        for span in signals.of_kind(SpanKind.SERVER)
    }
    assert outcomes == {"/whole": "complete", "/torn": "failed", "/events": "complete"}
    assert bodies[0] == EVENT * 2
    assert bodies[1].startswith(EVENT * 2 + b'event: error\ndata: {"error":')


async def test_a_client_that_leaves_a_held_stream_is_on_the_span_of_the_instrument(signals: Signals) -> None:
    app = Starlette(routes=[Route("/stream", route(MEDIA[0], torn=False))])
    app.add_middleware(Native, tracer_provider=signals.tracer_provider)
    await call(Tagging(**signals.options).asgi(Envelope().asgi(app)), "/stream", fail_send_at=2)
    assert (signals.server_span.attributes or {})["flexmw.response.outcome"] == "client_disconnected"


def failing_at_once(error: type[Exception]) -> Any:
    async def stream(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            raise error
            yield b""

        return StreamingResponse(chunks(), media_type=MEDIA[0])

    return stream


class Refused(flexmw.RateLimitExceeded):
    def __init__(self) -> None:
        super().__init__(3.0)


@pytest.mark.parametrize("setup", [name for name in APPS if name != "nothing"])
@pytest.mark.parametrize("error", [Refused, ZeroDivisionError])
async def test_a_stream_that_fails_before_its_first_event_is_on_the_span_as_the_client_got_it(
    setup: str, error: type[Exception], signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.tagging.apps.ROUTES", {"stream": failing_at_once(error)})
    tagging = Tagging(**signals.options)
    app = APPS[setup](signals, lambda app: tagging.asgi(Envelope().asgi(app)))
    received = await call(app, "/stream")
    span = signals.server_span
    attributes = dict(span.attributes or {})
    is_refusal = error is Refused
    assert received.status == (429 if is_refusal else 500)
    assert attributes["http.response.status_code"] == received.status
    assert attributes["flexmw.error.code"] == ("rate_limit_exceeded" if is_refusal else "internal_error")
    assert span.status.status_code is (StatusCode.UNSET if is_refusal else StatusCode.ERROR)
    assert ("error.type" in attributes) is not is_refusal
    assert "flexmw.response.outcome" not in attributes
    names = [name for _, name in signals.exceptions]
    if is_refusal:
        assert names in ([], ["RuntimeError"])  # the framework's "response already started", which FastAPI logs
    else:
        assert names == ["ZeroDivisionError"]
    assert "end" not in vars(span)


@pytest.mark.parametrize("setup", ["contrib_inside", "fastapi_native", "starlette_native"])
async def test_the_span_of_a_whole_stream_is_left_to_its_instrument(setup: str, signals: Signals) -> None:
    app = APPS[setup](signals, lambda app: Tagging(**signals.options).asgi(Envelope().asgi(app)))
    await call(app, "/stream")
    attributes = dict(signals.server_span.attributes or {})
    assert attributes["flexmw.response.outcome"] == "complete"
    assert attributes["http.response.status_code"] == 200
    assert signals.server_span.status.status_code is StatusCode.UNSET
