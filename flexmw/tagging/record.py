"""Exceptions, each recorded exactly once: by the host's instrument where one will, else here.

It is asked twice: before the last body, when contrib's spans are about to end, and after the app is done, when it is
known who else saw the exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.trace import Span

from flexmw.tagging.core import Attributes, Ending, exception_attributes, recorder, secrets_in
from flexmw.tagging.host import FASTAPI, artificial, passed, raised_again, recorded_on
from flexmw.tagging.otel import ends_with_body, has_exception

if TYPE_CHECKING:
    from flexmw.tagging.watch import Watch

__all__ = ["before_last_body", "record"]

EVENT: Final = "http.server.request.exception"


def before_last_body(watch: Watch) -> None:
    """Users of traces alone would lose the stack on spans that end with the body: write it there in time."""
    error = _real(watch, watch.candidate)
    span = watch.target()
    if error is None or span is None or recorded_on(span, error):
        return
    if watch.mark.logs and any(each is error for each in watch.mark.seen):
        return
    if raised_again(error) and not (ends_with_body(span) or watch.mark.fastapi):
        return
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
        attributes = {**_attributes(watch, error), **watch.facts(), **watch.settings.route_of(watch.scope)}
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
        watch.span = next((span for span in via.values() if span is not None), None)
    if any(recorded_on(span, error) for span in (watch.span, *via.values())):
        return True
    if error is watch.gone and has_exception(watch.span):
        return True  # under the name that the host gave it
    if FASTAPI in via:
        # Its mark is gone by now. Where we never saw it, FastAPI logs if anyone listens to logs.
        if watch.mark.logs if watch.mark.fastapi else watch.settings.otel.logs(EVENT):
            return True
    elif watch.mark.logs and any(each is error for each in watch.mark.seen):
        return True
    if not propagates:
        return False
    if watch.entry_mark.fastapi:
        return watch.entry_mark.logs
    return watch.own is None and watch.entry.is_recording()


def _add_event(watch: Watch, span: Span, error: Exception) -> None:
    watch.noted = error
    span.add_event("exception", _attributes(watch, error))


def _attributes(watch: Watch, error: Exception) -> Attributes:
    scope = watch.scope
    headers = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])
    secrets = secrets_in(headers, scope.get("query_string", b"").decode("latin-1"))
    return exception_attributes(error, secrets, text=watch.settings.exception_text)
