"""Starlette and FastAPI: components around the whole middleware stack of an app."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from flexmw.frameworks.interior import Interior

__all__ = ["put"]

_Build = Callable[[], ASGIApp]

_ORIGINAL: Final = "_original_build_middleware_stack"
"""The attribute in which opentelemetry-instrumentation-fastapi keeps the method that it has replaced."""


class _InstalledStack(ServerErrorMiddleware):
    """The components around the middleware stack of an app.

    It is a ``ServerErrorMiddleware`` because ``FastAPIInstrumentor.instrument_app`` expects one. The instrumentor takes
    it apart and builds its own middleware around ``app``. So an app can be instrumented after the components are
    installed, and the span of the instrument covers what they refuse.
    """

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        # The app's own ServerErrorMiddleware is inside the components and has responded to every crash.
        return self.app(scope, receive, send)


def put(app: Any, interior: Interior, layers: ASGIApp) -> None:
    """Put the components around the middleware of a Starlette or FastAPI app, also around what is added later."""

    def around(build: _Build) -> _Build:
        def build_middleware_stack() -> ASGIApp:
            interior.app = build()
            return _InstalledStack(layers)

        return build_middleware_stack

    if hasattr(app, _ORIGINAL):  # `uninstrument_app` puts the original back, which would remove the components
        setattr(app, _ORIGINAL, around(getattr(app, _ORIGINAL)))
    app.build_middleware_stack = around(app.build_middleware_stack)
    if app.middleware_stack is not None:  # the app runs: its middleware keeps its state
        interior.app, app.middleware_stack = app.middleware_stack, _InstalledStack(layers)
