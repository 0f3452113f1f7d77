"""Which rates apply to a request, and which requests are exempt: the ``limit`` and ``exempt`` options, read once.

>>> rates = Rules(("10/minute",), {"/v1/models": "100/minute"})
>>> rates.fixed({"type": "http", "method": "GET", "path": "/v1/models"})[0].limit
100
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import isawaitable, signature
from typing import Any, Final, TypeAlias, cast

from flexmw.errors import ConfigError
from flexmw.kit.asgi import Scope
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.ratelimit.callers import Caller
from flexmw.ratelimit.core import REQUESTS, SECOND, Rate
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.stores.memory import Table

__all__ = ["TIER_SECONDS", "Exempt", "Rates", "Rules", "exemption"]

TIER_SECONDS: Final = 10.0
"""How long the answer of an async ``limit`` function is believed for one caller. A plain function is always asked."""

_LIMIT: Final = (
    "a function of the caller (and, if it takes two arguments, of the scope) that returns rates, or a table of rates "
    "by path, such as {'/v1/models': '100/minute', 'POST /v1/videos/*': '2/minute'}"
)
_EXEMPT: Final = (
    "a path ('/health', '/static/*', 'OPTIONS *', 'GET /metrics'), a list of them, or a function of the scope"
)

Rates: TypeAlias = tuple[Rate, ...]
Exempt: TypeAlias = Callable[[Scope], bool | Awaitable[bool]]


class Rules:
    """The rates of a request in one unit. ``fixed`` knows them at once; ``of`` asks the host's function.

    :param option: what ``limit`` is called in messages.
    """

    def __init__(
        self,
        rates: Sequence[object],
        limit: object = None,
        *,
        option: str = "RateLimit(limit=...)",
        unit: str = REQUESTS,
        clock: Clock = SYSTEM,
    ) -> None:
        self._monotonic = clock.monotonic
        self._tier = limit if callable(limit) else None
        self._option, self._unit = option, unit
        many = "RateLimit(*rates)" if unit == REQUESTS else option
        self._default = parse_rates(list(rates), many, any_limit=self._tier is not None, unit=unit) if rates else ()
        self._table: list[tuple[_Route, Rates]] = []
        if isinstance(limit, Mapping):
            for route, value in cast("Mapping[object, object]", limit).items():
                rule = _Route(route, option)
                self._table.append((rule, parse_rates(value, f"{option}[{route!r}]", group=rule.name, unit=unit)))
            self._table.sort(key=lambda pair: pair[0].weight, reverse=True)
        elif limit is not None and self._tier is None:
            raise ConfigError(self._option, limit, _LIMIT)
        self._takes_scope = self._tier is not None and _arguments(self._tier) > 1
        self._parsed: dict[Any, Rates] = {}
        self._tiers = Table(int(TIER_SECONDS * SECOND), most=262_144, shards=64)

    @property
    def known(self) -> Rates:
        """All rates that are known before the first request."""
        return self._default + tuple(rate for _, rates in self._table for rate in rates)

    @property
    def asks(self) -> bool:
        """Whether the host has to be asked."""
        return self._tier is not None

    def fixed(self, scope: Scope) -> Rates:
        """The rates of a request by its path; none means that it is not limited."""
        for route, rates in self._table:
            if route.fits(scope):
                return rates
        return self._default

    async def of(self, caller: Caller, scope: Scope) -> Rates:
        """The rates of a caller.

        :raises ConfigError: when the host's function returns what is no rate.
        """
        assert self._tier is not None  # noqa: S101
        now = int(self._monotonic() * SECOND)
        held = self._tiers.get(caller.digest, now)
        if held is not None and now < held[0]:
            return held[1]  # type: ignore[no-any-return]
        value = self._tier(caller, scope) if self._takes_scope else self._tier(caller)
        if not isawaitable(value):
            return self._read(value)
        rates = self._read(await value)
        self._tiers.put(caller.digest, (now + int(TIER_SECONDS * SECOND), rates), now)
        return rates

    def _read(self, value: Any) -> Rates:
        if value is None:
            return self._default
        key: Any = tuple(cast("Sequence[object]", value)) if isinstance(value, list) else value
        rates = self._parsed.get(key)
        if rates is None:
            rates = parse_rates(cast("object", value), self._option, any_limit=True, unit=self._unit)
            if len(self._parsed) < 4096:
                self._parsed[key] = rates
        return rates


class _Route:
    """``"/path"``, ``"/prefix/*"``, ``"METHOD *"`` or ``"METHOD /path"``."""

    def __init__(self, text: object, option: str, expected: str = _LIMIT) -> None:
        method, found, path = text.rpartition(" ") if isinstance(text, str) else ("", "", "")
        self._method = method.strip().upper() if found else ""
        self._path, star, rest = path.partition("*")
        if rest or not (star or self._path) or (self._path and not self._path.startswith("/")):
            raise ConfigError(option, text, expected)
        self._prefix = bool(star)
        self.name = f"{self._method} {path}".strip()
        self.weight = (len(self._path), not star, bool(self._method))

    def fits(self, scope: Scope) -> bool:
        if self._method and scope.get("method") != self._method:
            return False
        path = scope["path"]
        return path.startswith(self._path) if self._prefix else path == self._path  # type: ignore[no-any-return]


def exemption(value: Any, option: str) -> Exempt | None:
    """The predicate behind an ``exempt`` option.

    :raises ConfigError: for a form that does not exist.
    """
    if value is None:
        return None
    if callable(value):
        return cast("Exempt", value)
    if not isinstance(value, (str, list, tuple)):
        raise ConfigError(option, value, _EXEMPT)
    several = [value] if isinstance(value, str) else cast("Sequence[object]", value)
    routes = [_Route(each, option, _EXEMPT) for each in several]
    return lambda scope: any(route.fits(scope) for route in routes)


def _arguments(function: Callable[..., Any]) -> int:
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    return sum(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters)
