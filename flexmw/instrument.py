"""Tagging without a change of code: found by ``opentelemetry-instrument``, or started by hand.

>>> instrumentor = FlexmwInstrumentor()
>>> instrumentor.instrument()
>>> instrumentor.uninstrument()

Every Starlette and FastAPI app is tagged inside its own server span, and every client of httpx and httpx2 outside its
instrumentor's spans, whether that was instrumented before or will be. What is wrapped already (``wrap_app``,
``wrap_client``) is left as it is, and a client's Retry is heard. Nothing else of flexmw is switched on. Needs the
package ``opentelemetry-instrumentation``, which the extra ``flexmw[otel]`` brings.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from starlette.applications import Starlette

from flexmw.errors import ConfigError
from flexmw.kit.asgi import ASGIApp, Receive, Scope, Send
from flexmw.kit.transport import components_of
from flexmw.tagging import Tagging

__all__ = ["FlexmwInstrumentor"]

_CLIENTS: Final = (("Client", "Transport"), ("AsyncClient", "AsyncTransport"))
_CHOOSES: Final = "_transport_for_url"
_KEPT: Final = "_flexmw_tagged"


class FlexmwInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Switches :class:`flexmw.Tagging` on for apps and clients of this process, and off again.

    ``instrument(tracer_provider=..., meter_provider=..., logger_provider=...)``: other providers than the global ones.
    """

    _restore: list[Callable[[], None]]

    def instrumentation_dependencies(self) -> Collection[str]:
        """Nothing has to be there: what is installed is instrumented."""
        return ()

    def _instrument(self, **options: Any) -> None:
        tagging = Tagging(
            tracer_provider=options.get("tracer_provider"),
            meter_provider=options.get("meter_provider"),
            logger_provider=options.get("logger_provider"),
        )
        self._restore = [_tag_apps(tagging)]
        for library in ("httpx", "httpx2"):
            if find_spec(library) is not None:
                self._restore += [_tag_clients(tagging, library, client, face) for client, face in _CLIENTS]

    def _uninstrument(self, **options: Any) -> None:
        while self._restore:
            self._restore.pop()()


def _tag_apps(tagging: Tagging) -> Callable[[], None]:
    """Starlette's ``__call__`` runs inside FastAPI's own server span: the best place there is."""
    call = Starlette.__call__

    async def __call__(self: Starlette, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: N807
        if scope["type"] not in ("http", "websocket"):
            await call(self, scope, receive, send)
            return
        app: ASGIApp = _kept(self, tagging, lambda: tagging.asgi(partial(call, self)))
        await app(scope, receive, send)

    return _patch(Starlette, "__call__", __call__)


def _tag_clients(tagging: Tagging, library: str, client: str, face: str) -> Callable[[], None]:
    """A client asks itself for the transport of each call: it is handed one with Tagging around."""
    owner = getattr(import_module(library), client)
    make = getattr(import_module(f"flexmw.{library}"), face)
    choose = getattr(owner, _CHOOSES, None)
    if choose is None:
        raise ConfigError(f"{library}.{client}", _CHOOSES, "a version that flexmw knows; wrap clients with wrap_client")

    def transport_for_url(self: Any, url: Any) -> Any:
        transport = choose(self, url)
        return _kept(transport, tagging, lambda: _tagged(tagging, make, transport))

    return _patch(owner, _CHOOSES, transport_for_url)


def _kept(owner: Any, tagging: Tagging, make: Callable[[], Any]) -> Any:
    """What was made for ``owner`` by this instrumentation; it lives and dies with it."""
    by, kept = getattr(owner, _KEPT, (None, None))
    if by is not tagging:
        kept = make()
        setattr(owner, _KEPT, (tagging, kept))
    return kept


def _tagged(tagging: Tagging, make: Callable[..., Any], transport: Any) -> Any:
    components = components_of(transport)
    if any(isinstance(each, Tagging) for each in components):
        return transport
    if components:
        return make(tagging, *components, transport=transport.wrapped, clock=transport._clock)
    return make(tagging, transport=transport)


def _patch(owner: Any, name: str, replacement: Any) -> Callable[[], None]:
    original = owner.__dict__[name]
    setattr(owner, name, replacement)
    return partial(setattr, owner, name, original)
