"""The private state of other libraries that ``flexmw.tagging.instruments`` reads is where that package expects it."""

from __future__ import annotations

import dataclasses
import pkgutil
from importlib import import_module
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as Contrib
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as Native

import flexmw
from flexmw.tagging import instruments
from flexmw.tagging.instruments import CHECKED_WITH, contrib, fastapi, frames, instrument_of, starlette
from flexmw.tagging.plain import PlainRequest
from flexmw.tagging.request import RequestTelemetry
from tests.tagging.apps import OFF, fastapi_app, starlette_app
from tests.tagging.sdk import Signals
from tests.tagging.versions import differences

MODULES = [info.name for info in pkgutil.iter_modules(instruments.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_names_the_versions_it_was_checked_with(name: str) -> None:
    module = import_module(f"{instruments.__name__}.{name}")
    assert module.CHECKED_WITH
    for version in module.CHECKED_WITH.values():
        assert version in str(module.__doc__)


def test_another_version_than_the_checked_one_is_noted() -> None:
    installed = {"fastapi": "0.200.1", "starlette": f"{CHECKED_WITH['starlette']}b2"}
    assert differences({"fastapi": "0.165", "starlette": CHECKED_WITH["starlette"]}, installed.__getitem__) == [
        "fastapi 0.200.1 is installed; flexmw.tagging.instruments was checked with 0.165"
    ]


def test_fastapi_keeps_its_telemetry_where_it_is_read() -> None:
    telemetry: Any = import_module("fastapi.telemetry._api")._RequestTelemetry
    assert {"logger", "_exceptions"} <= {field.name for field in dataclasses.fields(telemetry)}
    assert import_module(fastapi.MODULE)
    assert callable(FastAPI()._native_telemetry.enabled)


def test_the_frames_of_instruments_are_known_by_the_names_of_their_modules() -> None:
    assert Native.__module__ == starlette.MODULE
    assert Contrib.__module__ == contrib.MODULE
    assert starlette._RAISE_AGAIN[0] == ServerErrorMiddleware.__module__
    sends = (RequestTelemetry.send, PlainRequest.send_observed)
    assert {(send.__module__, send.__name__) for send in sends} == frames._OWN_SENDS


def test_apps_that_open_a_server_span_are_recognised(signals: Signals) -> None:
    app = starlette_app()
    assert not instrument_of(app).opens_span
    assert not instrument_of(fastapi_app(OFF)).opens_span
    assert not instrument_of(fastapi_app({**signals.options, "tracing": False})).opens_span
    assert instrument_of(fastapi_app({**signals.options, "tracing": False})).measures
    assert instrument_of(fastapi_app(signals.options)).opens_span
    assert instrument_of(Contrib(app, tracer_provider=signals.tracer_provider)).opens_span
    assert instrument_of(Native(app, tracer_provider=signals.tracer_provider)).opens_span
    app.add_middleware(Native, tracer_provider=signals.tracer_provider)
    assert instrument_of(app).opens_span


@pytest.mark.parametrize("components", [(), (flexmw.Envelope(),), (flexmw.RateLimit("1/minute"),)])
def test_instrumenting_a_wrapped_app_says_what_to_do(components: tuple[Any, ...]) -> None:
    wrapped = flexmw.wrap_app(FastAPI(), *components)
    with pytest.raises(AttributeError, match=r"before it is wrapped: FastAPIInstrumentor\.instrument_app\(app\)"):
        FastAPIInstrumentor.instrument_app(wrapped)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match=r"ask the app that was given to flexmw\.wrap_app"):
        wrapped.add_middleware  # type: ignore[attr-defined]  # noqa: B018
    assert getattr(wrapped, "state", None) is None
