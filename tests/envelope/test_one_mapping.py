"""One mapping from exception to error: Envelope sends it, Idempotency stores it, Tagging reports it."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import flexmw
from flexmw.contract import exception_rules
from flexmw.contract.exceptions import map_exception
from flexmw.kit.exchange import Exchange
from tests.wire import AppResponse, call

pytestmark = pytest.mark.anyio

KEYED = [(b"idempotency-key", b"k"), (b"authorization", b"Bearer sk-1")]
"""The caller shows a credential: a 403 to a caller who shows none is not stored."""


class OutOfPaperError(Exception):
    """An exception that the table of the mapping does not know."""


def raising(error: BaseException) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    return app


def answering(status: int, body: bytes, *, then: BaseException | None = None, before: Any = None) -> Any:
    """An app that sends a whole response, and raises after it, as Starlette does with a crash."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if before is not None:
            before()
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})
        if then is not None:
            raise then

    return app


async def post(app: Any) -> AppResponse:
    return await call(app, method="POST", headers=KEYED, receives=[{"type": "http.request", "body": b"{}"}])


async def twice(app: Any) -> tuple[AppResponse, AppResponse]:
    first, second = await post(app), await post(app)
    assert second.headers["idempotent-replayed"] == "true"
    return first, second


async def test_a_new_row_of_the_table_is_sent_stored_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    row = exception_rules.ErrorMapping(
        507,
        exception_rules.complete(exception_rules.PartialError("Out of paper.", code="service_unavailable"), 507),
        source="validation",
    )
    monkeypatch.setitem(exception_rules.RULES, f"{__name__.partition('.')[0]}.OutOfPaperError", lambda error: row)  # type: ignore[index]
    error = OutOfPaperError("tray 2")
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = flexmw.Envelope().asgi(flexmw.Tagging().asgi(flexmw.Idempotency().asgi(raising(error))))

    with provider.get_tracer("server").start_as_current_span("POST /"):
        first = await post(app)
    second = await post(app)
    assert first.raised is error
    assert (first.status, first.error.code, first.error.message) == (507, "service_unavailable", "Out of paper.")
    assert (second.status, second.body) == (first.status, first.body)
    (span,) = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["flexmw.error.code"] == "service_unavailable"
    assert span.attributes["flexmw.error.source"] == "validation"


async def test_without_an_envelope_the_default_mapping_is_stored() -> None:
    app = flexmw.Idempotency().asgi(raising(TimeoutError("10.0.0.7")))
    await post(app)
    second = await post(app)
    assert (second.status, second.error.code) == (500, "upstream_timeout")


@pytest.mark.parametrize("timeout_status", [500, 504])
@pytest.mark.parametrize(
    "body",
    [b"", b"Internal Server Error", b'{"rows": 3}', b'{"foo": "bar"}', b"<h1>500</h1>", b'{"detail": "Own words."}'],
)
async def test_a_replay_agrees_with_the_envelope_on_which_500_says_nothing(body: bytes, timeout_status: Any) -> None:
    app = answering(500, body, then=TimeoutError("10.0.0.7"))
    first, second = await twice(
        flexmw.wrap_app(app, flexmw.Envelope(timeout_status=timeout_status), flexmw.Idempotency())
    )
    own = b"Own words." in body
    assert (first.status, first.error.code) == (
        (500, "internal_error") if own else (timeout_status, "upstream_timeout")
    )
    assert (second.status, second.error) == (first.status, first.error)


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b"Internal Server Error"), (500, b"Own words."), (404, b"Own words."), (403, b"Forbidden")],
)
async def test_a_replay_agrees_with_the_envelope_on_when_a_swallowed_error_takes_over(status: int, body: bytes) -> None:
    app = answering(status, body, before=flexmw.JobNotFound)
    first, second = await twice(flexmw.wrap_app(app, flexmw.Envelope(), flexmw.Idempotency()))
    swallowed = status == 404 or (b"Own" not in body and status == 500)
    assert first.status == (404 if swallowed else status)
    assert (first.error.code == "job_not_found") is swallowed
    assert (second.status, second.error) == (first.status, first.error)


async def test_an_exchange_maps_by_default_and_by_the_options_of_the_innermost_envelope() -> None:
    statuses: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        statuses.append(Exchange.of(scope).map_exception(TimeoutError()).status)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def between(inner: Any) -> Any:
        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            await inner(scope, receive, send)
            await app(scope, receive, lambda message: _nothing())

        return middleware

    assert Exchange.of({}).map_exception is map_exception
    assert not Exchange.of({}).enveloped
    await call(app)
    inside = flexmw.Envelope(timeout_status=500).asgi(app)
    await call(flexmw.Envelope(timeout_status=504).asgi(between(inside)))
    assert statuses == [500, 500, 504]


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_one_attribute_says_that_an_envelope_is_outside(kind: str) -> None:
    known: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        known.append(Exchange.of(scope).enveloped)

    def outside(inner: Any) -> Any:
        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)
            await inner(scope, receive, send)
            await app(scope, receive, send)

        return middleware

    scope = {"type": kind, "path": "/", "headers": []}
    await outside(flexmw.Envelope().asgi(app))(scope, None, lambda message: _nothing())
    assert known == [False, True, False]


async def _nothing() -> None:
    pass
