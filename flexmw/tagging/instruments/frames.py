"""The frames of running coroutines and of tracebacks: where an instrument keeps its server span as a local variable.

An instrument that has no public way to its span has it in a variable: OpenTelemetry contrib, Starlette's
``OpenTelemetryMiddleware``, and most middleware that was written by hand. The coroutines that wait for the one that
runs now are its outer frames, as long as all of them belong to one task.

Checked with opentelemetry-instrumentation-asgi 0.66, Starlette 1.10 and FastAPI 0.165. When these change, two things go
wrong. The attributes of a request whose app opens spans of its own are written to one of those spans, and a warning
says so. An exception that FastAPI logs is recorded by flexmw a second time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, Final

from opentelemetry.trace import Span

from flexmw.contract.exception_slots import traceback_of
from flexmw.kit.asgi import Scope
from flexmw.tagging.instruments import contrib, fastapi, starlette
from flexmw.tagging.spans import is_server

__all__ = ["CHECKED_WITH", "Passage", "has_instrument_frame", "passage_of", "server_span_around"]

CHECKED_WITH: Final = {
    "fastapi": "0.165",
    "opentelemetry-instrumentation-asgi": "0.66",
    "starlette": "1.10",
}

_MODULES: Final = frozenset({fastapi.MODULE, starlette.MODULE, contrib.MODULE})
_MIDDLEWARE: Final = frozenset({starlette.MODULE, contrib.MODULE})
_OWN_SENDS: Final = frozenset({("flexmw.tagging.plain", "send_observed"), ("flexmw.tagging.request", "send")})
_VARIABLES: Final = ("span", "server_span", "current_span")
_CLIENTS: Final = ("httpx", "httpx2")
_MAX_FRAMES: Final = 200


@dataclass(slots=True)
class Passage:
    """What the frames that an exception has passed say about the instruments of the app.

    :ivar spans: the name of an instrument's module to its span, outermost first; ``None`` where its frame has none.
    :ivar is_logged: FastAPI has logged the exception: its telemetry was on for this request, and it has a logger.
    """

    spans: dict[str, Any] = field(default_factory=dict)
    is_logged: bool = False


def passage_of(error: BaseException) -> Passage:
    """The instruments whose frames an exception has passed.

    A span that was closed before a response was sent can be seen here only: it was never current while flexmw ran.
    """
    passage = Passage()
    traceback, frames_left = traceback_of(error), _MAX_FRAMES
    while traceback is not None and frames_left:
        frame = traceback.tb_frame
        module = frame.f_globals.get("__name__")
        if (module, frame.f_code.co_name) in _OWN_SENDS:
            break  # the frames below are those of the server, which raised in our send
        if module in _MODULES:
            passage.spans.setdefault(module, frame.f_locals.get("span"))
            if module == fastapi.MODULE:
                telemetry = frame.f_locals.get(fastapi.VARIABLE)
                passage.is_logged = passage.is_logged or fastapi.has_logger(telemetry)
        traceback, frames_left = traceback.tb_next, frames_left - 1
    return passage


def server_span_around(scope: Scope) -> Span | None:
    """The SERVER span of the request, while another span is the current one; ``None`` where none can be found."""
    span: Any = getattr(scope.get(fastapi.SCOPE_KEY), "span", None)
    if span is not None and is_server(span):
        return span  # type: ignore[no-any-return]
    for frame in _frames(sys._getframe(1)):
        if str(frame.f_globals.get("__name__")).startswith(_CLIENTS):
            break  # a call in this process: the frames further out are those of another request
        for name in _span_variables(frame.f_code):
            span = frame.f_locals.get(name)
            if is_server(span) and span.is_recording():
                return span  # type: ignore[no-any-return]
    return None


def has_instrument_frame() -> bool:
    """Whether the code that runs now was called by an instrument, which may have excluded this request.

    FastAPI's frame does not count: it is there with its telemetry off as well.
    """
    return any(frame.f_globals.get("__name__") in _MIDDLEWARE for frame in _frames(sys._getframe(1)))


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those that wait for it, innermost first."""
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _span_variables(code: CodeType) -> list[str]:
    """The variables of a function that may hold a server span. The values of all variables would be slow to read."""
    return [name for name in _VARIABLES if name in code.co_varnames or name in code.co_cellvars]
