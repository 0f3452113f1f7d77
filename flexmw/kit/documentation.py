"""What components say about the operations of an OpenAPI document: errors, headers and parameters.

A component with a method ``documents(operation)`` takes part in :func:`flexmw.openapi`. The method is given one
operation of the app, and returns what a request to it can meet in this component.

>>> operation = Operation(method="POST", path="/v1/orders/{id}")
>>> operation.scope()["path"]
'/v1/orders/{id}'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from flexmw.errors import APIError

__all__ = ["Documentation", "Documented", "Operation", "matches"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of an app.

    :param method: the HTTP method in capitals.
    :param path: the template of the path, such as ``/v1/orders/{id}``.
    :param reads_json: the framework reads a JSON body for this operation, and refuses one that is malformed.
    :param is_secured: the document names a security requirement for this operation.
    """

    method: str
    path: str
    reads_json: bool = False
    is_secured: bool = False

    def scope(self) -> dict[str, Any]:
        """An ASGI scope for path patterns. A parameter of the template is one segment of the path."""
        return {"type": "http", "method": self.method, "path": self.path, "headers": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class Documentation:
    """What a component does to the responses of one operation.

    :param errors: the errors that the component sends, as they are sent.
    :param headers: the names of headers that it adds to every response.
    :param error_headers: the names of headers that it adds to every error.
    :param parameters: the headers of a request that it reads: name, description, and whether it has to be there.
    :param rewrites: every error of the operation leaves in the format of the contract.
    :param dialect: the errors leave in another format, whose schema is not known: its media type.
    :param validation_status: the status of a failed validation, if it is not that of the framework.
    :param null_param: errors without a parameter have ``"param": null``.
    """

    errors: tuple[APIError, ...] = ()
    headers: tuple[str, ...] = ()
    error_headers: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str, bool], ...] = ()
    rewrites: bool = False
    dialect: str | None = None
    validation_status: int | None = None
    null_param: bool = False


@runtime_checkable
class Documented(Protocol):
    """A component that takes part in OpenAPI documents."""

    def documents(self, operation: Operation) -> Documentation: ...


def matches(option: Any, predicate: Callable[[Any], Any] | None, operation: Operation) -> bool | None:
    """Whether an option that names requests names all requests to an operation.

    :param option: the option: paths, a function of the scope, or ``None``.
    :param predicate: the predicate that was made of it.
    :return: ``None`` for a function: only a request can tell.
    """
    if predicate is None:
        return False
    return None if callable(option) else bool(predicate(operation.scope()))
