"""The component ``Tagging``: its options, and the :class:`Settings` that they become."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from flexmw.kit.asgi import ASGIApp
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import API, Order
from flexmw.kit.effects import Flow, Request
from flexmw.kit.options import check, flag, function, option, optional, several, text
from flexmw.kit.semconv import CODES, TYPES
from flexmw.tagging.asgi import Tagged
from flexmw.tagging.core import Vocabulary
from flexmw.tagging.flow import tagged
from flexmw.tagging.otel import Otel
from flexmw.tagging.settings import Settings

__all__ = ["Tagging"]


@dataclass(frozen=True, kw_only=True)
class Tagging:
    """Enriches the span of whatever instruments the host or the client; see ``docs/telemetry.md`` for every name.

    :param types: values of ``type`` that this application's errors have beside the contract's.
    :param codes: the same for ``code``. Anything else is reported as ``_OTHER``, so that no metric grows without end.
    :param exception_text: put exception messages and stacks, secrets taken out, on exception events.
    :param server_address: put the called host on client metrics.
    :param server_span: open a server span where nothing else records one.
    :param call_span: open one INTERNAL span per logical call of a client, around its attempts.
    :param route: ``(scope) -> route``: the route of a request, where the router does not say.
    :raises ConfigError: for a value that cannot work, naming it.
    """

    name: ClassVar[str] = "tagging"
    api: ClassVar[int] = API
    order: ClassVar[Order] = Order(before=("envelope", "ratelimit", "idempotency"))

    types: tuple[str, ...] = option((), several(text))
    codes: tuple[str, ...] = option((), several(text))
    exception_text: bool = option(True, flag)
    server_address: bool = option(True, flag)
    server_span: bool = option(False, flag)
    call_span: bool = option(False, flag)
    route: Callable[[MutableMapping[str, Any]], str | None] | None = option(None, optional(function), hidden=True)
    tracer_provider: Any = option(None, hidden=True)
    meter_provider: Any = option(None, hidden=True)
    logger_provider: Any = option(None, hidden=True)
    clock: Clock = option(SYSTEM, hidden=True)

    def __post_init__(self) -> None:
        check(self)

    def asgi(self, app: ASGIApp) -> ASGIApp:
        """The server face: ``app`` with its requests told about."""
        return Tagged(app, self._settings)

    def flow(self, request: Request) -> Flow:
        """The client face: one logical call."""
        return tagged(self._settings, request)

    @cached_property
    def _settings(self) -> Settings:
        return Settings(
            Otel(self.tracer_provider, self.meter_provider, self.logger_provider, clock=self.clock),
            vocabulary=Vocabulary(frozenset((*TYPES, *self.types)), frozenset((*CODES, *self.codes))),
            clock=self.clock,
            route=self.route,
            exception_text=self.exception_text,
            server_address=self.server_address,
            call_span=self.call_span,
            server_span=self.server_span,
        )
