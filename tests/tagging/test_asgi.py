"""Every way to instrument an app, times every way in which a request can fail: one record of each failure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from flexmw.envelope import Envelope
from flexmw.tagging import Tagging
from tests.tagging.apps import APPS, call
from tests.tagging.sdk import Signals

pytestmark = pytest.mark.usefixtures("stable_conventions")


@pytest.fixture
def anyio_backend() -> str:
    """The instruments themselves know asyncio alone."""
    return "asyncio"


@dataclass(frozen=True)
class Case:
    """A request, and what must be known about it. ``records``: what is raised; several names are one failure, as
    different hosts call it."""

    status: int | None
    span: StatusCode
    records: tuple[str, ...] = ()
    envelope: tuple[str, str, str] | None = None
    path: str = ""
    how: dict[str, Any] = field(default_factory=dict)


UNSET, ERROR = StatusCode.UNSET, StatusCode.ERROR
CLIENT, SERVER = "invalid_request_error", "server_error"
GONE = ("OSError", "starlette.requests.ClientDisconnect")

CASES = {
    "ok": Case(200, UNSET),
    "missing": Case(404, UNSET, envelope=(CLIENT, "not_found", "http_exception")),
    "model": Case(400, UNSET, envelope=(CLIENT, "model_not_found", "http_exception")),
    "offline": Case(503, ERROR, envelope=(SERVER, "service_unavailable", "http_exception")),
    "upstream": Case(500, ERROR, ("TimeoutError",), (SERVER, "upstream_timeout", "http_exception")),
    "broken": Case(500, ERROR, ("ValueError",), (SERVER, "internal_error", "unhandled_exception")),
    "handled": Case(500, ERROR, ("tests.tagging.apps.Handled",), (SERVER, "internal_error", "unhandled_exception")),
    "stream": Case(200, UNSET),
    "torn": Case(200, ERROR, ("RuntimeError",)),
    "gone": Case(200, ERROR, GONE, path="stream", how={"fail_send_at": 3}),
    "hanging": Case(None, UNSET, how={"cancel": True}),
}

TWICE = {("fastapi_contrib", "torn"), ("fastapi_contrib", "gone")}
"""Contrib's FastAPI instrument itself records these on two levels. flexmw adds none."""

CLOSED_BEFORE_500 = {("starlette_native", "broken")}
"""Starlette's own span, as an inner middleware, is closed before the 500 is made."""


def expected_records(setup: str, case: str, *, logs: bool) -> int:
    if not CASES[case].records or (not logs and setup == "nothing"):
        return 0
    return 2 if (setup, case) in TWICE else 1


@pytest.mark.anyio
@pytest.mark.parametrize("logs", [True, False], ids=["logs", "traces-only"])
@pytest.mark.parametrize("envelope", [True, False], ids=["envelope", "bare"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("setup", APPS)
async def test_every_failure_is_recorded_once_with_its_true_status(
    setup: str, case: str, envelope: bool, logs: bool
) -> None:
    row = CASES[case]
    with Signals(logs=logs) as signals:
        tagging = Tagging(**signals.options)

        def wrap(app: Any) -> Any:
            return tagging.asgi(Envelope().asgi(app) if envelope else app)

        received = await call(APPS[setup](signals, wrap), f"/{row.path or case}", **row.how)

        assert received.status == row.status
        names = [name for _, name in signals.exceptions]
        assert len(names) == expected_records(setup, case, logs=logs), signals.exceptions
        assert set(names) <= set(row.records)
        if setup == "nothing":
            assert signals.spans == []
            return
        span = signals.server_span
        attributes = dict(span.attributes or {})
        cancelled_by_fastapi = case == "hanging" and setup.startswith("fastapi_native")
        assert span.status.status_code is (ERROR if cancelled_by_fastapi else row.span)
        if (setup, case) not in CLOSED_BEFORE_500:
            assert attributes.get("http.response.status_code") == row.status
        if envelope and row.envelope is not None and (setup, case) not in CLOSED_BEFORE_500:
            names = ["flexmw.error.type", "flexmw.error.code", "flexmw.error.source"]
            assert tuple(attributes.get(name) for name in names) == row.envelope
        if row.span is UNSET and not cancelled_by_fastapi:
            assert "error.type" not in attributes
        if case in ("torn", "gone"):
            outcome = {"torn": "failed", "gone": "client_disconnected"}[case]
            assert attributes["flexmw.response.outcome"] == outcome
