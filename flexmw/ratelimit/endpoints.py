"""Endpoints of FastAPI, Starlette, Litestar and Quart: find the request and the name of the route.

This module imports no framework: it uses Quart only if the program has imported Quart.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from starlette.requests import HTTPConnection

from flexmw.errors import APIError
from flexmw.kit.asgi import Scope
from flexmw.kit.exchange import Exchange, Header
from flexmw.kit.paths import request_method

__all__ = ["add_headers", "connection_of", "native_refusal", "route_of", "status_of", "with_connection"]

_NAMES: Final = ("request", "flexmw_request")
"""Names for the parameter that is added to an endpoint without a parameter for the connection. FastAPI fills it in by
its type, Litestar by its name."""

_OK: Final = 200


def route_of(scope: Scope) -> str:
    """Method and template of the route that serves a request, such as ``GET /users/{id}``; empty if it is unknown.

    The root path of a mount is a part of it.
    """
    template = getattr(scope.get("route"), "path", None) or scope.get("path_template")
    quart = _quart_request()
    if template is None and quart is not None:
        template = getattr(quart.url_rule, "rule", None)
    if not isinstance(template, str):
        return ""
    method = request_method(scope)
    return f"{'GET' if method == 'HEAD' else method} {scope.get('root_path') or ''}{template}"


def connection_of(args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
    """The object with the scope among the arguments of an endpoint, or Quart's request; ``None`` if there is none."""
    for value in (*kwargs.values(), *args):
        if isinstance(getattr(value, "scope", None), Mapping):
            return value
    return _quart_request()


def with_connection(endpoint: Callable[..., Any]) -> tuple[inspect.Signature, str]:
    """The signature of an endpoint with a parameter for the connection, and the name of the parameter that was added.

    The name is empty if the endpoint has such a parameter already.
    """
    try:
        signature = inspect.signature(endpoint, eval_str=True)
    except NameError:  # a name that is imported for type checkers alone
        signature = inspect.signature(endpoint)
    parameters = list(signature.parameters.values())
    if any(_takes_connection(parameter) for parameter in parameters):
        return signature, ""
    name = next(name for name in _NAMES if name not in signature.parameters)
    added = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=HTTPConnection)
    position = next((i for i, one in enumerate(parameters) if one.kind is one.VAR_KEYWORD), len(parameters))
    return signature.replace(parameters=[*parameters[:position], added, *parameters[position:]]), name


def _takes_connection(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return parameter.name in ("request", "websocket", "socket")
    if isinstance(annotation, str):
        return annotation.rpartition(".")[2] in ("Request", "WebSocket", "HTTPConnection", "ASGIConnection")
    origin = getattr(annotation, "__origin__", annotation)
    return inspect.isclass(origin) and (
        issubclass(origin, HTTPConnection) or any(base.__name__ == "ASGIConnection" for base in origin.__mro__)
    )


def status_of(result: Any) -> int:
    """The status of the result of an endpoint; 200 if the result has none."""
    status = getattr(result, "status_code", None)
    if status is None and isinstance(result, tuple):
        status = next((item for item in result[1:] if isinstance(item, int)), None)
    return status if isinstance(status, int) else _OK


def add_headers(result: Any, headers: Iterable[Header]) -> Any:
    """The result of an endpoint with further headers, if it is a response or Quart makes a response of it."""
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    own = getattr(result, "headers", None)
    if own is not None and hasattr(own, "__setitem__"):
        for name, value in pairs:
            own[name] = value
    elif pairs and _quart_request() is not None:

        async def add(response: Any) -> Any:
            response.headers.update(pairs)
            return response

        sys.modules["quart"].after_this_request(add)
    return result


def native_refusal(scope: Scope, error: APIError) -> Any:
    """The response of Quart to an error; ``None`` if the framework or an Envelope makes the response."""
    if _quart_request() is None or Exchange.of(scope).enveloped:
        return None
    return error.body.encode(), error.status, {**(error.headers or {}), "content-type": "application/json"}


def _quart_request() -> Any:
    """Quart's current request or websocket; ``None`` outside of a request."""
    quart = sys.modules.get("quart")
    if quart is None:
        return None
    if quart.has_request_context():
        return quart.request
    return quart.websocket if quart.has_websocket_context() else None
