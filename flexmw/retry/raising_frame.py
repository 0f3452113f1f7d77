"""Raising frame: find the response or the error that an SDK has not kept on its own exception.

Many SDKs turn a response into an exception that keeps neither the response nor a cause (cohere, ollama, replicate,
notion-client, postgrest, qdrant-client, litellm). While the exception has its traceback, the frame that raised it still
has the response, or the error of the client library, in a local variable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import Any, Final

from flexmw.contract.exception_slots import context_of, traceback_of

__all__ = ["held_where_raised"]

_MAX_FRAMES: Final = 1000
_MAX_LOCALS: Final = 100
_LIBRARIES: Final = ("httpx", "httpx2")
_USUAL: Final = ("_response", "response")
"""The names of local variables that are read first. SDKs that Fern has generated use ``_response``."""


def held_where_raised(error: BaseException) -> Iterable[object]:
    """Return the objects that may have the outcome of the call that failed with an error: one response, and all errors.

    The class of the error and the function that raised it must belong to one package: an error of a program may have
    another reason than the call whose response the program holds.
    """
    frame, package = _raising_frame(error), _package(type(error).__module__)
    if frame is None or not package or package != _package(frame.f_globals.get("__name__")):
        return
    variables = frame.f_locals
    usual = next((value for name in _USUAL if _may_have_outcome(value := variables.get(name))), None)
    candidates = _candidates(variables, error)
    responses = [candidate for candidate in candidates if not issubclass(type(candidate), BaseException)]
    if usual is not None:
        yield usual
    elif len(responses) == 1:
        yield responses[0]
    yield from (candidate for candidate in candidates if issubclass(type(candidate), BaseException))
    context = context_of(error)
    if context is not None and (caught := traceback_of(context)) is not None and caught.tb_frame is frame:
        yield context


def _raising_frame(error: BaseException) -> FrameType | None:
    traceback = traceback_of(error)
    if traceback is None:
        return None
    for _ in range(_MAX_FRAMES):
        if traceback.tb_next is None:
            break
        traceback = traceback.tb_next
    return traceback.tb_frame


def _candidates(variables: Mapping[str, Any], error: BaseException) -> list[object]:
    by_id = {id(value): value for value in _first(variables) if value is not error and _may_have_outcome(value)}
    return list(by_id.values())


def _first(variables: Mapping[str, Any]) -> Iterator[object]:
    for place, value in enumerate(variables.values()):
        if place == _MAX_LOCALS:
            return
        yield value


def _may_have_outcome(value: object) -> bool:
    """Return whether an object is an exception, or a response that Retry has returned and not one that an SDK made."""
    cls: type = type(value)
    if issubclass(cls, BaseException):
        return True
    if not any(base.__name__ == "Response" and _package(base.__module__) in _LIBRARIES for base in cls.__mro__):
        return False
    try:
        return "flexmw" in (getattr(value, "extensions", None) or ())
    except Exception:  # a class may raise anything from its properties
        return False


def _package(module: object) -> str:
    """Return the package of a module; empty if a class or a function has no name of a module."""
    return module.partition(".")[0] if isinstance(module, str) else ""
