"""Find the outcome of a call on the response or the error that an SDK returns or raises, or on a cause of the error.

>>> import httpx, flexmw
>>> client = flexmw.wrap_client(httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(404))))
>>> try:
...     client.get("http://a/").raise_for_status()
... except httpx.HTTPStatusError as error:
...     outcome_of(error)
Outcome(outcome='answered', attempts=1, waited=0.0, key=None, reason='status', row='answered', received=None)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeGuard

from flexmw.contract.exception_slots import attributes_of, cause_of
from flexmw.retry.core import Outcome
from flexmw.retry.raising_frame import held_where_raised

__all__ = ["outcome_of", "set_outcome"]

_MAX_OBJECTS: Final = 20
"""The largest number of objects that are searched for an error, and again for each error of a group."""

_RESPONSES: Final = ("response", "http_response", "raw_response", "_internal_response")
"""The attributes in which SDKs keep the response of the client library: errors of openai, anthropic, groq, httpx and
huggingface_hub and streams of openai in ``response``, raw responses of openai in ``http_response``, errors of mistralai
in ``raw_response``. The responses of corehttp have that of httpx in ``_internal_response``."""


def outcome_of(error_or_response: object) -> Outcome | None:
    """Return the :class:`Outcome` that ``Retry`` has written on an error or a response; ``None`` if there is none.

    An SDK wraps the error or the response of its client library in an object of its own. ``outcome_of`` reads the
    object itself, then the response that the object holds, then the error's ``__cause__``, and so on inward. It does
    not follow the ``__context__`` of an error, which may be the failure of another call. Many SDKs raise errors that
    keep neither the response nor a cause: see :mod:`flexmw.retry.raising_frame`. If the function that raised such an
    error holds the outcomes of several calls, or if the error is an exception group, an ambiguous outcome is returned
    before others.

    :param error_or_response: any object: an exception of an SDK, an httpx or httpx2 response, an SDK's raw response.
    """
    first: Outcome | None = None
    for candidate, is_certain in _inward(error_or_response):
        outcome = _attribute(candidate, "flexmw")
        if not isinstance(outcome, Outcome):
            extensions = _attribute(candidate, "extensions")
            outcome = extensions.get("flexmw") if isinstance(extensions, dict) else None
        if isinstance(outcome, Outcome):
            if is_certain or outcome.outcome == "ambiguous":
                return outcome
            first = first or outcome
    return first


def set_outcome(error_or_response: object, outcome: Outcome) -> None:
    """Replace the outcome that :func:`outcome_of` finds on an error or a response.

    For a component outside Retry that knows more about the call than Retry does. A subclass of :class:`Outcome` can
    hold what the component adds.

    :param error_or_response: the exception that the component raises, or the response that it returns.
    :param outcome: the outcome of the whole call.
    """
    if _is_exception(error_or_response):
        attributes_of(error_or_response)["flexmw"] = outcome
    else:
        extensions: Any = getattr(error_or_response, "extensions", None)
        extensions["flexmw"] = outcome


def _inward(start: object) -> Iterator[tuple[object, bool]]:
    """Yield the object, then the objects that it wraps, nearest first; each object once.

    The errors of a group, and the objects in the frames that raised the errors, come last and with ``False``: each may
    belong to another call.
    """
    wrapped, uncertain, seen, limit = [start], list[object](), set[int](), _MAX_OBJECTS
    while (wrapped or uncertain) and len(seen) < limit:
        is_certain = bool(wrapped)
        inner = wrapped if is_certain else uncertain
        current = inner.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current, is_certain
        inner.extend(_attribute(current, name) for name in _RESPONSES)
        if _is_exception(current):
            inner.append(cause_of(current))
            if issubclass(type(current), BaseExceptionGroup):
                errors = _attribute(current, "exceptions") or ()
                uncertain.extend(errors)
                limit += _MAX_OBJECTS * len(errors)
            uncertain.extend(held_where_raised(current))


def _attribute(value: object, name: str) -> Any:
    """Return an attribute, or ``None`` if there is none: a property of a foreign class may raise any error.

    An attribute of an exception is found even if the class of the exception hides its attributes.
    """
    try:
        return getattr(value, name, None)
    except Exception:
        return attributes_of(value).get(name) if _is_exception(value) else None


def _is_exception(value: object) -> TypeGuard[BaseException]:
    """Return whether a value is an exception, by its type. ``isinstance`` would read its attribute ``__class__``."""
    return issubclass(type(value), BaseException)
