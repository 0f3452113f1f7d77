"""A request with nothing to write on its span takes the short way, and what is recorded of it is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from flexmw.envelope import Envelope
from flexmw.tagging import Tagging
from flexmw.tagging.request import RequestTelemetry
from tests.tagging.apps import APPS, call
from tests.tagging.sdk import Signals
from tests.tagging.setups import INSTRUMENTED_INSIDE, OWN_SPANS, WITHOUT_FASTAPI

Setup = Callable[[Signals, Callable[[Any], Any]], Any]

SETUPS: dict[str, Setup] = {
    **{f"app: {name}": setup for name, setup in APPS.items()},
    **{f"own span: {name}": setup for name, setup in OWN_SPANS.items()},
    **{f"without FastAPI's: {name}": setup for name, setup in WITHOUT_FASTAPI.items()},
    **{
        f"inside: {name}": lambda signals, wrap, make=make: wrap(make(signals))  # type: ignore[misc]
        for name, make in INSTRUMENTED_INSIDE.items()
    },
}
COUNT = ("x-stainless-retry-count", "2")
REQUESTS: list[tuple[str, Any]] = [("/ok", ()), ("/ok", (COUNT,)), ("/ok", ()), ("/nowhere", ()), ("/stream", ())]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _stable_conventions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")


async def recorded(setup: Setup, *, plain: bool, sampled: bool, envelope: bool) -> tuple[Any, ...]:
    """What is exported of a number of requests, but times and ids."""
    with Signals(**({} if sampled else {"sampler": ALWAYS_OFF})) as signals:
        tagging = Tagging(**signals.options)
        if not plain:
            object.__setattr__(tagging._settings, "has_plain_requests", False)
        app = setup(signals, lambda app: tagging.asgi(Envelope().asgi(app) if envelope else app))
        responses = [(await call(app, path, headers=headers)).status for path, headers in REQUESTS]
        spans = [(span.name, span.kind, span.status.status_code, dict(span.attributes or {})) for span in signals.spans]
        data = {metric.name: metric.data.data_points for metric in signals.metric_data()}
        counts = [
            (dict(point.attributes), point.value, [bool(exemplar.span_id) for exemplar in point.exemplars])
            for point in data["flexmw.server.requests"]
        ]
        return responses, spans, counts, signals.exceptions, vars(tagging._settings.otel)["live"]


@pytest.mark.parametrize("envelope", [True, False], ids=["envelope", "bare"])
@pytest.mark.parametrize("sampled", [True, False], ids=["sampled", "unsampled"])
@pytest.mark.parametrize("setup", SETUPS)
async def test_a_plain_request_is_recorded_like_any_other_one(setup: str, sampled: bool, envelope: bool) -> None:
    short, long = [
        await recorded(SETUPS[setup], plain=plain, sampled=sampled, envelope=envelope) for plain in (True, False)
    ]
    assert short == long
    assert sum(count for _, count, _ in short[2]) == len(REQUESTS)


@pytest.mark.parametrize("sampled", [True, False], ids=["sampled", "unsampled"])
@pytest.mark.parametrize("setup", ["inside: FastAPI", "without FastAPI's: off, Starlette's around"])
async def test_a_request_with_nothing_to_write_takes_the_short_way(
    setup: str, sampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = []
    for name in ("_start_marked", "_finish_marked"):
        method = getattr(RequestTelemetry, name)
        monkeypatch.setattr(
            RequestTelemetry, name, lambda *a, method=method: long.append(method.__name__) or method(*a)
        )
    with Signals(**({} if sampled else {"sampler": ALWAYS_OFF})) as signals:
        tagging = Tagging(**signals.options)
        app = SETUPS[setup](signals, lambda app: tagging.asgi(Envelope().asgi(app)))
        for _ in range(2):  # the first unsampled one finds out that a span is open
            await call(app, "/ok")
        del long[:]
        await call(app, "/ok")
        assert long == []
        await call(app, "/ok", headers=(COUNT,))
        assert long == ["_start_marked"] * sampled
        await call(app, "/nowhere")
        assert long[-2:] == ["_start_marked", "_finish_marked"]
