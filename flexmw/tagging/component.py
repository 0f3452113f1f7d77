"""The component ``Tagging``: its options, and the :class:`Settings` that they become."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Final, Literal

from flexmw.kit.asgi import ASGIApp
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import API, Order
from flexmw.kit.effects import Flow, Request
from flexmw.kit.factory import ServerMiddleware, middleware_factory
from flexmw.kit.options import check, documented, flag, function, one_of, option, optional, several, text, whole
from flexmw.kit.semconv import CODES, TYPES
from flexmw.tagging.asgi import TaggingApp
from flexmw.tagging.core import Attributes, Vocabulary
from flexmw.tagging.diagnostics import Diagnostics
from flexmw.tagging.flow import tagging_flow
from flexmw.tagging.hot_callers import HotCallers
from flexmw.tagging.otel import Otel
from flexmw.tagging.settings import Settings

__all__ = ["Tagging"]

_MAX_ERROR_KINDS: Final = 256
"""Combinations of type, code and source whose attributes are kept; a client's upstream may send any code."""

_MAX_CACHED_TEXT: Final = 256
"""Characters of a type and a code whose attributes are cached."""


@dataclass(frozen=True, kw_only=True)
class Tagging(ServerMiddleware):
    """Enrich the spans that the instrumentation of the app or of the client has opened. ``docs/telemetry.md`` lists
    every attribute, event and metric.

    :param types: Values of the error field ``type`` that this app uses besides those of the contract. Any other value
        is reported as ``_OTHER``, so that the number of time series stays bounded. Value: a list, each a text that is
        not empty. Default: ``()``.
    :param codes: Values of the error field ``code`` that this app uses besides those of the contract. Any other value
        is reported as ``_OTHER``. Value: a list, each a text that is not empty. Default: ``()``.
    :param exception_text: Record the messages and stacks of exceptions, with secrets removed. Otherwise an exception
        event carries the class of the exception alone. Default: ``True``.
    :param server_address: Record the called host on client metrics. Default: ``True``.
    :param server_span: Open a server span where nothing else records one. Default: ``False``.
    :param call_span: Open one INTERNAL span ``flexmw.call`` for each logical call of a client, around its attempts.
        Default: ``False``.
    :param on_disconnect: Whether a client that disconnects makes the server span an error. ``host``: what the
        instrument of the app says, and ERROR on a span of ``server_span``, as the semantic conventions say. ``unset``:
        never. ``error``: always. ``flexmw.response.outcome`` is ``client_disconnected`` in any case. Value: one of
        'host', 'unset', 'error'. Default: ``"host"``.
    :param key_hash: Write ``flexmw.rate_limiting.key_hash`` to server spans: 16 characters of the keyed hash under
        which a limiter has counted the caller. The key is the pepper of the limiter. Default: ``False``.
    :param gen_ai: Write ``gen_ai.*`` to the spans of requests to APIs of language models: operation, provider, models
        and tokens, read from bodies of up to 1 MiB. Prompts and completions are never recorded. The tokens of a
        client's call are on ``flexmw.call``, because the span of an attempt ends before its body. Default: ``False``.
    :param hot_callers: Report the callers with the most requests of the last minute, so many of them, as the metric
        ``flexmw.rate_limiting.hot_callers``: by keyed hash, never by key. Needs a ``RateLimit`` inside. 0: none. Value:
        a whole number, 0 to 100 (callers). Default: ``0``.
    :param route: A function of the scope that returns the route of a request, for routers that do not report it. Value:
        a function, or None. Default: ``None``.
    :param tracer_provider: OpenTelemetry provider of spans. ``None`` uses the global provider. Value: a tracer provider
        or None. Default: ``None``.
    :param meter_provider: OpenTelemetry provider of metrics. ``None`` uses the global provider. Value: a meter provider
        or None. Default: ``None``.
    :param logger_provider: OpenTelemetry provider of log events. ``None`` uses the global provider. Value: a logger
        provider or None. Default: ``None``.
    :raises ConfigError: an option that cannot work; the error names the option, its value and what would be right.
    """

    name: ClassVar[str] = "tagging"
    api: ClassVar[int] = API
    order: ClassVar[Order] = Order(before=("envelope", "ratelimit", "idempotency"))

    types: tuple[str, ...] = option(
        (),
        several(text),
        doc="Values of the error field `type` that this app uses besides those of the contract. Any other value is "
        "reported as `_OTHER`, so that the number of time series stays bounded.",
    )
    codes: tuple[str, ...] = option(
        (),
        several(text),
        doc="Values of the error field `code` that this app uses besides those of the contract. Any other value is "
        "reported as `_OTHER`.",
    )
    exception_text: bool = option(
        True,
        flag,
        doc="Record the messages and stacks of exceptions, with secrets removed. Otherwise an exception event carries "
        "the class of the exception alone.",
    )
    server_address: bool = option(True, flag, doc="Record the called host on client metrics.")
    server_span: bool = option(False, flag, doc="Open a server span where nothing else records one.")
    call_span: bool = option(
        False,
        flag,
        doc="Open one INTERNAL span `flexmw.call` for each logical call of a client, around its attempts.",
    )
    on_disconnect: Literal["host", "unset", "error"] = option(
        "host",
        one_of(("host", "unset", "error")),
        doc="Whether a client that disconnects makes the server span an error. `host`: what the instrument of the app "
        "says, and ERROR on a span of `server_span`, as the semantic conventions say. `unset`: never. `error`: always. "
        "`flexmw.response.outcome` is `client_disconnected` in any case.",
    )
    key_hash: bool = option(
        False,
        flag,
        doc="Write `flexmw.rate_limiting.key_hash` to server spans: 16 characters of the keyed hash under which a "
        "limiter has counted the caller. The key is the pepper of the limiter.",
    )
    gen_ai: bool = option(
        False,
        flag,
        doc="Write `gen_ai.*` to the spans of requests to APIs of language models: operation, provider, models and "
        "tokens, read from bodies of up to 1 MiB. Prompts and completions are never recorded. The tokens of a client's "
        "call are on `flexmw.call`, because the span of an attempt ends before its body.",
    )
    hot_callers: int = option(
        0,
        whole(least=0, most=100),
        doc="Report the callers with the most requests of the last minute, so many of them, as the metric "
        "`flexmw.rate_limiting.hot_callers`: by keyed hash, never by key. Needs a `RateLimit` inside. 0: none.",
        unit="callers",
    )
    route: Callable[[MutableMapping[str, Any]], str | None] | None = option(
        None,
        optional(function),
        doc="A function of the scope that returns the route of a request, for routers that do not report it.",
        hidden=True,
    )
    tracer_provider: Any = option(
        None,
        documented("a tracer provider or None"),
        doc="OpenTelemetry provider of spans. `None` uses the global provider.",
        hidden=True,
    )
    meter_provider: Any = option(
        None,
        documented("a meter provider or None"),
        doc="OpenTelemetry provider of metrics. `None` uses the global provider.",
        hidden=True,
    )
    logger_provider: Any = option(
        None,
        documented("a logger provider or None"),
        doc="OpenTelemetry provider of log events. `None` uses the global provider.",
        hidden=True,
    )
    clock: Clock = option(SYSTEM, hidden=True)

    def __post_init__(self) -> None:
        check(self)

    @middleware_factory
    def asgi(self, app: ASGIApp) -> ASGIApp:
        """The server side: ``app``, with its requests observed."""
        return TaggingApp(app, self._settings)

    def flow(self, request: Request) -> Flow:
        """The client side: one call, observed."""
        return tagging_flow(self._settings, request)

    def is_idle(self) -> bool:
        """Whether a call would pass through untouched: the transport leaves this component out of it."""
        return self._settings.otel.is_idle()

    @cached_property
    def _settings(self) -> Settings:
        otel = Otel(self.tracer_provider, self.meter_provider, self.logger_provider, clock=self.clock)
        vocabulary = Vocabulary(frozenset((*TYPES, *self.types)), frozenset((*CODES, *self.codes)))
        return Settings(
            otel=otel,
            diagnostics=Diagnostics(otel, server_span=self.server_span),
            clock=self.clock,
            error_attributes=_cached(vocabulary.attributes),
            route=self.route,
            exception_text=self.exception_text,
            server_address=self.server_address,
            call_span=self.call_span,
            server_span=self.server_span,
            on_disconnect=self.on_disconnect,
            key_hash=self.key_hash,
            gen_ai=self.gen_ai,
            hot_callers=HotCallers(self.hot_callers, self.clock.monotonic) if self.hot_callers else None,
        )


def _cached(
    attributes: Callable[[str | None, str | None, str | None], Attributes],
) -> Callable[[str | None, str | None, str | None], Attributes]:
    """``attributes`` with a cache that is bounded in bytes: the values of an app's own errors may be long texts."""
    cached = lru_cache(_MAX_ERROR_KINDS)(attributes)

    def error_attributes(type: str | None, code: str | None, source: str | None) -> Attributes:
        is_long = len(type or "") + len(code or "") > _MAX_CACHED_TEXT
        return (attributes if is_long else cached)(type, code, source)

    return error_attributes
