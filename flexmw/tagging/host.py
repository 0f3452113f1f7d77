"""What the host's own instrument is, and whether an exception reaches it: read from the scope and from the stack.

FastAPI (``fastapi.telemetry``) and Starlette (``starlette.opentelemetry``) leave a mark in the scope while they record;
contrib's instruments leave none, but say on their span what they recorded.
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.exceptions import HTTPException

from flexmw.tagging.core import type_name

__all__ = ["NO_MARK", "Mark", "artificial", "handled", "mark_of", "passed", "raised_again", "recorded_on"]

FASTAPI: Final = "fastapi.telemetry._asgi"
_INSTRUMENTS: Final = frozenset({FASTAPI, "starlette.middleware.opentelemetry", "opentelemetry.instrumentation.asgi"})
_OURSELVES: Final = "flexmw.tagging.watch"
_RAISING: Final = ("starlette.middleware.errors", "flexmw.")
_FRAMES: Final = 200


@dataclass(frozen=True, slots=True)
class Mark:
    """``fastapi``: FastAPI watches this request. ``logs``: and logs exceptions. ``seen``: those it has logged."""

    fastapi: bool = False
    logs: bool = False
    seen: tuple[BaseException, ...] = ()


NO_MARK: Final = Mark()
_NONE: Final[dict[str, Any]] = {}


def mark_of(scope: MutableMapping[str, Any]) -> Mark:
    """FastAPI's mark, as it stands now."""
    telemetry = scope.get("fastapi.telemetry")
    if telemetry is None:
        return NO_MARK
    return Mark(True, getattr(telemetry, "logger", None) is not None, tuple(getattr(telemetry, "_exceptions", ())))


def handled(outer: BaseException | None) -> Exception | None:
    """The exception that our caller is answering for right now: a handler sends from inside its ``except`` block.

    :param outer: what was being handled before the request came in; that is none of ours.
    """
    error = sys.exception()
    return error if isinstance(error, Exception) and error is not outer else None


def raised_again(error: BaseException) -> bool:
    """Whether whoever holds the exception now raises it again: Starlette's outermost handler does, and an Envelope."""
    stack = error.__traceback__
    return stack is not None and str(stack.tb_frame.f_globals.get("__name__")).startswith(_RAISING)


def passed(error: BaseException) -> dict[str, Any]:
    """The known instruments that an exception has come through, outermost first: module and its span.

    Where such a span was closed before anything was sent, this is the only sight of it.
    """
    found: dict[str, Any] = {}
    stack, left = error.__traceback__, _FRAMES
    while stack is not None and left:
        name = stack.tb_frame.f_globals.get("__name__")
        if name == _OURSELVES and stack.tb_frame.f_code.co_name == "send":
            break  # what follows is the server's side of our own send
        if name in _INSTRUMENTS and name not in found:
            found[name] = stack.tb_frame.f_locals.get("span")
        stack, left = stack.tb_next, left - 1
    return found


def recorded_on(span: Any, error: BaseException) -> bool | None:
    """Whether this span carries the exception already; ``None`` where the span cannot tell."""
    events: Any = getattr(span, "events", None)
    if events is None:
        return None
    name = type_name(error)
    kinds: list[Any] = [
        (event.attributes or _NONE).get("exception.type") for event in events if event.name == "exception"
    ]
    return name in kinds


def artificial(error: BaseException | None) -> bool:
    """An answer in the shape of an exception: the conventions ask not to record those, but what they came from."""
    return isinstance(error, HTTPException)
