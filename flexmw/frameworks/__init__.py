"""Frameworks whose apps take middleware in place: where each of them calls what serves its requests.

:func:`flexmw.install` puts components into an app of one of these frameworks. The app stays the same object, so command
lines, test clients and instrumentors go on working. Each module of this package has one function, ``put``, which
replaces what the app calls:

==================  ==================================================================================================
framework           what is replaced
==================  ==================================================================================================
Starlette, FastAPI  ``app.build_middleware_stack``, which the app calls once, before its first request. All middleware
                    of the app is inside, also ``ServerErrorMiddleware`` and middleware that is added later.
Litestar            ``app.asgi_handler``. The lifespan does not pass it, so the components get one of their own.
Quart               ``app.asgi_app``, as Quart documents it.
==================  ==================================================================================================

Checked with Starlette 1.10, FastAPI 0.165, Litestar 2.25, Quart 0.22 and opentelemetry-instrumentation-fastapi 0.66.

Private: nothing in this package is for use outside flexmw.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, cast

from starlette.types import ASGIApp

from flexmw.errors import ConfigError
from flexmw.frameworks.interior import Interior

__all__ = ["Interior", "Put", "check_asgi", "put_for"]

Put = Callable[[Any, Interior, ASGIApp], None]
"""Puts components into an app. Called with the app, its interior, and the components around the interior."""

_FRAMEWORKS: Final = (
    ("starlette.applications", "Starlette", "starlette"),
    ("litestar", "Litestar", "litestar"),
    ("quart", "Quart", "quart"),
)
"""Module and class of each framework's app, and the module of this package for it. FastAPI's app is a Starlette."""

_EXPECTED: Final = "an app of FastAPI, Starlette, Litestar or Quart"
_WSGI: Final = "a WSGI app needs an adapter first, such as flexmw.wrap_app(a2wsgi.WSGIMiddleware(app))"


def put_for(app: object) -> Put:
    """The function that puts components into an app.

    :raises ConfigError: the app is none of a framework that is known here.
    """
    for module, name, framework in _FRAMEWORKS:
        app_class = getattr(sys.modules.get(module), name, None)
        if app_class is not None and isinstance(app, app_class):
            return cast("Put", import_module(f"flexmw.frameworks.{framework}").put)
    advice = _WSGI if _is_wsgi(app) else "other ASGI apps: served = flexmw.wrap_app(app), and serve that"
    raise ConfigError("install(app)", _shown(app), f"{_EXPECTED}; {advice}")


def check_asgi(app: object, option: str) -> None:
    """Refuse what no server can call as an ASGI app: otherwise the first request would find out.

    :param option: the name of the argument, for the error message.
    :raises ConfigError: the object is not called as ``app(scope, receive, send)``.
    """
    if callable(app) and not _is_component(app) and _takes(app, 3):
        return
    expected = "an ASGI application, called as app(scope, receive, send)"
    raise ConfigError(option, _shown(app), f"{expected}; {_WSGI}" if _is_wsgi(app) else expected)


def _shown(app: object) -> object:
    """The app, or the type of what is none: the value may hold secrets."""
    return app if callable(app) else type(app)


def _is_component(value: object) -> bool:
    """Whether a value is a component. An app may have attributes of the same names: Sanic's ``asgi`` is a bool."""
    return hasattr(value, "order") and any(callable(getattr(value, side, None)) for side in ("asgi", "flow"))


def _is_wsgi(app: object) -> bool:
    return callable(app) and not isinstance(app, type) and not _takes(app, 3) and _takes(app, 2)


def _takes(app: Any, count: int) -> bool:
    """Whether an object can be called with so many positional arguments, as far as its signature tells."""
    try:
        try:
            signature = inspect.signature(app, follow_wrapped=False)
        except TypeError:  # a `__call__` of the object in place of one of its class, as SentryAsgiMiddleware has it
            signature = inspect.signature(app.__call__, follow_wrapped=False)
    except (TypeError, ValueError):  # no signature: a callable of an extension module
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
