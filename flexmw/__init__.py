"""flexmw: one error contract around any ASGI app, and one safe retry inside any httpx or httpx2 client.

>>> import flexmw, httpx
>>> async def app(scope, receive, send): ...
>>> app = flexmw.wrap_app(app)
>>> client = flexmw.wrap_client(httpx.Client())
>>> client.close()

Importing it imports neither httpx nor httpx2, no storage driver and no OpenTelemetry SDK: names are looked up when
they are first used.

Public: the names in ``__all__``, and the module ``instrument``. The other modules of this package are private; each
package in it says what it offers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from flexmw.errors import (
    APIError,
    ConfigError,
    FlexmwError,
    InsufficientCredit,
    InvalidAPIKey,
    InvalidRequest,
    JobNotFound,
    ModelNotFound,
    PluginError,
    RateLimitExceeded,
    SubsystemOffline,
    UpstreamTimeout,
)

if TYPE_CHECKING:
    from flexmw import httpx, httpx2
    from flexmw.adopted import adopt
    from flexmw.envelope import Envelope, error_from
    from flexmw.idempotency import Idempotency, execution
    from flexmw.kit.built_response import build_response
    from flexmw.kit.component import Order
    from flexmw.kit.effects import (
        Discard,
        Effect,
        Emit,
        Flow,
        Follow,
        Read,
        Replace,
        Request,
        Response,
        Resume,
        RunBlocking,
        Send,
        Skip,
        Sleep,
        discard,
        emit,
        follow,
        read,
        replace,
        resume,
        run_blocking,
        send,
        skip,
        sleep,
    )
    from flexmw.openapi_document import openapi
    from flexmw.pace import Pace
    from flexmw.ratelimit import RateLimit
    from flexmw.ratelimit.route_limit import limit
    from flexmw.registry import Plugin, component, installed, sort
    from flexmw.retry import Outcome, Retry, outcome_of, retry_options
    from flexmw.stack import Stack
    from flexmw.tagging import Tagging
    from flexmw.wrapping import install, wrap_app, wrap_client

__version__: Final = "0.1.0"

__all__ = [
    "APIError",
    "ConfigError",
    "Discard",
    "Effect",
    "Emit",
    "Envelope",
    "FlexmwError",
    "Flow",
    "Follow",
    "Idempotency",
    "InsufficientCredit",
    "InvalidAPIKey",
    "InvalidRequest",
    "JobNotFound",
    "ModelNotFound",
    "Order",
    "Outcome",
    "Pace",
    "Plugin",
    "PluginError",
    "RateLimit",
    "RateLimitExceeded",
    "Read",
    "Replace",
    "Request",
    "Response",
    "Resume",
    "Retry",
    "RunBlocking",
    "Send",
    "Skip",
    "Sleep",
    "Stack",
    "SubsystemOffline",
    "Tagging",
    "UpstreamTimeout",
    "adopt",
    "build_response",
    "component",
    "discard",
    "emit",
    "error_from",
    "execution",
    "follow",
    "httpx",
    "httpx2",
    "install",
    "installed",
    "limit",
    "openapi",
    "outcome_of",
    "read",
    "replace",
    "resume",
    "retry_options",
    "run_blocking",
    "send",
    "skip",
    "sleep",
    "sort",
    "wrap_app",
    "wrap_client",
]

_HOMES: Final = {
    "adopted": ("adopt",),
    "envelope": ("Envelope", "error_from"),
    "idempotency": ("Idempotency", "execution"),
    "kit.built_response": ("build_response",),
    "kit.component": ("Order",),
    "kit.effects": (
        *("Discard", "Emit", "Follow", "Read", "Replace", "Resume", "RunBlocking", "Send", "Skip", "Sleep"),
        *("discard", "emit", "follow", "read", "replace", "resume", "run_blocking", "send", "skip", "sleep"),
        *("Effect", "Flow", "Request", "Response"),
    ),
    "openapi_document": ("openapi",),
    "pace": ("Pace",),
    "ratelimit": ("RateLimit",),
    "ratelimit.route_limit": ("limit",),
    "registry": ("Plugin", "component", "installed", "sort"),
    "retry": ("Outcome", "Retry", "outcome_of", "retry_options"),
    "stack": ("Stack",),
    "tagging": ("Tagging",),
    "wrapping": ("install", "wrap_app", "wrap_client"),
}
_HOME: Final = {name: f"flexmw.{home}" for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in ("httpx", "httpx2"):
        try:
            return import_module(f"flexmw.{name}")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"flexmw.{name} needs {name}: pip install 'flexmw[{name}]'") from error
    if name not in _HOME:
        raise AttributeError(f"module 'flexmw' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
