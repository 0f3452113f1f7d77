"""Set-ups beyond those of ``apps.py``: telemetry off or excluded, spans of the app's own, mounts, websockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as Contrib
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as Native

from tests.tagging.apps import OFF, Wrap, fastapi_app, starlette_app
from tests.tagging.sdk import Signals


class OwnSpan:
    """A middleware of the app's own, which opens an INTERNAL span around the rest of the app."""

    def __init__(self, app: Any, signals: Signals) -> None:
        self.app, self._tracer = app, signals.tracer_provider.get_tracer("app")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._tracer.start_as_current_span("own"):
            await self.app(scope, receive, send)


def around(signals: Signals, app: Any) -> Any:
    providers = {"tracer_provider": signals.tracer_provider, "meter_provider": signals.meter_provider}
    return Contrib(app, **providers, exclude_spans=["send", "receive"])


def excluding(signals: Signals) -> FastAPI:
    return fastapi_app({**signals.options, "exclude": lambda scope: True})


def contrib_of_fastapi(signals: Signals) -> FastAPI:
    app = fastapi_app(OFF)
    providers = {"tracer_provider": signals.tracer_provider, "meter_provider": signals.meter_provider}
    FastAPIInstrumentor.instrument_app(app, **providers)  # type: ignore[arg-type]
    return app


def native_of_starlette(signals: Signals, app: Any) -> Any:
    return Native(app, tracer_provider=signals.tracer_provider)


WITHOUT_FASTAPI: dict[str, Callable[[Signals, Wrap], Any]] = {
    "off": lambda signals, wrap: wrap(fastapi_app(OFF)),
    "off, contrib around": lambda signals, wrap: around(signals, wrap(fastapi_app(OFF))),
    "off, contrib inside": lambda signals, wrap: wrap(around(signals, fastapi_app(OFF))),
    "off, Starlette's around": lambda signals, wrap: native_of_starlette(signals, wrap(fastapi_app(OFF))),
    "excluded": lambda signals, wrap: wrap(excluding(signals)),
    "excluded, contrib around": lambda signals, wrap: around(signals, wrap(excluding(signals))),
}
"""FastAPI apps whose own telemetry does not handle the requests."""

OWN_SPANS: dict[str, Callable[[Signals, Wrap], Any]] = {
    "FastAPI": lambda signals, wrap: wrap(OwnSpan(fastapi_app(signals.options), signals)),
    "inside of FastAPI": lambda signals, wrap: wrap(_with_own_span(fastapi_app(signals.options), signals)),
    "contrib around": lambda signals, wrap: around(signals, wrap(OwnSpan(starlette_app(), signals))),
    "between contrib and flexmw": lambda signals, wrap: around(signals, OwnSpan(wrap(starlette_app()), signals)),
    "contrib inside": lambda signals, wrap: wrap(around(signals, OwnSpan(starlette_app(), signals))),
    "contrib's FastAPI": lambda signals, wrap: wrap(_with_own_span(contrib_of_fastapi(signals), signals)),
    "Starlette's around": lambda signals, wrap: native_of_starlette(signals, wrap(OwnSpan(starlette_app(), signals))),
    "Starlette's inside": lambda signals, wrap: wrap(native_of_starlette(signals, OwnSpan(starlette_app(), signals))),
}
"""Apps that open a span of their own inside of the server span."""

INSTRUMENTED_INSIDE: dict[str, Callable[[Signals], Any]] = {
    "FastAPI": lambda signals: fastapi_app(signals.options),
    "contrib": lambda signals: around(signals, starlette_app()),
    "contrib's FastAPI": contrib_of_fastapi,
    "Starlette's": lambda signals: native_of_starlette(signals, starlette_app()),
}
"""Apps whose instrument is inside of flexmw, as the README puts them."""


def _with_own_span(app: FastAPI, signals: Signals) -> FastAPI:
    app.add_middleware(OwnSpan, signals=signals)
    return app
