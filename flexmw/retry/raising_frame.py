"""Raising frame: find the response or the error that an SDK has not kept on its own exception.

Many SDKs turn a response into an exception that keeps neither the response nor a cause (cohere, ollama, replicate,
notion-client, postgrest, qdrant-client, litellm). While the exception has its traceback, the frame that raised it still
has the response, or the error of the client library, in a local variable. Where a function raises that got nothing but
the status and the text (ai21), a function of the SDK that called it has the response.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import Any, Final

from flexmw.contract.exception_slots import context_of, traceback_of

__all__ = ["held_where_raised"]

_MAX_FRAMES: Final = 1000
_MAX_LOCALS: Final = 100
_MAX_CALLERS: Final = 4
_ERROR: Final = 400
_LIBRARIES: Final = ("httpx", "httpx2")
_CORES: Final = frozenset({"kiota_http", "aiobotocore"})
"""Packages that send the requests of other packages, and raise their errors: those of an SDK that kiota has generated
(msgraph), and those of botocore."""
_USUAL: Final = ("_response", "response")
"""The names of local variables that are read first. SDKs that Fern has generated use ``_response``."""


def held_where_raised(error: BaseException) -> Iterable[object]:
    """Return the objects that may have the outcome of the call that failed with an error: one response, and all errors.

    The class of the error and the function that raised it must belong to one package, or the function to a package that
    sends requests for others: an error of a program may have another reason than the call whose response the program
    holds.
    """
    frames = _frames(error)
    package = _package(frames[0].f_globals.get("__name__")) if frames else ""
    if not package or (package not in _CORES and package != _package(type(error).__module__)):
        return
    frame = frames[0]
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
    elif not candidates:
        yield from _held_by_callers(frames[1 : _MAX_CALLERS + 1], package, error)


def _held_by_callers(frames: Iterable[FrameType], package: str, error: BaseException) -> Iterator[object]:
    """Yield the response of the nearest caller in the same package that holds one, if it is one of an error.

    A good response is of an earlier call. Of several responses none is taken for that of the error.
    """
    for frame in frames:
        if _package(frame.f_globals.get("__name__")) != package:
            return
        held = _candidates(frame.f_locals, error)
        responses = [value for value in held if not issubclass(type(value), BaseException)]
        if len(responses) == 1 and getattr(responses[0], "status_code", 0) >= _ERROR:
            yield responses[0]
        if held:
            return


def _frames(error: BaseException) -> list[FrameType]:
    """Return the frames that an error has passed, the one that raised it first."""
    frames: list[FrameType] = []
    traceback = traceback_of(error)
    while traceback is not None and len(frames) < _MAX_FRAMES:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames[::-1]


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
