"""An OpenTelemetry instrumentor that adds Tagging, and Retry on request, without a change of code.

>>> instrumentor = FlexmwInstrumentor()
>>> instrumentor.instrument()
>>> instrumentor.uninstrument()

Tagging is added to every Starlette and FastAPI app, inside the server span of FastAPI, and to every client of httpx and
httpx2, outside the spans of the client's instrumentor; it does not matter which instrumentor comes first. An app or a
client that has a Tagging (``wrap_app``, ``wrap_client``) stays as it is. A wrapped client without a Tagging gets one
outside of its other components, where it observes their retries. ``opentelemetry-instrument`` finds the instrumentor by
itself. The package ``opentelemetry-instrumentation`` is needed; the extra ``flexmw[otel]`` installs it.

Retry is added only where it is asked for: ``FlexmwInstrumentor().instrument(retry=flexmw.Retry())``, or the environment
variable ``FLEXMW_RETRY=1`` for a Retry with its defaults. It reaches clients that a program cannot reach, such as the
one inside ``ChatAnthropic`` of langchain. A client that has components of flexmw already gets no Retry.

One private name is used: the method ``_transport_for_url`` of a client (checked with httpx 0.28 and httpx2 2.16).
Without it, ``instrument()`` raises a ``ConfigError``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from starlette.applications import Starlette

from flexmw.errors import ConfigError
from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send
from flexmw.kit.inner_transports import TAGGED_ATTRIBUTE
from flexmw.kit.transport import components_of, inner_components
from flexmw.retry import Retry
from flexmw.tagging import Tagging

__all__ = ["RETRY_VARIABLE", "FlexmwInstrumentor"]

RETRY_VARIABLE: Final = "FLEXMW_RETRY"
"""The environment variable that adds a Retry with its defaults: ``1`` or ``true``; ``0``, ``false`` or empty: none."""

_SWITCH: Final = {"": False, "0": False, "false": False, "1": True, "true": True}

_CLIENTS: Final = (("Client", "Transport"), ("AsyncClient", "AsyncTransport"))
_TRANSPORT_METHOD: Final = "_transport_for_url"


class FlexmwInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Adds :class:`flexmw.Tagging` to the apps and clients of this process, and removes it again.

    ``instrument(tracer_provider=..., meter_provider=..., logger_provider=...)`` uses these providers instead of the
    global ones. ``instrument(retry=flexmw.Retry(...))`` adds this Retry to each client that has no component of flexmw;
    all these clients share its budget.

    :raises ConfigError: ``retry`` is no ``flexmw.Retry``, or ``FLEXMW_RETRY`` is neither of its values.
    """

    _restore: list[Callable[[], None]]

    def instrumentation_dependencies(self) -> Collection[str]:
        """No library is required: those that are installed are instrumented."""
        return ()

    def _instrument(self, **options: Any) -> None:
        tagging = Tagging(
            tracer_provider=options.get("tracer_provider"),
            meter_provider=options.get("meter_provider"),
            logger_provider=options.get("logger_provider"),
        )
        retry = _retry_of(options.get("retry"))
        self._restore = [_tag_apps(tagging)]
        for library in ("httpx", "httpx2"):
            if find_spec(library) is not None:
                self._restore += [
                    _tag_clients(tagging, retry, library, client, transport) for client, transport in _CLIENTS
                ]

    def _uninstrument(self, **options: Any) -> None:
        while self._restore:
            self._restore.pop()()


def _retry_of(given: Any) -> Retry | None:
    """The Retry of an instrumentation: the given Retry, else a Retry by the environment variables."""
    if given is not None:
        if not isinstance(given, Retry):
            raise ConfigError("FlexmwInstrumentor().instrument(retry=...)", given, "a flexmw.Retry, or None")
        return given
    text = os.environ.get(RETRY_VARIABLE, "")
    if text.strip().lower() not in _SWITCH:
        raise ConfigError(RETRY_VARIABLE, text, "1, true, 0 or false")
    return Retry() if _SWITCH[text.strip().lower()] else None


def _tag_apps(tagging: Tagging) -> Callable[[], None]:
    """Patch ``Starlette.__call__``: it runs inside the server span of FastAPI and outside of all middleware."""
    call = Starlette.__call__

    async def __call__(self: Starlette, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: N807
        if scope["type"] not in ("http", "websocket"):
            await call(self, scope, receive, send)
            return
        app: ASGIApp = _tagged_once(self, tagging, lambda: tagging.asgi(partial(call, self)))
        await app(scope, receive, send)

    return _patch(Starlette, "__call__", __call__)


def _tag_clients(
    tagging: Tagging, retry: Retry | None, library: str, client: str, transport_class: str
) -> Callable[[], None]:
    """Patch the method by which a client chooses the transport of a call: it returns the transport inside Tagging."""
    owner = getattr(import_module(library), client)
    make = getattr(import_module(f"flexmw.{library}"), transport_class)
    transport_method = getattr(owner, _TRANSPORT_METHOD, None)
    if transport_method is None:
        raise ConfigError(
            f"{library}.{client}", _TRANSPORT_METHOD, "a version that flexmw knows; wrap clients with wrap_client"
        )

    def transport_for_url(self: Any, url: Any) -> Any:
        transport = transport_method(self, url)
        return _tagged_once(transport, tagging, lambda: _tagged_transport(tagging, retry, make, transport))

    return _patch(owner, _TRANSPORT_METHOD, transport_for_url)


def _tagged_once(owner: Any, tagging: Tagging, make: Callable[[], Any]) -> Any:
    """The object that this instrumentation has made for ``owner``. ``owner`` keeps it, so that both end together."""
    made_by, tagged = getattr(owner, TAGGED_ATTRIBUTE, (None, None))
    if made_by is not tagging:
        tagged = make()
        setattr(owner, TAGGED_ATTRIBUTE, (tagging, tagged))
    return tagged


def _tagged_transport(tagging: Tagging, retry: Retry | None, make: Callable[..., Any], transport: Any) -> Any:
    components = components_of(transport)
    inner = inner_components(transport)
    if any(isinstance(component, Tagging) for component in inner):
        return transport
    if components:
        # Of an adopted transport and what is inside it, `wrapped` has one already: a second one would double them.
        return make(tagging, *transport._own, transport=transport.wrapped, clock=transport._clock)
    if retry is None or any(isinstance(component, Retry) for component in inner):
        return make(tagging, transport=transport)
    return make(tagging, retry, transport=transport)


def _patch(owner: Any, name: str, replacement: Any) -> Callable[[], None]:
    original = owner.__dict__[name]
    setattr(owner, name, replacement)
    return partial(setattr, owner, name, original)
