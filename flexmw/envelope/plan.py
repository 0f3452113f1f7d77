"""The options of an Envelope, resolved once for a wrapped app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from flexmw.contract.exceptions import ErrorMapping, map_exception
from flexmw.envelope.core import Rules
from flexmw.envelope.dialect import Dialect, OpenAI
from flexmw.kit.asgi import ASGIApp, Scope
from flexmw.kit.path_patterns import PathPattern
from flexmw.kit.paths import Routing, all_readings

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The resolved options; see :class:`flexmw.envelope.Envelope` for their meaning.

    :param passthrough: the patterns of the paths whose errors pass unchanged.
    :param routing: how the wrapped app compares paths.
    :param default: the dialect of requests that none of ``dialects`` serves.
    :param request_id: the header's name in lower case; ``None`` adds no header.
    :param max_wait: seconds.
    :param hold: seconds.
    :param app: the wrapped app.
    """

    rules: Rules
    dialects: tuple[Dialect, ...]
    default: OpenAI
    passthrough: tuple[PathPattern, ...]
    routing: Routing
    unless: Callable[[Scope, int], bool] | None
    request_id: str | None
    should_retry: bool
    max_wait: float
    hold: float
    lines: bool
    app: ASGIApp | None = None

    map_exception: Callable[[BaseException], ErrorMapping] = field(init=False)
    """Maps an exception of the app to its error response, by the options. It is a field, and not a method, because it
    is put on the exchange of each request, and a bound method would be a new object each time."""

    def __post_init__(self) -> None:
        rules = self.rules
        mapping = partial(
            map_exception,
            timeout_status=rules.timeout_status,
            validation_status=rules.validation_status,
            messages=rules.messages,
        )
        object.__setattr__(self, "map_exception", mapping)

    def passes_through(self, scope: Scope) -> bool:
        """True if the errors of a request pass unchanged, by the option ``passthrough``.

        Call it before the app runs: routers change the path and the root path in the scope.
        """
        return all_readings(self.passthrough, scope, self.routing)
