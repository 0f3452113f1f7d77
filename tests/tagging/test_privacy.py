"""Secrets go in everywhere; nothing that flexmw writes has them.

The promise in SECURITY.md: "No API key, bearer token or idempotency key in the clear".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import flexmw
from flexmw.envelope import Envelope
from flexmw.ratelimit import RateLimit
from flexmw.retry import Retry
from flexmw.tagging import Tagging
from flexmw.testing import FakeClock, HostileServer
from tests.tagging.apps import call
from tests.tagging.sdk import Signals

CANARIES = {
    "bearer": "sk-canary-bearer-0123456789",
    "x-api-key": "canary0header0value",
    "cookie": "canary0cookie0value",
    "idempotency-key": "canary0idempotency0key",
    "query": "canary0query0value",
    "signature": "canary0signature0value",
    "body": "sk-canary-body-0123456789",
    "exception": "sk-canary-exception-0123456789",
    "code": "sk-canary-code-0123456789",
    "userinfo": "canary0password",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def written(signals: Signals) -> Iterator[tuple[str, str]]:
    """Every text that left the process."""
    for span in signals.spans:
        yield "span name", span.name
        yield "status", str(span.status.description)
        yield from ((f"span {name}", str(value)) for name, value in (span.attributes or {}).items())
        for event in span.events:
            yield from ((f"event {name}", str(value)) for name, value in (event.attributes or {}).items())
    for record in signals.logs:
        yield "body", str(record.body)
        yield from ((f"log {name}", str(value)) for name, value in (record.attributes or {}).items())
    for metric in signals.metric_data():
        for point in metric.data.data_points:
            yield from ((f"{metric.name} {name}", str(value)) for name, value in point.attributes.items())


def leaks(signals: Signals, *more: str) -> list[tuple[str, str]]:
    texts = [*written(signals), *(("log line", text) for text in more)]
    return [(where, canary) for (where, text), canary in itertools.product(texts, CANARIES.values()) if canary in text]


async def echo(request: Request) -> JSONResponse:
    """Puts all that it was given into its exception, as careless code does."""
    body = (await request.body()).decode()
    raise ValueError(f"{CANARIES['exception']} {request.url} {dict(request.headers)} {body}")


async def coded(request: Request) -> JSONResponse:
    raise flexmw.APIError(CANARIES["exception"], status=500, type=CANARIES["code"], code=CANARIES["code"]) from (
        ConnectionError(f"redis://app:{CANARIES['userinfo']}@cache:6379")
    )


REQUEST: dict[str, Any] = {
    "headers": (
        ("authorization", f"Bearer {CANARIES['bearer']}"),
        ("x-api-key", CANARIES["x-api-key"]),
        ("cookie", CANARIES["cookie"]),
        ("idempotency-key", f'"{CANARIES["idempotency-key"]}"'),
        ("content-type", "application/json"),
    ),
    "query": f"api_key={CANARIES['query']}&X-Amz-Signature={CANARIES['signature']}",
    "body": CANARIES["body"].encode(),
}


@pytest.mark.anyio
@pytest.mark.parametrize("logs", [True, False], ids=["logs", "traces-only"])
async def test_no_secret_of_a_request_leaves_the_server(logs: bool, caplog: pytest.LogCaptureFixture) -> None:
    with Signals(logs=logs) as signals:
        app = flexmw.wrap_app(
            Starlette(routes=[Route("/echo", echo, methods=["POST"]), Route("/coded", coded, methods=["POST"])]),
            Tagging(server_span=True, **signals.options),
            Envelope(),
            RateLimit("3/minute"),
        )
        for path in ("/echo", "/coded", "/echo", "/echo"):
            await call(app, path, method="POST", **REQUEST)
        assert len(signals.spans) == 4
        assert len(signals.exceptions) == 3
        ours = [record.getMessage() for record in caplog.records if record.name.startswith("flexmw")]
        assert leaks(signals, *ours) == []


def test_no_secret_of_a_call_leaves_the_client(signals: Signals, caplog: pytest.LogCaptureFixture) -> None:
    transport = flexmw.httpx.Transport(
        Tagging(call_span=True, **signals.options), Retry(clock=FakeClock()), clock=FakeClock()
    )
    headers = dict(REQUEST["headers"])
    with HostileServer(["503", "rst"], then="rst") as server, httpx.Client(transport=transport) as client:
        url = server.url.replace("http://", f"http://app:{CANARIES['userinfo']}@")
        for method, _ in itertools.product(("GET", "POST"), range(2)):
            with suppress(httpx.TransportError):
                client.request(method, f"{url}?{REQUEST['query']}", headers=headers, content=REQUEST["body"])
    assert len(signals.spans) == 4
    assert signals.exceptions
    assert leaks(signals, *(record.getMessage() for record in caplog.records if record.name.startswith("flexmw"))) == []


def test_ten_thousand_keys_make_as_many_series_as_one(signals: Signals) -> None:
    otel = Tagging(**signals.options)._settings.otel
    for n in range(10_000):
        otel.count("flexmw.rate_limiting.requests", None, f"tier-{n}", f"/{n}")
    points = signals.points("flexmw.rate_limiting.requests")
    assert len(points) <= 501
    assert sum(value for _, value in points) == 10_000
    assert len({attributes.get("flexmw.rate_limiting.policy") for attributes, _ in points}) <= 22
