"""The options of RateLimit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from flexmw.contract import HeaderStyle
from flexmw.contract.quota import HEADER_STYLES
from flexmw.errors import ConfigError
from flexmw.kit.asgi import ASGIApp, Scope
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import API, Order
from flexmw.kit.identity import CallerHasher, Pepper
from flexmw.kit.options import Rule, check, flag, one_of, option, optional, seconds, several, text, whole
from flexmw.kit.store_url import parse
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.asgi import Limited
from flexmw.ratelimit.callers import keyed
from flexmw.ratelimit.core import REQUESTS, TOKENS
from flexmw.ratelimit.dimensions import Dimensions
from flexmw.ratelimit.fallback import policy_of
from flexmw.ratelimit.routes import exemption
from flexmw.ratelimit.stores.open import check_store, schemes

__all__ = ["RateLimit"]

_COST: Final = Rule(
    "a whole number, at least 1, or a function of the scope that returns one",
    lambda value: callable(value) or (isinstance(value, int) and not isinstance(value, bool) and value >= 1),
)
_TOKEN_COST: Final = Rule(
    "a whole number, at least 0, or a function of the scope that returns one",
    lambda value: callable(value) or (isinstance(value, int) and not isinstance(value, bool) and value >= 0),
)
_DIALECTS: Final = several(one_of(tuple(HEADER_STYLES)))


@dataclass(frozen=True, init=False)
class RateLimit:
    """Limit what each caller may ask for, and say so on every response.

    ``RateLimit("10/minute", "1000/day")``: several windows are checked together and taken together, and a request that
    is refused consumes nothing. Refusals are 429 with ``Retry-After``, ``retry-after-ms`` and the
    ``x-ratelimit-*-requests`` headers; whoever obeys any of them is not refused again. Headers are on every response
    that passed, whatever becomes of it later.

    :param rates: texts in ``limits``' notation; ``rates=[...]`` by keyword in configuration files.
    :param limit: rates that depend: a function of the :class:`Caller` (and of the scope, if it takes two arguments),
        plain or async, that returns rates or ``None`` for the positional ones; or a table of rates by path. An async
        function is asked once in ten seconds for each caller. A caller whose rates change keeps their usage.
    :param key: ``"bearer"``, ``"header:<name>"``, ``"state:<name>"``, ``"user"``, ``"address"`` or a function of the
        scope. Callers without it are told apart by address.
    :param strategy: ``sliding-window-counter``, ``fixed-window``, ``moving-window`` or ``gcra``.
    :param storage: ``memory://``, ``redis://``, ``rediss://``, ``valkey://``, ``redis+cluster://``, ``memcached://``...
    :param cost: what a request counts; a function of the scope gives an estimate that :func:`settle` corrects.
    :param tokens: rates in another unit, decided together with the others: a text, a list, a function of the caller or
        a table by path, as for ``rates`` and ``limit``. Responses carry ``x-ratelimit-*-tokens`` too.
    :param token_cost: the tokens that a request reserves, or a function of the scope that estimates them, plain or
        async; :func:`settle` corrects them.
    :param concurrency: requests that a caller may have going on at once; a websocket is one while it is open.
    :param lease: seconds after which the slots of a process that died are free. A request that takes longer renews its
        own.
    :param headers: dialects: ``seed`` (reset in Unix seconds), ``openai`` (durations), ``ietf``.
    :param trusted_proxies: networks (CIDR) whose ``X-Forwarded-For`` is believed; ``"unix"`` for a socket's peer.
    :param store_timeout: seconds that a decision may wait for the store.
    :param on_store_failure: ``local`` (this process decides alone; ``local/4``: by a quarter of each limit), ``open``
        or ``closed`` (503). ``None`` means ``local``, and that the store has to be there when the app is wrapped.
    :param pepper: the key of the callers' hash; else ``FLEXMW_PEPPER``. Of several the first one counts, and what a
        caller used under another one moves to it.
    :param new_keys_per_address: unseen keys that one address may bring in a window (an hour at most); further unseen
        ones are charged to the address. Behind a proxy that is not in ``trusted_proxies`` all clients are one address.
    :param exempt: paths (``"/health"``, ``"/static/*"``, ``"OPTIONS *"``) or a function of the scope.
    :param shadow: decide and tell, but refuse nothing.
    :raises ConfigError: for any option that cannot work.
    """

    name: ClassVar[str] = "ratelimit"
    api: ClassVar[int] = API
    order: ClassVar[Order] = Order(after=("tagging", "envelope"), before=("idempotency",))

    rates: tuple[str, ...] = option()
    limit: Callable[..., Any] | Mapping[str, Any] | None = option()
    key: str | Callable[[Scope], Any] = option()
    strategy: str = option(rule=one_of(tuple(ALGORITHMS)))
    storage: str = option(secret=True)
    cost: int | Callable[[Scope], int | Awaitable[int]] = option(rule=_COST)
    tokens: str | tuple[Any, ...] | Callable[..., Any] | Mapping[str, Any] | None = option()
    token_cost: int | Callable[[Scope], int | Awaitable[int]] = option(rule=_TOKEN_COST)
    concurrency: int | None = option(rule=optional(whole(least=1)))
    lease: float = option(rule=seconds(least=1.0))
    headers: tuple[HeaderStyle, ...] = option(rule=_DIALECTS)
    trusted_proxies: tuple[str, ...] = option(rule=several(text))
    store_timeout: float = option(rule=seconds(above=0.0))
    on_store_failure: str | None = option()
    pepper: Pepper | tuple[Pepper | None, ...] | None = option(secret=True)
    new_keys_per_address: int = option(rule=whole(least=1))
    exempt: str | Sequence[str] | Callable[[Scope], bool | Awaitable[bool]] | None = option()
    shadow: bool = option(rule=flag)
    clock: Clock = option(hidden=True)

    def __init__(
        self,
        *rates_: Any,
        rates: Sequence[Any] | str = (),
        limit: Callable[..., Any] | Mapping[str, Any] | None = None,
        key: str | Callable[[Scope], Any] = "bearer",
        strategy: str = "sliding-window-counter",
        storage: str = "memory://",
        cost: int | Callable[[Scope], int | Awaitable[int]] = 1,
        tokens: Any = None,
        token_cost: int | Callable[[Scope], int | Awaitable[int]] = 0,
        concurrency: int | None = None,
        lease: float = 60.0,
        headers: Sequence[HeaderStyle] = ("seed",),
        trusted_proxies: Sequence[str] = (),
        store_timeout: float = 0.1,
        on_store_failure: str | None = None,
        pepper: Pepper | Sequence[Pepper | None] | None = None,
        new_keys_per_address: int = 100,
        exempt: str | Sequence[str] | Callable[[Scope], bool | Awaitable[bool]] | None = None,
        shadow: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        given = rates if isinstance(rates, (list, tuple)) else (rates,)
        values = {
            "rates": (*rates_, *given),
            "limit": limit,
            "key": key,
            "strategy": strategy,
            "storage": storage,
            "cost": cost,
            "tokens": _frozen(tokens),
            "token_cost": token_cost,
            "concurrency": concurrency,
            "lease": lease,
            "headers": _frozen(headers),
            "trusted_proxies": _frozen(trusted_proxies),
            "store_timeout": store_timeout,
            "on_store_failure": on_store_failure,
            "pepper": _frozen(pepper),
            "new_keys_per_address": new_keys_per_address,
            "exempt": exempt,
            "shadow": shadow,
            "clock": clock,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        check(self)
        self._check()

    def _check(self) -> None:
        """What a rule for one field cannot say."""
        option = "RateLimit({}=...)".format
        if not self.rates and not self.limit and not self.tokens and self.concurrency is None:
            raise ConfigError("RateLimit(*rates)", (), "at least one rate, such as '10/minute', or limit=")
        if self.tokens is None and self.token_cost != 0:
            raise ConfigError(option("token_cost"), self.token_cost, "tokens=, the rates that it is reserved in")
        dimensions = Dimensions(self)
        callers = CallerHasher(pepper=self.pepper, trusted_proxies=self.trusted_proxies, option="RateLimit: ")
        keyed(self.key, callers, option("key"))
        exemption(self.exempt, option("exempt"))
        if self.on_store_failure is not None:
            policy_of(self.on_store_failure, option("on_store_failure"))
        url = parse(self.storage, option("storage"), schemes=schemes())
        needs = {
            "cost": callable(self.cost),
            "tokens": self.tokens is not None,
            "concurrency": self.concurrency is not None,
            "pepper": callers.rotates,
        }
        check_store(url, self.strategy, dimensions.known, [name for name, needed in needs.items() if needed])
        for name, unit in (("cost", REQUESTS), ("token_cost", TOKENS)):
            cost, limits = getattr(self, name), [rate.limit for rate in dimensions.known if rate.unit == unit]
            if isinstance(cost, int) and any(cost > limit for limit in limits):
                expected = f"at most the smallest limit, {min(limits)}: no request could pass"
                raise ConfigError(option(name), cost, expected)

    def asgi(self, app: ASGIApp) -> ASGIApp:
        """The app with this component around it.

        :raises ConfigError: when the store is not there and ``on_store_failure`` was not given.
        """
        return Limited(self, app)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
