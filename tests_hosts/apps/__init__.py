"""One module per framework, each with the same routes in that framework's own words.

``make(work)`` of each module returns the app as a user of the framework would write it. Nothing in it is of flexmw but
:class:`flexmw.ModelNotFound`, which the route ``/kind`` raises.

================  ====================================================================================================
``GET /ok``       the text ``fine``
``GET /once``     the same, for a limit of one request in a day
``POST /work``    executes :meth:`Work.execute` for ``{"n": 1}``; other bodies fail in the framework's own validation
``POST /size``    the number of bytes in the request body, as text
``GET /busy``     the framework's own 429 with ``Retry-After: 7``
``GET /kind``     raises ``flexmw.ModelNotFound("foo")``
``GET /crash``    raises ``ValueError(SECRET)``
``GET /events``   an event stream, :meth:`Work.events`
``GET /broken``   an event stream that fails after its first event, :meth:`Work.broken`
``GET /ring``     lets ``/events`` go on
``WS /echo``      sends back what it receives
``WS /refuse``    closes before it accepts
================  ====================================================================================================

The start and the end of the framework's lifespan call :meth:`Work.started` and :meth:`Work.stopped`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from tests_hosts.work import Work

__all__ = ["HOSTS", "Host"]


@dataclass(frozen=True)
class Host:
    """A framework.

    :param title: its name in the docs.
    :param distribution: its name on the package index.
    :param module: the module of this package with its app.
    :param installs: ``flexmw.install`` takes its apps; otherwise ``wrap_app`` wraps them.
    :param own_process: a process can serve one app of it and no second one.
    """

    title: str
    distribution: str
    module: str
    installs: bool = False
    own_process: bool = False

    def make(self, work: Work) -> Any:
        """Return a new app."""
        make: Callable[[Work], Any] = import_module(f"tests_hosts.apps.{self.module}").make
        return make(work)


HOSTS: Final = {
    "fastapi": Host("FastAPI", "fastapi", "fastapi_app", installs=True),
    "starlette": Host("Starlette", "starlette", "starlette_app", installs=True),
    "litestar": Host("Litestar", "litestar", "litestar_app", installs=True),
    "quart": Host("Quart", "quart", "quart_app", installs=True),
    "django": Host("Django", "django", "django_app"),
    "falcon": Host("Falcon", "falcon", "falcon_app"),
    "blacksheep": Host("BlackSheep", "blacksheep", "blacksheep_app"),
    "sanic": Host("Sanic", "sanic", "sanic_app", own_process=True),
    "mcp": Host("MCP", "mcp", "mcp_app"),
    "fastmcp": Host("FastMCP", "fastmcp", "fastmcp_app"),
}
