"""Field names of the models of a FastAPI route, read without importing FastAPI or pydantic.

A validation error has the location of a fault in the request. A part of the location is the name of a field, or a name
that the caller has chosen, such as a key of a dictionary. Only the models tell the two apart.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

from flexmw.kit.asgi import Scope

__all__ = ["field_names"]

_PARAMETERS: Final = ("path_params", "query_params", "header_params", "cookie_params", "body_params")
_MAX_ANNOTATIONS: Final = 5000
"""The number of annotations of a route that are read. Names in further annotations count as unknown."""

_known: WeakKeyDictionary[Any, frozenset[str]] = WeakKeyDictionary()
"""The names of each endpoint that has refused an input."""


def field_names(scope: Scope) -> frozenset[str] | None:
    """Return the names of fields, aliases, tags and models that the request's route declares; ``None`` if the request
    has no FastAPI route."""
    route = scope.get("route")
    dependant = getattr(route, "dependant", None)
    if dependant is None:
        return None
    endpoint = getattr(route, "endpoint", None)
    try:
        names = _known.get(endpoint)
        if names is None:
            names = _known[endpoint] = frozenset(_names(dependant))
    except TypeError:  # an endpoint that has no weak references
        names = frozenset(_names(dependant))
    return names


def _names(dependant: Any) -> Iterator[str]:
    annotations: list[Any] = []
    pending = [dependant]
    while pending:
        current = pending.pop()
        pending += getattr(current, "dependencies", ())
        for kind in _PARAMETERS:
            for field in getattr(current, kind, ()):
                yield from _texts((field.name, field.alias, getattr(field, "validation_alias", None)))
                annotations += (getattr(field, "type_", None), getattr(field.field_info, "annotation", None))
    yield from _of_annotations(annotations)


def _of_annotations(pending: list[Any]) -> Iterator[str]:
    visited: set[int] = set()
    while pending and len(visited) < _MAX_ANNOTATIONS:
        annotation = pending.pop()
        if annotation is None or id(annotation) in visited:
            continue
        visited.add(id(annotation))
        if isinstance(annotation, str):
            yield annotation  # a value of a Literal: the tag of a union
            continue
        yield from _texts((getattr(annotation, "tag", None),))  # pydantic's Tag
        pending += getattr(annotation, "__metadata__", ())
        pending += typing.get_args(annotation)
        pending.append(getattr(annotation, "__value__", None))  # `type X = ...`
        if not isinstance(annotation, type):
            continue
        yield annotation.__name__
        fields: Any = (
            getattr(annotation, "model_fields", None) if hasattr(annotation, "__pydantic_validator__") else None
        )
        if isinstance(fields, dict):
            for name, info in typing.cast("dict[str, Any]", fields).items():
                yield from _texts((name, info.alias, *_aliases(info.validation_alias)))
                pending += (info.annotation, *info.metadata)
        elif dataclasses.is_dataclass(annotation) or hasattr(annotation, "__total__"):
            hints: dict[str, Any] = {}
            with suppress(Exception):  # a name that is not defined at run time
                hints = typing.get_type_hints(annotation, include_extras=True)
            yield from getattr(annotation, "__annotations__", hints)
            pending += hints.values()


def _aliases(alias: Any) -> Iterator[Any]:
    """The names of a validation alias: a text, an ``AliasPath`` or ``AliasChoices``."""
    yield alias
    yield from getattr(alias, "path", ())
    for choice in getattr(alias, "choices", ()):
        yield from _aliases(choice)


def _texts(values: Iterable[Any]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str))
