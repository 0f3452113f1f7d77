"""What the host's own instrument is, and whether an exception reaches it: read from the scope and from the stack.

FastAPI (``fastapi.telemetry``) and Starlette (``starlette.opentelemetry``) leave a mark in the scope while they record;
contrib's instruments leave none, but say on their span what they recorded.
"""

from __future__ import annotations

import sys
from typing import Any, Final, Protocol

from starlette.exceptions import HTTPException

from flexmw.tagging.core import type_name

__all__ = [
    "MARK",
    "Listener",
    "Mark",
    "artificial",
    "handled",
    "passed",
    "raised_again",
    "recorded_on",
]

MARK: Final = "fastapi.telemetry"
"""The scope key under which FastAPI keeps its telemetry of a request."""

FASTAPI: Final = "fastapi.telemetry._asgi"
STARLETTE: Final = "starlette.middleware.opentelemetry"
_INSTRUMENTS: Final = frozenset({FASTAPI, STARLETTE, "opentelemetry.instrumentation.asgi"})
_OURSELVES: Final = "flexmw.tagging.request"
_RAISING: Final = ("starlette.middleware.errors", "flexmw.")
_FRAMES: Final = 200
_NONE: Final[dict[str, Any]] = {}


class Listener(Protocol):
    """Where FastAPI writes exceptions to, if anywhere: a logger, of which it calls only this."""

    def emit(self, *, exception: BaseException | None = None, **record: Any) -> None: ...


class Mark:
    """FastAPI's own telemetry of this request, as it was seen in the scope: the mark is gone when the app returns.

    ``logs``: it logs exceptions. ``seen``: those it had met when this was last asked.
    """

    __slots__ = ("_telemetry", "logs", "seen")

    def __init__(self, telemetry: Any) -> None:
        self._telemetry = telemetry
        self.logs = getattr(telemetry, "logger", None) is not None
        self.seen: tuple[BaseException, ...] = ()

    def of(self, telemetry: object) -> bool:
        """Whether this is the mark of that."""
        return self._telemetry is telemetry

    def look(self) -> None:
        """Take note of the exceptions that it has met."""
        self.seen = tuple(getattr(self._telemetry, "_exceptions", ()))

    def tell(self, listener: Listener | None) -> None:
        """Where FastAPI logs no exceptions, have it tell of them while its span is still open; ``None`` ends that."""
        if not self.logs and hasattr(self._telemetry, "logger"):
            self._telemetry.logger = listener


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
