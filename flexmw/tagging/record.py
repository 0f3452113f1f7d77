"""Exceptions, each recorded exactly once: by the host's instrument where one will, else here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.trace import Span

from flexmw.tagging.core import Attributes, Ending, exception_attributes, recorder, secrets_in
from flexmw.tagging.host import FASTAPI, artificial, passed, raised_again, recorded_on
from flexmw.tagging.otel import ends_with_body, has_exception

if TYPE_CHECKING:
    from flexmw.tagging.asgi import Watch

__all__ = ["Recording"]

EVENT: Final = "http.server.request.exception"


class Recording:
    """The exception of one request. It is asked twice: before the last body, when contrib's spans are about to end, and
    after the app is done, when it is known who else saw the exception."""

    __slots__ = ("_on_span", "_watch")

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._on_span: BaseException | None = None

    def before_last_body(self) -> None:
        """Users of traces alone would lose the stack on spans that end with the body: write it there in time."""
        watch = self._watch
        error = self._real(watch.candidate)
        span = watch.target()
        if error is None or span is None or recorded_on(span, error):
            return
        if any(each is error for each in watch.mark.seen) and watch.mark.logs:
            return
        if raised_again(error) and not (ends_with_body(span) or watch.mark.fastapi):
            return
        otel = watch.settings.otel
        if recorder(host=False, mode=otel.mode(), log=otel.logs(EVENT), span=True) in ("span", "both"):
            self._add_event(span, error)

    def finish(self, raised: BaseException | None, how: Ending) -> None:
        watch, otel = self._watch, self._watch.settings.otel
        error = self._real(raised if isinstance(raised, Exception) else watch.candidate or watch.gone)
        if error is None:
            return
        span = watch.span
        quiet = how == "client_disconnected"
        done = self._on_span is error
        who = recorder(
            host=not done and self._host_records(error, propagates=error is raised),
            mode=otel.mode(),
            log=otel.logs(EVENT, quiet=quiet),
            span=done or (span is not None and span.is_recording()),
        )
        if who in ("log", "both"):
            attributes = {**self._attributes(error), **watch.facts(), **watch.settings.route_of(watch.scope)}
            otel.emit(EVENT, attributes, span=span or watch.entry, quiet=quiet)
        if who in ("span", "both") and not done and span is not None:
            self._add_event(span, error)
        if who == "nobody":
            watch.settings.unheard(otel.mode())

    def _real(self, error: BaseException | None) -> Exception | None:
        """The exception itself; for an answer in the shape of one, what it came from when the fault is ours."""
        if artificial(error):
            error = error.__cause__ if error is not None and (self._watch.status or 500) >= 500 else None
        return error if isinstance(error, Exception) and not artificial(error) else None

    def _host_records(self, error: Exception, *, propagates: bool) -> bool:
        watch = self._watch
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

    def _add_event(self, span: Span, error: Exception) -> None:
        self._on_span = error
        span.add_event("exception", self._attributes(error))

    def _attributes(self, error: Exception) -> Attributes:
        scope = self._watch.scope
        headers = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])
        secrets = secrets_in(headers, scope.get("query_string", b"").decode("latin-1"))
        return exception_attributes(error, secrets, text=self._watch.settings.exception_text)
