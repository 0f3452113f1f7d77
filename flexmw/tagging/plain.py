"""Telemetry of one plain request: a response below 500 whose body is one message, and nothing to write on the span.

Most requests are plain, and telemetry is a measurable part of what they cost. So the state of such a request is a few
fields of an object that each request has: its exchange. A second object cost a request 2,000 instructions.
:class:`PlainRequest` hands over to :class:`flexmw.tagging.request.RequestTelemetry` as soon as a request turns out not
to be plain.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import exception
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span

from flexmw.contract.exceptions import map_exception
from flexmw.contract.sdk import RETRY_COUNT
from flexmw.kit.asgi import Message, Receive, Scope, Send
from flexmw.kit.exchange import KEY, Exchange, Observer, dropped, keep_headers, unclaimed
from flexmw.tagging.instruments import AppInstrument
from flexmw.tagging.instruments.current import SPAN_KEY, get_current
from flexmw.tagging.instruments.fastapi import LOGGER, NO_LOGGERS, ROUTE, SCOPE_KEY
from flexmw.tagging.instruments.starlette import REST, TEMPLATE
from flexmw.tagging.metrics import record_store_operation
from flexmw.tagging.request import BODIES, RequestTelemetry
from flexmw.tagging.settings import Settings
from flexmw.tagging.spans import is_server

__all__ = ["COMPLETE", "ENDED", "PlainRequest"]

_UNKNOWN: Final[Any] = ""
"""The template where more than the route that was matched last has to be looked at."""

_ROUTE_TYPES: Final = (str, type(None))


class _Ended(RequestTelemetry):
    """Observes nothing. The app has returned, but a task of it may still send and receive."""

    def on_received(self, message: Message) -> bool:
        """Observe nothing."""
        return False

    def on_message(self, message: Message) -> None:
        """Observe nothing."""

    def on_send_error(self, error: OSError) -> None:
        """Observe nothing."""


COMPLETE: Final = RequestTelemetry()
"""In place of the telemetry of a plain request whose response is complete and counted."""

ENDED: Final = _Ended()
"""The telemetry of a request whose app has returned."""


def _observed_by_itself(event: str, details: Mapping[str, Any]) -> None:
    """The observer of a plain request. It is not called, because :meth:`PlainRequest.emit` replaces it."""


_PLAIN: Final[tuple[Observer, ...]] = (_observed_by_itself,)
"""The observers of a plain request. One tuple for all requests, and no reference cycle."""


class PlainRequest(Exchange):
    """The exchange of a request, and its telemetry while the request is plain.

    The fields are set by :meth:`begin`, because Python calls an ``__init__`` through C.

    :ivar full: the telemetry of a request that is not plain; ``None`` while it is plain, :data:`COMPLETE` once the last
        message of a plain response has come from the app and was counted.
    :ivar status: the status of the response; ``None`` before its start.
    :ivar context: the OpenTelemetry context in which the request came in.
    :ivar enclosing: the exception that was being handled when the request came in. It is not the request's.
    :ivar span: the span of the request, if it records and was found.
    :ivar fastapi: FastAPI's telemetry, as seen last.
    :ivar fastapi_outside: FastAPI's telemetry, if it was in the scope when the request came in.
    :ivar arrived: when the request came in, in monotonic seconds; ``None`` where no instrument inside opens a span.
    """

    __slots__ = (
        "arrived",
        "context",
        "enclosing",
        "fastapi",
        "fastapi_outside",
        "full",
        "instrument",
        "scope",
        "server_receive",
        "server_send",
        "settings",
        "span",
        "status",
    )

    arrived: float | None
    context: Context
    enclosing: BaseException | None
    fastapi: Any
    fastapi_outside: Any
    full: RequestTelemetry | None
    instrument: AppInstrument
    scope: Scope
    server_receive: Receive
    server_send: Send
    settings: Settings
    span: Span | None
    status: int | None

    def begin(
        self,
        settings: Settings,
        instrument: AppInstrument,
        context: Context,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Set the fields, and put the exchange in the scope."""
        # Those of the exchange. A call of its `set_up` would find them in another class than it mostly does, and
        # Python 3.11 stores the fields of one class faster than those of several. A line for each field: in a chain of
        # targets Python copies the value before each store, where it otherwise loads value and object in one step.
        self.headers = []
        self.facts = {}
        self.known = 0
        self.headers_claimed = False
        self.forward = unclaimed
        self.map_exception = map_exception
        self.observers = _PLAIN
        self._tokens = ()
        self.judged_key = None
        self.remembered = None
        self.error_outcome = None
        self.stream = None
        self.full = None
        self.span = None
        self.status = None
        self.arrived = None
        self.fastapi = None
        self.settings = settings
        self.instrument = instrument
        self.context = context
        self.scope = scope
        self.server_receive = receive
        self.server_send = send
        self.enclosing = exception()
        if SCOPE_KEY in scope:
            self.fastapi = scope[SCOPE_KEY]
        self.fastapi_outside = self.fastapi
        scope[KEY] = self
        headers = scope["headers"] if "headers" in scope else None  # noqa: SIM401 - get() costs more
        if type(headers) is not list or (headers and type(headers[0][0]) is not bytes):  # as in `new_exchange`
            keep_headers(scope)

    async def receive_observed(self) -> Message:
        """The app's ``receive``."""
        message = await self.server_receive()
        is_to_observe = message["type"] == "http.disconnect" and self.full is not COMPLETE
        if is_to_observe and self.full_telemetry().on_received(message):
            self.offer_drop(self._send_nothing)
        return message

    def _send_nothing(self) -> None:
        """Send nothing more to the server."""
        self.server_send = dropped

    async def send_observed(self, message: Message) -> None:
        """The app's ``send``."""
        kind, full = message["type"], self.full
        if full is not None:
            (self.full_telemetry() if full is COMPLETE else full).on_message(message)
        elif kind == "http.response.start":
            self.status = status = message["status"]
            context = get_current()
            if status >= 500 or (
                (
                    context is not self.context
                    or self.span is not None
                    or self.arrived is not None
                    or SCOPE_KEY in self.scope
                )
                and not self._starts_plain(context)
            ):
                self.full_telemetry().on_message(message)
        elif kind == "http.response.body" and not message.get("more_body"):
            self.full = COMPLETE
            # The count of nearly every request. A function of its own would cost as much again.
            scope, fastapi = self.scope, self.fastapi
            try:
                if scope["root_path"]:
                    cell = None
                else:
                    template = (
                        getattr(scope.get("route"), TEMPLATE, None)
                        if fastapi is None
                        else getattr(fastapi, ROUTE, None) or _UNKNOWN
                    )
                    cell = self.settings.plain_cells[self.status][template]
            except Exception:  # of an object of the app's router: `_route()` asks it again, and reports that
                cell = None
            if cell is None:
                self._count()
            else:
                add = cell.add  # as a method it would be looked up on the class first
                add()
                if self.span is not None and cell.trace is None:
                    cell.set_trace(self.span)
        elif kind in BODIES:
            self.full_telemetry().on_message(message)
        send = self.server_send  # like `add` above
        try:
            await send(message)
        except OSError as error:
            self.full_telemetry().on_send_error(error)
            raise

    def _starts_plain(self, context: Context) -> bool:
        """Whether the start of the response has nothing to be written, where a span may be open.

        This is the last moment at which the span of every instrument is open. The span of a plain request is found
        without a look at frames.

        :param context: the current context.
        """
        if self.facts:
            return False
        scope, span = self.scope, self.span
        if is_in_fastapi := SCOPE_KEY in scope:
            telemetry = scope[SCOPE_KEY]
            if telemetry is not self.fastapi:
                if type(getattr(telemetry, LOGGER, None)) in NO_LOGGERS:
                    return False
                self.fastapi = telemetry
        if context is not self.context:
            current: Any = context.get(SPAN_KEY, INVALID_SPAN)
            if current is not span and current.is_recording():
                if span is not None or not is_server(current):
                    return False
                self.span = span = current
        if span is None:
            return is_in_fastapi or self.arrived is None
        for name, _ in scope["headers"]:  # noqa: SIM110 - any() costs each request a generator
            if name == RETRY_COUNT:
                return False
        return True

    def _count(self) -> None:
        """Count the request, and remember the count for :meth:`send_observed` where the template is the whole route."""
        settings = self.settings
        if not settings.otel.meters:
            return
        route: Any = settings.route_of(self.scope, self.fastapi)
        cell = settings.otel.request_cells.get((self.status, route)) if isinstance(route, _ROUTE_TYPES) else None
        if cell is None:
            settings.otel.count("flexmw.server.requests", self.status, route, span=self.span)
            return
        cell.add()
        if self.span is not None and cell.trace is None:
            cell.set_trace(self.span)
        if settings.route is None and route == self._template() and not str(route).endswith(REST):
            settings.plain_cells.setdefault(self.status, {})[route] = cell

    def _template(self) -> Any:
        """The template of the route that the router has matched last, as :meth:`send_observed` reads it."""
        fastapi = self.fastapi
        try:
            if self.scope["root_path"]:
                return _UNKNOWN
            if fastapi is not None:
                return getattr(fastapi, ROUTE, None) or _UNKNOWN
            return getattr(self.scope.get("route"), TEMPLATE, None)
        except Exception:  # as in `send_observed`
            return _UNKNOWN

    def full_telemetry(self) -> RequestTelemetry:
        """The telemetry of a request that is not plain. It observes the request from now on."""
        full = self.full
        if full is None or full is COMPLETE:
            is_complete = full is COMPLETE
            full = self.full = RequestTelemetry()
            full.settings, full.instrument, full.context, full.exchange = (
                self.settings,
                self.instrument,
                self.context,
                self,
            )
            full.scope, full.enclosing, full.span, full.status = self.scope, self.enclosing, self.span, self.status
            full.fastapi, full.fastapi_outside, full.arrived = self.fastapi, self.fastapi_outside, self.arrived
            full.is_complete = full.is_counted = is_complete
            self.observers = (full,)
        return full

    def emit(self, event: str, details: Mapping[str, Any]) -> None:
        """Call the observers with an event."""
        if self.observers is _PLAIN:
            self.full_telemetry()
        Exchange.emit(self, event, details)

    def subscribe(self, observer: Observer) -> None:
        """Call ``observer`` with every event of this request."""
        if self.observers is _PLAIN:
            self.full_telemetry()
        Exchange.subscribe(self, observer)

    def on_store_operation(self, component: str, operation: str, seconds: float, error: BaseException | None) -> None:
        """Observe an operation on a store of a component further inward."""
        span = self.full.spans.span if type(self.full) is RequestTelemetry and self.full is not COMPLETE else self.span
        record_store_operation(self.settings, component, operation, seconds, error, span)

    def finish_full(self, error: BaseException | None) -> None:
        """Write what is left of a request that is not plain when the app is done.

        :param error: what the app has raised.
        """
        full = self.full_telemetry()
        try:
            full.finish(error)
        finally:
            self.span = full.spans.span
            self.unsubscribe(full)
