"""The options of a Tagging, resolved once into what its requests and calls need."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from flexmw.kit.clock import Clock
from flexmw.kit.exchange import ErrorOutcome
from flexmw.tagging.core import Attributes
from flexmw.tagging.diagnostics import Diagnostics
from flexmw.tagging.hot_callers import HotCallers
from flexmw.tagging.instruments import starlette
from flexmw.tagging.otel import Otel
from flexmw.tagging.tally import Cell

__all__ = ["Route", "Settings"]

Route: TypeAlias = Callable[[MutableMapping[str, Any]], str | None]
RouteOf: TypeAlias = Callable[[MutableMapping[str, Any], object], str | None]
"""Of a scope, and of FastAPI's telemetry of the request."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Shared by all requests and calls of one component; holds no state of a request.

    :param otel: tracer, metric instruments and logger.
    :param error_attributes: function of ``(type, code, source)`` that returns the attributes of an error response,
        held to their closed sets. Equal arguments may return the same dict: it must not be changed.
    :param route: function of the scope that returns the template of the request's route; ``None`` to ask the router.
    :param exception_text: put message and stack on exception events.
    :param server_address: put the called host on client metrics.
    :param call_span: open an INTERNAL span for each call of a client.
    :param server_span: open a server span where no instrument does.
    :param on_disconnect: whether a client that disconnects makes the server span an error.
    :param key_hash: put the keyed hash of the caller on server spans.
    :param gen_ai: put the attributes of language models on spans.
    :param hot_callers: counts the requests of callers; ``None``: nobody asked for it.
    :ivar find_route: what :meth:`route_of` calls: ``route``, or what asks the router. It may raise.
    :ivar plain_cells: the counts of plain requests by status, and by template, where the template is the whole route.
    :ivar has_plain_requests: whether a request may have nothing to write on its span: no option asks for more.
    """

    otel: Otel
    diagnostics: Diagnostics
    clock: Clock
    error_attributes: Callable[[str | None, str | None, str | None], Attributes]
    route: Route | None
    exception_text: bool
    server_address: bool
    call_span: bool
    server_span: bool
    on_disconnect: Literal["host", "unset", "error"]
    key_hash: bool
    gen_ai: bool
    hot_callers: HotCallers | None
    plain_cells: dict[int | None, dict[object, Cell]] = field(init=False, default_factory=dict)
    has_plain_requests: bool = field(init=False)
    find_route: RouteOf = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_plain_requests", not (self.gen_ai or self.key_hash or self.server_span))
        find_route = starlette.route_of if self.route is None else _ignoring_telemetry(self.route)
        object.__setattr__(self, "find_route", find_route)

    def route_of(self, scope: MutableMapping[str, Any], telemetry: object = None) -> str | None:
        """``http.route``, where the router has matched a route; never the path.

        :param telemetry: FastAPI's telemetry of the request; the route that it has written to its span comes first.
        """
        try:
            return self.find_route(scope, telemetry)
        except Exception:
            self.diagnostics.route_failed()
            return None

    def attributes_of(self, outcome: ErrorOutcome) -> Attributes:
        """The attributes of an error response. They must not be changed: equal outcomes share one dict."""
        return self.error_attributes(outcome.type, outcome.code, outcome.source)


def _ignoring_telemetry(route: Route) -> RouteOf:
    def route_of(scope: MutableMapping[str, Any], telemetry: object) -> str | None:
        return route(scope)

    return route_of
