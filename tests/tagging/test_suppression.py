"""Inside of OpenTelemetry's ``suppress_instrumentation()`` nothing is written: exporters send their own requests so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import httpx2
import pytest
from opentelemetry import context
from opentelemetry.context import attach, detach, set_value
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation

import flexmw
from flexmw.tagging.instruments.suppression import is_suppressed
from tests.tagging.apps import call
from tests.tagging.sdk import Signals

SUPPRESSIONS = [suppress_instrumentation, suppress_http_instrumentation]
Suppression = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def written(signals: Signals) -> tuple[list[Any], list[Any], list[Any]]:
    return signals.spans, signals.logs, signals.metric_data()


@pytest.mark.parametrize("suppression", SUPPRESSIONS)
@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_call_of_an_exporter_makes_no_telemetry(library: Any, suppression: Suppression, signals: Signals) -> None:
    def refuse(request: Any) -> Any:
        raise library.ConnectError("down")

    client = flexmw.wrap_client(
        library.Client(transport=library.MockTransport(refuse)),
        flexmw.Tagging(call_span=True, **signals.options),
        flexmw.Retry(attempts=1),
    )
    with suppression(), pytest.raises(library.ConnectError):
        client.post("http://collector/v1/traces")
    assert written(signals) == ([], [], [])
    with pytest.raises(library.ConnectError):
        client.post("http://collector/v1/traces")
    assert all(written(signals))


@pytest.mark.anyio
@pytest.mark.parametrize("suppression", SUPPRESSIONS)
async def test_a_request_that_is_served_while_telemetry_is_suppressed_makes_none(
    suppression: Suppression, signals: Signals
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError

    wrapped = flexmw.wrap_app(app, flexmw.Tagging(server_span=True, **signals.options), flexmw.Envelope())
    with suppression():
        seen = await call(wrapped, "broken")
    assert seen.status == 500
    assert written(signals) == ([], [], [])
    await call(wrapped, "broken")
    assert all(written(signals))


def test_the_older_key_is_read_and_a_false_value_suppresses_nothing() -> None:
    token = attach(set_value("suppress_instrumentation", True))
    assert is_suppressed()
    detach(token)
    token = attach(set_value(context._SUPPRESS_INSTRUMENTATION_KEY, False))
    assert not is_suppressed()
    detach(token)
