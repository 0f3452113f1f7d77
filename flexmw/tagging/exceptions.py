"""Exceptions as log events or span events: flexmw records each one once, unless the app's instrument records it.

Which signal an exception goes to is decided by :func:`flexmw.tagging.core.exception_target`, from the environment
variable ``OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN`` and from what is configured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from opentelemetry.trace import Span
from starlette.exceptions import HTTPException

from flexmw.contract.exception_slots import cause_of
from flexmw.contract.request_secrets import secrets_in
from flexmw.kit.asgi import Scope
from flexmw.kit.exchange import ErrorOutcome
from flexmw.tagging.cardinality import attributes_of
from flexmw.tagging.core import Attributes, Ending, exception_attributes, exception_target, is_normal_close
from flexmw.tagging.instruments import contrib, starlette
from flexmw.tagging.instruments.fastapi import ExceptionHook, FastAPITelemetry
from flexmw.tagging.instruments.frames import passage_of
from flexmw.tagging.settings import Settings
from flexmw.tagging.spans import has_exception, records_exception

__all__ = ["ExceptionRecorder", "emit_store_failure"]

EVENT: Final = "http.server.request.exception"


class ExceptionRecorder:
    """Records the exception of one request exactly once.

    It acts at three moments: when FastAPI reports an exception after the response has started, before the last body
    message (a span of contrib ends with it), and after the app is done. Only then is it known whether an instrument
    around flexmw will record the exception, so only then can a log event be written.

    ===================== ======================================================================================
    ``candidate``         the exception that an error response is sent for; ``None`` where none is known
    ``send_error``        the ``OSError`` of the server's ``send``: the client is gone
    ``_enclosing``        the exception that was being handled when the request came in; it is not the request's
    ``fastapi``           FastAPI's telemetry of the request, as seen last
    ``_fastapi_outside``  the same, as seen when the request came in: FastAPI is outside of flexmw
    ``_recorded``         the exception that was written to the span
    ===================== ======================================================================================
    """

    __slots__ = (
        "_enclosing",
        "_fastapi_outside",
        "_recorded",
        "_scope",
        "_settings",
        "candidate",
        "fastapi",
        "send_error",
    )

    def __init__(
        self,
        settings: Settings,
        scope: Scope,
        enclosing: BaseException | None,
        fastapi_outside: Any = None,
        fastapi_seen: Any = None,
    ) -> None:
        """
        :param enclosing: the exception that was being handled when the request came in.
        :param fastapi_outside: FastAPI's telemetry, if it was in the scope when the request came in.
        :param fastapi_seen: FastAPI's telemetry, as seen last.
        """
        self._settings, self._scope, self._enclosing = settings, scope, enclosing
        self._fastapi_outside = None if fastapi_outside is None else FastAPITelemetry(fastapi_outside)
        self.fastapi = self._fastapi_outside
        if fastapi_seen is not None and fastapi_seen is not fastapi_outside:
            self.fastapi = FastAPITelemetry(fastapi_seen)
        self.candidate: BaseException | None = None
        self.send_error: OSError | None = None
        self._recorded: BaseException | None = None

    @property
    def has_exception(self) -> bool:
        """True if an exception is known that nothing has raised to the app's caller."""
        return self.candidate is not None or self.send_error is not None

    def follow_fastapi(self, telemetry: Any, callback: Callable[[BaseException | None], None]) -> None:
        """Keep FastAPI's telemetry of the request.

        :param telemetry: what is in the scope now.
        :param callback: is called with each exception that FastAPI does not log.
        """
        if self.fastapi is None or not self.fastapi.wraps(telemetry):
            self.fastapi = FastAPITelemetry(telemetry)
            self.fastapi.set_hook(ExceptionHook(callback))

    def find_candidate(self, error: BaseException | None) -> None:
        """Note which exception an error response is sent for: ``error``, else the one that is being handled now.

        An exception handler calls ``send`` from inside its ``except`` block, so ``sys.exception()`` is its exception.
        """
        if self.fastapi is not None:
            self.fastapi.refresh()
        self.candidate = error or self._handled() or self.candidate

    def _handled(self) -> Exception | None:
        error = sys.exception()
        return error if isinstance(error, Exception) and error is not self._enclosing else None

    def before_last_body(self, span: Span | None, status: int | None) -> None:
        """Write the candidate to a span that ends with the last body message.

        :param span: the span that can be written to now.
        """
        error = _root(self.candidate, status)
        if error is None or span is None or records_exception(span, error):
            return
        framework = self.fastapi
        if framework is not None and framework.logged(error):
            return
        if starlette.is_raised_again(error) and not (contrib.ends_with_body(span) or framework is not None):
            return
        self._write_while_open(span, error)

    def fastapi_raised(self, error: BaseException | None, span: Span | None, status: int | None) -> None:
        """Write an exception that FastAPI has reported to its span."""
        root = _root(error, status)
        if root is not None and self._recorded is None and span is not None:
            self._write_while_open(span, root)

    def _write_while_open(self, span: Span, error: Exception) -> None:
        otel = self._settings.otel
        target = exception_target(framework=False, mode=otel.mode(), log=otel.logs(EVENT), span=True)
        if target in ("span", "both"):
            self._add_event(span, error)

    def finish(
        self,
        raised: BaseException | None,
        ending: Ending,
        *,
        span: Span | None,
        entry: Span,
        is_own: bool,
        status: int | None,
        error_outcome: ErrorOutcome | None,
    ) -> Span | None:
        """Record the exception of the request if nothing has recorded it by now. Called when the app is done.

        :param raised: what the app has raised.
        :param span: the span of the request; ``None`` where none was seen.
        :param entry: the span that was current when the request came in.
        :param is_own: ``entry`` is a server span that flexmw has opened.
        :param status: the status of the response; ``None`` where none was sent.
        :returns: ``span``; where that is ``None`` the span of an instrument that the exception has passed.
        """
        otel = self._settings.otel
        error = _root(raised if isinstance(raised, Exception) else self.candidate or self.send_error, status)
        if error is None:
            return span
        quiet = ending == "client_disconnected"
        is_written = self._recorded is error
        if is_written:
            by_framework = False
        else:
            passage = passage_of(error)
            passed = passage.spans
            if span is None:
                if starlette.MODULE in passed and error_outcome is not None:
                    self._settings.diagnostics.span_closed_before_response()
                span = next((candidate for candidate in passed.values() if candidate is not None), None)
            by_framework = (
                any(records_exception(candidate, error) for candidate in (span, *passed.values()))
                # The server's OSError is on the span under the class name that the framework has given it.
                or (error is self.send_error and has_exception(span))
                or passage.is_logged
                or (self.fastapi is not None and self.fastapi.logged(error))
                or (error is raised and self._is_recorded_outside(entry, is_own=is_own))
            )
        target = exception_target(
            framework=by_framework,
            mode=otel.mode(),
            log=otel.logs(EVENT, quiet=quiet),
            span=is_written or (span is not None and span.is_recording()),
        )
        if target in ("log", "both"):
            attributes = {**self._attributes(error), **self._response_attributes(error_outcome)}
            otel.emit(EVENT, attributes, span=span or entry, quiet=quiet)
        if target in ("span", "both") and not is_written and span is not None:
            self._add_event(span, error)
        if target == "nobody":
            self._settings.diagnostics.exception_not_recorded(otel.mode())
        return span

    def _is_recorded_outside(self, entry: Span, *, is_own: bool) -> bool:
        """Whether the instrument around flexmw will record an exception that the app raises."""
        if self._fastapi_outside is not None:
            return self._fastapi_outside.logs_exceptions
        return not is_own and entry.is_recording()

    def route(self) -> str | None:
        """``http.route`` of the request: what FastAPI has written to its span, else what the router says."""
        return self._settings.route_of(self._scope, None if self.fastapi is None else self.fastapi.telemetry)

    def _add_event(self, span: Span, error: Exception) -> None:
        self._recorded = error
        span.add_event("exception", self._attributes(error))

    def _attributes(self, error: Exception) -> Attributes:
        scope = self._scope
        headers = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])
        secrets = secrets_in(headers, scope.get("query_string", b"").decode("latin-1"))
        return exception_attributes(error, secrets, text=self._settings.exception_text)

    def _response_attributes(self, error_outcome: ErrorOutcome | None) -> Attributes:
        attributes = {} if error_outcome is None else dict(self._settings.attributes_of(error_outcome))
        if (route := self.route()) is not None:
            attributes["http.route"] = route
        return attributes


def emit_store_failure(settings: Settings, event: str, details: Mapping[str, Any], span: Span | None) -> None:
    """Emit the log event of a store that did not respond: a limiter's, or the store of idempotency keys.

    :param event: the name of the event, which is also its name on the exchange.
    """
    if settings.otel.logs(event):
        attributes = attributes_of(
            ("flexmw.rate_limiting.policy", details.get("policy")),
            ("flexmw.rate_limiting.result", details.get("result")),
        )
        error = details.get("exception")
        if isinstance(error, BaseException):
            attributes |= exception_attributes(error, text=settings.exception_text)
        settings.otel.emit(event, attributes, span=span)


def _root(error: BaseException | None, status: int | None) -> Exception | None:
    """The exception to record. An ``HTTPException`` is a response, and the semantic conventions ask not to record it;
    where its status is a server error, its cause is recorded instead."""
    # By the class alone: `isinstance` asks the exception for its class too, and an attribute may raise.
    if error is not None and issubclass(type(error), HTTPException):
        error = cause_of(error) if (status or 500) >= 500 else None
    if error is None or not issubclass(type(error), Exception) or issubclass(type(error), HTTPException):
        return None
    return None if is_normal_close(error) else cast("Exception", error)
