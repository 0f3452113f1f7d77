"""Exceptions, each recorded exactly once: by the host's instrument where one will, else here.

It is asked twice: before the last body, when contrib's spans are about to end, and after the app is done, when it is
known who else saw the exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import Span

from flexmw.tagging.core import Attributes, Ending, exception_attributes, recorder, secrets_in
from flexmw.tagging.host import FASTAPI, STARLETTE, artificial, passed, raised_again, recorded_on
from flexmw.tagging.otel import ends_with_body, has_exception

if TYPE_CHECKING:
    from flexmw.tagging.request import Watch

__all__ = ["AsItHappens", "before_last_body", "record"]

EVENT: Final = "http.server.request.exception"


def before_last_body(watch: Watch) -> None:
    """Users of traces alone would lose the stack on spans that end with the body: write it there in time."""
    error = _real(watch, watch.candidate)
    span = watch.target()
    if error is None or span is None or recorded_on(span, error):
        return
    mark = watch.mark
    if mark is not None and mark.logs and any(each is error for each in mark.seen):
        return
    if raised_again(error) and not (ends_with_body(span) or mark is not None):
        return
    _while_open(watch, span, error)


class AsItHappens:
    """What FastAPI takes for its logger where it has none: told of an exception while the span is still open."""

    __slots__ = ("_watch",)

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def emit(self, *, exception: BaseException | None = None, **_: Any) -> None:
        """FastAPI has met an exception. Before anything is sent it may be handled yet: its answer will tell."""
        watch = self._watch
        early = watch.status is None and watch.scope["type"] == "http"
        error = None if early else _real(watch, exception)
        if error is not None and watch.noted is None and (span := watch.target()) is not None:
            _while_open(watch, span, error)


def _while_open(watch: Watch, span: Span, error: Exception) -> None:
    otel = watch.settings.otel
    if recorder(host=False, mode=otel.mode(), log=otel.logs(EVENT), span=True) in ("span", "both"):
        _add_event(watch, span, error)


def record(watch: Watch, raised: BaseException | None, how: Ending) -> None:
    """See to it that what was raised, or what an answer was for, is recorded by now."""
    otel = watch.settings.otel
    error = _real(watch, raised if isinstance(raised, Exception) else watch.candidate or watch.gone)
    if error is None:
        return
    quiet = how == "client_disconnected"
    done = watch.noted is error
    host = not done and _host_records(watch, error, propagates=error is raised)
    span = watch.span
    who = recorder(
        host=host,
        mode=otel.mode(),
        log=otel.logs(EVENT, quiet=quiet),
        span=done or (span is not None and span.is_recording()),
    )
    if who in ("log", "both"):
        attributes = {**_attributes(watch, error), **_about(watch)}
        otel.emit(EVENT, attributes, span=span or watch.entry, quiet=quiet)
    if who in ("span", "both") and not done and span is not None:
        _add_event(watch, span, error)
    if who == "nobody":
        watch.settings.unheard(otel.mode())


def _real(watch: Watch, error: BaseException | None) -> Exception | None:
    """The exception itself; for an answer in the shape of one, what it came from when the fault is ours."""
    if error is not None and artificial(error):
        error = error.__cause__ if (watch.status or 500) >= 500 else None
    return error if isinstance(error, Exception) and not artificial(error) else None


def _host_records(watch: Watch, error: Exception, *, propagates: bool) -> bool:
    via = passed(error)
    if watch.span is None:
        if STARLETTE in via and watch.answer is not None:
            watch.settings.turned_round()
        watch.span = next((span for span in via.values() if span is not None), None)
    if any(recorded_on(span, error) for span in (watch.span, *via.values())):
        return True
    if error is watch.gone and has_exception(watch.span):
        return True  # under the name that the host gave it
    mark = watch.mark
    if FASTAPI in via:
        # Its mark is gone by now. Where we never saw it, FastAPI logs if anyone listens to logs.
        if mark.logs if mark is not None else watch.settings.otel.logs(EVENT):
            return True
    elif mark is not None and mark.logs and any(each is error for each in mark.seen):
        return True
    if not propagates:
        return False
    if watch.entry_mark is not None:
        return watch.entry_mark.logs
    return watch.own is None and watch.entry.is_recording()


def _about(watch: Watch) -> Attributes:
    answer, route = watch.answer, watch.settings.route_of(watch.scope)
    said = {} if answer is None else watch.settings.facts_of(answer)
    return {**said, **({} if route is None else {"http.route": route})}


def _add_event(watch: Watch, span: Span, error: Exception) -> None:
    watch.noted = error
    span.add_event("exception", _attributes(watch, error))


def _attributes(watch: Watch, error: Exception) -> Attributes:
    scope = watch.scope
    headers = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])
    secrets = secrets_in(headers, scope.get("query_string", b"").decode("latin-1"))
    return exception_attributes(error, secrets, text=watch.settings.exception_text)
