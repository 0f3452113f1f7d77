"""The stand-in by hand that the benchmarks set beside Tagging counts what Tagging counts, and notes what it writes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as Native
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from benchmarks.tagging_floor import ByHand
from flexmw.tagging import Tagging
from tests.tagging.apps import call
from tests.tagging.sdk import Signals

pytestmark = [pytest.mark.usefixtures("stable_conventions"), pytest.mark.anyio]

ROUTES = [
    Route("/ok", lambda request: PlainTextResponse("ok")),
    Route("/stream", lambda request: StreamingResponse(iter([b"a", b"b"]))),
    Route("/raises", lambda request: 1 / 0),
]
PLAIN = ["/ok", "/ok", "/nowhere", "/v1/ok"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def app() -> Any:
    return Starlette(routes=[*ROUTES, Mount("/v1", routes=ROUTES)])


async def test_it_counts_plain_requests_like_tagging() -> None:
    with Signals() as signals:
        by_hand = ByHand(app(), signals.options["meter_provider"])
        for tagged in (by_hand, Tagging(**signals.options).asgi(app())):
            instrumented = Native(tagged, tracer_provider=signals.tracer_provider)
            for path in PLAIN * 3:
                await call(instrumented, path)
        expected = [
            (point["http.response.status_code"], point.get("http.route"), number)
            for point, number in signals.points("flexmw.server.requests")
        ]
    counted = [(*key, count.observation().value) for key, count in by_hand.counts.items()]
    assert {(status, route, number) for status, route, number in counted} == set(expected)
    assert by_hand.odd == []


@pytest.mark.parametrize(("path", "fail_send_at"), [("/stream", None), ("/raises", None), ("/ok", 0)])
async def test_it_notes_what_tagging_writes_to_a_span(path: str, fail_send_at: int | None) -> None:
    with Signals() as signals:
        by_hand = ByHand(app(), signals.options["meter_provider"])
        instrumented = Native(by_hand, tracer_provider=signals.tracer_provider)
        with suppress(Exception):
            await call(instrumented, path, fail_send_at=fail_send_at)
    assert by_hand.odd
