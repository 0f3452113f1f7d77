"""What Tagging records of a limiter that settles tokens by the usage of responses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

import flexmw
from flexmw.testing.semconv import assert_semconv
from tests.tagging.apps import call
from tests.tagging.sdk import Signals

pytestmark = pytest.mark.anyio
PATH = "/v1/units"
POLICY = {"flexmw.rate_limiting.policy": "10000 tokens/day"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def units(value: Any) -> Any:
    """The reader of an API that Tagging does not know."""
    used = value.get("units")
    return used and flexmw.ratelimit.Usage(input_tokens=used[0], output_tokens=used[1], model="acme-1")


def limited(endpoint: Any, signals: Signals, **tagging: Any) -> Any:
    app = Starlette(routes=[Route(PATH, endpoint, methods=["POST"])])
    limit = flexmw.RateLimit(tokens="10000/day", token_cost=150, usage=units)
    tagger = flexmw.Tagging(server_span=True, **tagging, **signals.options)
    return flexmw.wrap_app(app, tagger, flexmw.Envelope(), limit)


async def respond(request: Request) -> JSONResponse:
    return JSONResponse({"units": [70, 30]})


async def stream(request: Request) -> StreamingResponse:
    async def events() -> Any:
        for number in range(4):
            yield f"data: {json.dumps({'part': number})}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def test_the_usage_of_an_api_that_only_the_limiter_knows_is_on_the_span(signals: Signals) -> None:
    assert (await call(limited(respond, signals, gen_ai=True), PATH, method="POST")).status == 200
    attributes = dict(signals.server_span.attributes or {})
    assert attributes["flexmw.rate_limiting.settlement"] == "usage"
    assert {name: value for name, value in attributes.items() if name.startswith("gen_ai.")} == {
        "gen_ai.response.model": "acme-1",
        "gen_ai.usage.input_tokens": 70,
        "gen_ai.usage.output_tokens": 30,
    }
    assert_semconv(signals.spans, signals.metric_data(), signals.raw_logs)


async def test_usage_is_not_on_the_span_where_it_is_not_asked_for(signals: Signals) -> None:
    await call(limited(respond, signals), PATH, method="POST")
    assert not [name for name in signals.server_span.attributes or () if name.startswith("gen_ai.")]


async def test_settlements_are_counted_and_the_error_of_estimates_is_measured(signals: Signals) -> None:
    await call(limited(respond, signals), PATH, method="POST")
    assert signals.points("flexmw.rate_limiting.settlements") == [
        ({"flexmw.rate_limiting.settlement": "usage", **POLICY}, 1)
    ]
    ((attributes, _),) = signals.points("flexmw.rate_limiting.estimate.error")
    assert attributes == {"flexmw.rate_limiting.estimate.direction": "above", **POLICY}


async def test_a_stream_without_usage_is_a_settlement_of_its_own(signals: Signals) -> None:
    await call(limited(stream, signals), PATH, method="POST")
    assert signals.server_span.attributes is not None
    assert signals.server_span.attributes["flexmw.rate_limiting.settlement"] == "counted"
    assert signals.points("flexmw.rate_limiting.settlements") == [
        ({"flexmw.rate_limiting.settlement": "counted", **POLICY}, 1)
    ]
    assert signals.points("flexmw.rate_limiting.estimate.error") == []
