"""Limits of single routes, checked inside the framework: after authentication, with the template of the route.

::

    limited = flexmw.limit("5/minute", key="user")

    @app.get("/users/{id}", dependencies=[Depends(limited)])      # FastAPI
    @limited                                                      # FastAPI, Starlette, Quart, Litestar
    @get("/users/{id}", guards=[limited])                         # Litestar
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import wraps
from types import TracebackType
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import Response

from flexmw.errors import APIError, ConfigError
from flexmw.kit.asgi import ASGIApp, Message, Receive, Scope, Send
from flexmw.kit.documentation import Documentation, Operation
from flexmw.kit.exchange import ErrorOutcome, Exchange, Header
from flexmw.ratelimit.component import RateLimit
from flexmw.ratelimit.core import SECOND, Check
from flexmw.ratelimit.documentation import document
from flexmw.ratelimit.endpoints import add_headers, connection_of, native_refusal, route_of, status_of, with_connection
from flexmw.ratelimit.headers import Reporter
from flexmw.ratelimit.plan import Plan
from flexmw.ratelimit.rates import Rates
from flexmw.ratelimit.shared import Shared

__all__ = ["RouteLimit", "limit"]

_MAX_ROUTES: Final = 4096
_FASTAPI_STACK: Final = "fastapi_inner_astack"
"""The scope key of the exit stack that FastAPI closes when the endpoint is done: checked with FastAPI 0.165."""


_AROUND: Final = (
    *("budget", "concurrency", "exempt", "lease", "message_refusal", "messages", "price", "token_cost", "tokens"),
    *("unit", "usage"),
)
"""The options that need the whole request, from its start to the end of the response."""


def limit(*rates: Any, **options: Any) -> RouteLimit:
    """A limit for single routes, checked inside the framework: after authentication, with the template of the route.

    The result is a dependency of FastAPI (``Depends(limited)``), a decorator for endpoints of FastAPI, Starlette, Quart
    and Litestar (``@limited``), and a guard of Litestar (``guards=[limited]``). Each route has counters of its own,
    whatever the parameters in its path. Headers and refusals are those of :class:`RateLimit`; a refusal is raised as
    :class:`flexmw.RateLimitExceeded`. Responses that pass report the limit inside a component of flexmw around the app;
    without one, only those of FastAPI's dependency, of Quart, and of endpoints that return a response object do.

    :param rates: limits of each caller, as those of :class:`RateLimit`.
    :param options: the options of :class:`RateLimit` but ``concurrency``, ``lease``, ``tokens``, ``token_cost``,
        ``usage``, ``unit``, ``price``, ``budget``, ``messages``, ``message_refusal`` and ``exempt``;
        ``limit`` and ``cost`` may be functions, ``limit`` no table.
    :raises ConfigError: for an option that cannot work.
    """
    for name in _AROUND:
        if name in options:
            expected = f"no such option; RateLimit({name}=...), around the whole app, has it"
            raise ConfigError(f"limit({name}=...)", options[name], expected)
    if isinstance(options.get("limit"), Mapping):
        raise ConfigError("limit(limit=...)", options["limit"], "a function: the route decides which rates apply")
    return RouteLimit(*RateLimit(*rates, **options).opened())


class RouteLimit:
    """A limit for routes: a dependency, a decorator, or a guard of Litestar. Each route has counters of its own.

    :param plan: the resolved options.
    :param shared: the store, and the caches of callers.
    """

    def __init__(self, plan: Plan, shared: Shared) -> None:
        self._plan, self._shared = plan, shared
        self._monotonic = plan.clock.monotonic
        self._rates: dict[tuple[str, Rates], Rates] = {}
        self._reporter = Reporter(
            failure_mode=plan.failure.mode, clock=plan.clock, styles=plan.styles, shadow=plan.shadow, one_unit=True
        )
        # FastAPI and Litestar read these attributes of the object to find out which parameters a dependency has and
        # whether it must be awaited. A call of the object uses the method of the class, which serves decorators too.
        self.__dict__["__call__"] = self.check
        self.__signature__ = inspect.Signature(
            [
                inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
                for name, annotation in {"connection": HTTPConnection, "response": Response}.items()
            ]
        )

    def __call__(self, connection: Any, response: Any = None) -> Any:
        """Check the request of a connection; for an endpoint, return the endpoint with the limit around it.

        :raises ConfigError: for a value that is neither a connection nor an endpoint.
        """
        if isinstance(getattr(connection, "scope", None), Mapping):
            return self.check(connection, response)
        if hasattr(connection, "resolve_guards"):  # a route handler of Litestar
            connection.guards = [*(connection.guards or ()), self]
            return connection
        if not callable(connection) or inspect.isclass(connection):
            expected = "an endpoint function, or the connection of a request, as Depends(limited) gives it"
            raise ConfigError("limit(...)(endpoint)", connection, expected)
        return self._decorate(connection)

    async def check(self, connection: Any, response: Any = None) -> None:
        """Count a request, and report the limit.

        :param connection: the request or the websocket, an object with a ``scope``.
        :param response: the response that FastAPI merges into that of the endpoint; any other object is ignored.
        :raises RateLimitExceeded: the request is refused.
        :raises SubsystemOffline: the store fails and ``on_store_failure`` is ``closed``.
        """
        scope: Scope = connection.scope
        ending = _Ending()
        headers, judged = await self._count(scope, route_of(scope), ending)
        if judged is not ending:
            await ending.wait_for(scope, judged)
        if isinstance(response, Response):
            for name, value in headers:
                response.headers[name.decode("latin-1")] = value.decode("latin-1")

    def documents(self, operation: Operation) -> Documentation:
        """What the limit does to the responses of an operation, for :func:`flexmw.openapi`."""
        return document(self._plan, operation, exempt=None, has_budget=False)

    async def close(self) -> None:
        """Close the store's connections of this event loop."""
        await self._shared.backend.close()

    async def _count(self, scope: Scope, route: str, app: ASGIApp) -> tuple[list[Header], ASGIApp]:
        """Count a request.

        :param app: the app that serves the request.
        :return: the headers that no outer component adds to the response, and the app that must serve the request.
        """
        exchange, start = Exchange.of(scope), self._monotonic()
        caller, app = await self._shared.identifier.identify(scope, int(start * SECOND), app)
        rates = self._of_route(route, await self._plan.rates.of(caller, scope))
        if not rates:
            return [], app
        costs = (await self._plan.pricing.charge(scope, rates)).costs
        check = Check(caller.digest, rates, costs, None, caller.earlier)
        outcome = await self._shared.backend.decide(check)
        self._reporter.report(exchange, check, outcome, self._monotonic() - start)
        headers = [] if exchange.headers_claimed else exchange.headers
        error = self._reporter.refusal(outcome.result, self._shared.backend.retry_in, check)
        if error is not None:
            exchange.set_error(ErrorOutcome(error.status, error.type, error.code, "rate_limiting"))
            given = dict(error.headers or {})
            names = {name.lower() for name in given}
            pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
            error.headers = given | {name: value for name, value in pairs if name not in names}
            raise error
        return headers, app

    def _of_route(self, route: str, rates: Rates) -> Rates:
        """The rates, with counters that belong to one route."""
        found = self._rates.get((route, rates))
        if found is None:
            found = tuple(rate._replace(key_suffix=f"{route}/{rate.key_suffix}") for rate in rates)
            if len(self._rates) < _MAX_ROUTES:
                self._rates[route, rates] = found
        return found

    def _decorate(self, endpoint: Callable[..., Any]) -> Callable[..., Any]:
        """An endpoint with the limit around it."""
        name = f"{endpoint.__module__}.{endpoint.__qualname__}"
        is_async = inspect.iscoroutinefunction(endpoint)
        signature, injected = with_connection(endpoint)

        @wraps(endpoint)
        async def limited(*args: Any, **kwargs: Any) -> Any:
            connection = connection_of(args, kwargs)
            kwargs.pop(injected, None)
            if connection is None:
                expected = "an endpoint of FastAPI, Starlette, Litestar or Quart that is called for a request"
                raise ConfigError("limit(...)(endpoint)", name, expected)
            result: Any = None

            async def serve(scope: Scope, receive: Receive, send: Send) -> None:
                nonlocal result
                result = await (endpoint(*args, **kwargs) if is_async else run_in_threadpool(endpoint, *args, **kwargs))
                await send({"type": "http.response.start", "status": status_of(result)})

            scope: Scope = connection.scope
            try:
                headers, app = await self._count(scope, route_of(scope) or name, serve)
            except APIError as error:
                refusal = native_refusal(scope, error)
                if refusal is None:
                    raise
                return refusal
            await app(scope, _receive, _send)
            return add_headers(result, headers)

        limited.__signature__ = signature  # type: ignore[attr-defined]
        limited.documents = self.documents  # type: ignore[attr-defined]
        if injected:
            limited.__annotations__ = {**endpoint.__annotations__, injected: HTTPConnection}
        return limited


class _Ending:
    """Stands for the endpoint whose dependency is checked: an app that ends as the endpoint has ended."""

    def __init__(self) -> None:
        self._error: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._error is not None:
            raise self._error
        await send({"type": "http.response.start", "status": 200})

    async def wait_for(self, scope: Scope, judged: ASGIApp) -> None:
        """Let the guard of new keys judge how the endpoint ends. If the framework has authenticated a user, the key is
        accepted at once. If neither the end nor a user is known, the key stays unproven."""
        if scope.get("user") is not None:
            await judged(scope, _receive, _send)
            return
        stack = scope.get(_FASTAPI_STACK)
        if not isinstance(stack, AsyncExitStack):
            return

        async def end(
            exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
        ) -> bool:
            self._error = exc
            with suppress(Exception):
                await judged(scope, _receive, _send)
            return False

        stack.push_async_exit(end)


async def _receive() -> Message:
    return {"type": "http.disconnect"}


async def _send(message: Message) -> None:
    """Ignore the message: the framework sends the response."""
