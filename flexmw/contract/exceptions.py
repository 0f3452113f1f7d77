"""Exception mapping: which error response an exception becomes, whichever library it comes from. Pure.

The only such mapping in flexmw: Envelope sends its result, Idempotency stores it, Tagging reports it. All three call it
as ``Exchange.map_exception``, which applies the options of the Envelope outside, if there is one. This module finds the
exception that decides on the response: the raised exception, or an exception inside it. What that exception becomes is
a row of
:mod:`flexmw.contract.exception_rules`; a new library is a new row.

>>> map_exception(TimeoutError("db at 10.0.0.7")).error.code
'upstream_timeout'
>>> map_exception(ValueError("secret")).error.message
'Internal server error.'
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from types import TracebackType
from typing import Final

from flexmw.contract.bodies import PartialError
from flexmw.contract.exception_rules import GONE, RULES, ErrorMapping, names, of_row
from flexmw.contract.exception_slots import cause_of, chain_of, context_of, traceback_of
from flexmw.contract.messages import reword
from flexmw.contract.table import OWN, for_status

__all__ = ["GONE", "ErrorMapping", "map_exception", "names", "stands_for", "stems_from"]

_MAX_VISITED: Final = 50
"""Exceptions of one chain that are looked at: a chain may be a circle, and groups may be large."""


def map_exception(
    error: BaseException,
    *,
    timeout_status: int = 500,
    validation_status: int | None = None,
    messages: Mapping[str, str] | None = None,
) -> ErrorMapping:
    """Map an exception that the app has raised to an error response.

    :param timeout_status: the status of timeouts, 500 or 504.
    :param validation_status: the status of a failed validation; ``None`` keeps the framework's.
    :param messages: the app's messages, by code; see :func:`flexmw.contract.messages.reword`.
    """
    try:
        mapping = _map(error, timeout_status, validation_status)
    except Exception:  # an exception whose attributes raise: whatever it is, it becomes a response of the contract
        mapping = of_row(for_status(500), exception=error)
    return replace(mapping, error=reword(mapping.error, messages)) if messages else mapping


def _map(error: BaseException, timeout_status: int, validation_status: int | None) -> ErrorMapping:
    for candidate in _origins(error):
        for name in names(type(candidate)):
            mapping = _by_rule(name, candidate)
            if mapping is None:
                continue
            if mapping.error.code == "upstream_timeout" and not mapping.intentional:
                mapping = replace(mapping, status=timeout_status)
            elif mapping.source == "validation" and mapping.status == 422 and validation_status is not None:
                mapping = replace(mapping, status=validation_status)
            if candidate is not error and mapping.intentional and _is_raised_by_handler(error):
                mapping = replace(mapping, intentional=False)
            return mapping if mapping.intentional else replace(mapping, exception=error)
    if (parser := _parsing_request(error)) is not None:
        return of_row(for_status(400), parser, source="validation", intentional=True)
    return of_row(for_status(500), exception=error)


def _by_rule(name: str, error: BaseException) -> ErrorMapping | None:
    """The mapping of an exception by the rule of one class; ``None`` without a rule, or where an attribute raises that
    the rule reads: a rule of a base class may read fewer."""
    rule = RULES.get(name)
    try:
        return rule(error) if rule is not None else None
    except Exception:
        return None


def stems_from(error: BaseException, source: BaseException) -> bool:
    """True if ``error`` is ``source``, is a group that contains it, or has it among its causes and contexts."""
    visited: list[BaseException] = []
    pending = [error]
    while pending and len(visited) < _MAX_VISITED:
        current = pending.pop()
        if current is source:
            return True
        if any(current is other for other in visited):
            continue
        visited.append(current)
        with suppress(Exception):  # attributes that raise
            pending.extend(_members(current))
            pending.extend(other for other in (cause_of(current), context_of(current)) if other is not None)
    return False


def stands_for(remembered_status: int, status: int, *, says_nothing: bool) -> bool:
    """True if a framework's response stands for an ``APIError`` that the app made: one of the error's own status, or a
    bare 500 of a framework that knows no better.

    :param remembered_status: the error's status.
    :param status: the response's status.
    :param says_nothing: True if the response's body states no more than its status does.
    """
    return remembered_status == status or (says_nothing and status == 500)


def _origins(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception, then those that it only wraps: the single member of a group, or the exception that the
    framework's error handler was handling when the handler itself raised."""
    visited: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in visited and len(visited) < 20:
        visited.add(id(current))
        yield current
        members = _members(current)
        only = members[0] if len(members) == 1 else None
        current = only if members else _handled_before(current)


def _members(error: BaseException) -> Sequence[BaseException]:
    """The members of an exception group; nothing for any other exception."""
    # The class first: other exceptions have attributes of this name too, and theirs may raise.
    return error.exceptions if isinstance(error, BaseExceptionGroup) else ()


def _handled_before(error: BaseException) -> BaseException | None:
    """The exception that a framework's error handler was handling when it raised ``error``, or a cause of ``error``."""
    for cause in islice(chain_of(error), 1, None):
        top = traceback_of(cause)
        if top is not None and top.tb_frame.f_globals.get("__name__") in _HANDLERS:
            return cause
    return None


def _is_raised_by_handler(error: BaseException) -> bool:
    """True if an error handler of the app has crashed with ``error``.

    The response is that of the exception that the handler was to respond to, but the framework would raise ``error``,
    and so does Envelope. Starlette itself raises a ``RuntimeError`` if a handler comes too late, because the response
    has begun: that is no crash of a handler. An exception group is not one either.
    """
    if isinstance(error, BaseExceptionGroup):
        return False
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_globals.get("__name__") not in _HANDLERS


_HANDLERS: Final = frozenset({"starlette._exception_handler", "litestar.middleware._internal.exceptions.middleware"})
"""Modules whose code catches an exception in order to run an error handler for it."""

_PARSERS: Final = frozenset({("starlette.requests", "json"), ("starlette.requests", "_get_form")})


def _parsing_request(error: BaseException) -> PartialError | None:
    """The error of a request body that cannot be parsed, if ``error`` was raised while the framework parsed one.

    The frames of the traceback decide: the same exception out of any other parsing is the server's fault. Where the
    scope names no Starlette app, Starlette raises its own ``MultiPartException``, which is no ``ValueError``.
    """
    if not isinstance(error, (ValueError, RecursionError)) and type(error).__name__ != "MultiPartException":
        return None
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) in _PARSERS:
            if frame.f_code.co_name == "json":
                return PartialError(OWN["invalid_json"].message, code="invalid_json")
            return PartialError("The request body is not valid form data.")
        traceback = traceback.tb_next
    return None
