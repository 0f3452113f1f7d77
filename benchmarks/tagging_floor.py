"""The least that the promises of Tagging can cost for a request that is just responded to: a stand-in by hand.

It asks for each request all that Tagging has to know before it writes nothing but a count. Where the answer is that
there is more to write, the stand-in notes that and writes nothing: such requests are none of those measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from sys import exception
from typing import Any, Final

from opentelemetry.metrics import Observation
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span, SpanContext, set_span_in_context

from flexmw.contract.sdk import RETRY_COUNT
from flexmw.kit import store_observer
from flexmw.kit.exchange import KEY, new_exchange
from flexmw.tagging.instruments.current import SPAN_KEY, get_current
from flexmw.tagging.instruments.suppression import is_suppressed
from flexmw.tagging.spans import is_server

__all__ = ["ByHand"]

_TELEMETRY: Final = "fastapi.telemetry"


class Count:
    """The requests of one status and route."""

    __slots__ = ("add", "attributes", "reads", "trace")

    def __init__(self, status: int | None, route: str | None) -> None:
        self.add: Callable[[], int] = itertools.count().__next__
        self.attributes = {"http.response.status_code": status or 0, "http.route": str(route)}
        self.reads = 0
        self.trace: SpanContext | None = None

    def observation(self) -> Observation:
        """The count so far, with the last sampled span as its exemplar."""
        value = self.add() - self.reads
        self.reads += 1
        context = None if self.trace is None else set_span_in_context(NonRecordingSpan(self.trace))
        self.trace = None
        return Observation(value, self.attributes, context)


class ByHand:
    """A middleware with a closure for ``receive`` and one for ``send``.

    It observes what Tagging observes of a plain request: whether telemetry is suppressed; the span around the request
    and one that is opened inside; the events, the facts and the store operations of the components inside; a
    disconnect, a second start, a body in parts, an error of ``send`` and of the app; the exception that was handled
    before; FastAPI's own telemetry; the route, also inside of a mount. It counts by status and route, with an exemplar.

    :ivar odd: what it has seen that Tagging writes to a span, the last hundred.
    """

    def __init__(self, app: Any, meter_provider: Any) -> None:
        self.app = app
        self.counts: dict[tuple[int | None, str | None], Count] = {}
        self.odd: list[Any] = []
        meter_provider.get_meter("benchmark").create_observable_counter("requests", [self.observations])

    def observations(self, options: Any) -> Iterator[Observation]:
        """What the SDK reads when it exports."""
        return iter([count.observation() for count in self.counts.values()])

    def note(self, *odd: Any) -> None:
        """Note what is more than a count."""
        self.odd = [*self.odd, odd][-100:]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        app, counts, note = self.app, self.counts, self.note
        if scope["type"] != "http" or KEY in scope:
            await app(scope, receive, send)
            return
        context = get_current()
        around: Any = context.get(SPAN_KEY)
        if (around is None or len(context) > 1) and context and is_suppressed(context):
            await app(scope, receive, send)
            return
        span: Span | None = around if around is not None and around.is_recording() and is_server(around) else None
        handled_before, telemetry = exception(), scope.get(_TELEMETRY)
        exchange = new_exchange(scope)
        exchange.observers = (note,)
        status: int | None = None
        is_complete = False

        async def receiving() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect" and not is_complete:
                note(message)
            return message

        async def sending(message: Any) -> None:
            nonlocal status, is_complete, span, telemetry
            kind = message["type"]
            if kind == "http.response.start":
                status = message["status"]
                if message["status"] >= 500 or exchange.facts:
                    note(message)
                if _TELEMETRY in scope:
                    telemetry = scope[_TELEMETRY]
                    if telemetry.logger is None:  # FastAPI logs no exceptions, so others have to
                        note(telemetry)
                current = get_current()
                if current is not context:
                    inside: Any = current.get(SPAN_KEY, INVALID_SPAN)
                    if inside is not span and inside.is_recording():
                        span = inside
                if span is not None:
                    for name, _ in scope["headers"]:
                        if name == RETRY_COUNT:
                            note(name)
            elif kind == "http.response.body" and not is_complete and not message.get("more_body"):
                is_complete = True
                source = scope.get("route") if telemetry is None else telemetry
                route = getattr(source, "path_format" if telemetry is None else "route", None)
                if scope["root_path"]:
                    route = f"{scope['root_path']}{route}"
                key = status, route
                count = counts.get(key)
                if count is None:
                    count = counts.setdefault(key, Count(status, route))
                count.add()
                if span is not None and count.trace is None:
                    count.trace = span.get_span_context()
            else:
                note(message)
            try:
                await send(message)
            except OSError as error:
                note(error)
                raise

        token = store_observer.observer.set(note) if store_observer.reports_expected else None
        try:
            await app(scope, receiving, sending)
        except BaseException as error:
            note(error, handled_before)
            raise
        else:
            if not is_complete or exchange.facts:
                note(exchange.facts)
        finally:
            exchange.observers = ()
            del scope[KEY]
            if token is not None:
                store_observer.observer.reset(token)
