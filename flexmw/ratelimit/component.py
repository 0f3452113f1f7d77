"""The component RateLimit: its options, its middleware and its OpenAPI documentation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from flexmw.contract import HeaderStyle
from flexmw.errors import ConfigError
from flexmw.kit.asgi import ASGIApp, Scope
from flexmw.kit.checking import is_checking
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import API, Order
from flexmw.kit.documentation import Documentation, Operation
from flexmw.kit.factory import ServerMiddleware, middleware_factory
from flexmw.kit.forwarded import PROXIES
from flexmw.kit.identity import Pepper
from flexmw.kit.options import (
    check,
    documented,
    flag,
    function,
    option,
    optional,
    positional,
    seconds,
    whole,
)
from flexmw.kit.storage import RedisClient
from flexmw.kit.store_observer import expect_reports
from flexmw.ratelimit.amounts import Amount
from flexmw.ratelimit.asgi import is_around
from flexmw.ratelimit.cost import CostOption, Price, TokenCostOption
from flexmw.ratelimit.counted_options import CountedOptions
from flexmw.ratelimit.documentation import document
from flexmw.ratelimit.ledger import Ledger
from flexmw.ratelimit.local import middleware
from flexmw.ratelimit.messages import MessageLimit
from flexmw.ratelimit.options import (
    HEADERS,
    check_plan,
    check_together,
    open_store,
    prefix_of,
)
from flexmw.ratelimit.plan import MessageRefusal, Plan
from flexmw.ratelimit.planning import plan_of
from flexmw.ratelimit.shared import Shared, share
from flexmw.ratelimit.usage_readers import UsageOption

__all__ = ["RateLimit"]


@positional("rates")
@dataclass(frozen=True, kw_only=True)
class RateLimit(ServerMiddleware, CountedOptions):
    """Limit the requests, tokens and concurrent requests of each caller, and report the limits on every response.

    ``RateLimit("10/minute", "1000/day")`` checks both windows together and takes from both or from neither: a request
    that is refused consumes nothing. A refusal is a 429 with ``Retry-After``, ``retry-after-ms`` and the
    ``x-ratelimit-*-requests`` headers; a client that obeys any of them is not refused again. A response that passed
    carries the ``x-ratelimit-*`` headers, whatever its status.

    :param rates: Limits of each caller. All windows are checked together, and a request is taken from all of them or
        from none. Python code gives the rates as positional arguments, a configuration file as the list ``rates``. At
        least one of ``rates``, ``limit``, ``tokens``, ``budget`` and ``concurrency`` is required. Value: texts such as
        '10/minute' or '5 per 2 hour', or items of the library limits. Default: ``()``.
    :param limit: Rates that depend on the caller or on the path. The function, plain or async, takes the ``Caller``,
        and the scope if it has a second parameter; it returns rates, or ``None`` for those of ``rates``. An async
        function is called once in ten seconds for each caller. In a table, ``rates`` apply to all other paths; see
        [Paths](#paths) for the patterns. A caller whose rates change keeps the usage so far. Value: a function, a table
        of rates by path, or None. Default: ``None``.
    :param key: What identifies a caller: the bearer token, another header, a cookie, an item of ``scope["state"]``, the
        user that authentication has left in the scope, the client's address, or the result of the function, plain or
        async. A request without it counts for its client address (IPv6 by /64). Value: 'bearer', 'header:<name>',
        'cookie:<name>', 'state:<name>', 'user', 'address' or a function of the scope. Default: ``"bearer"``.
    :param strategy: Algorithm that counts the requests of a window. The algorithms differ in accuracy and in memory per
        caller. Stores other than memory, redis and valkey need ``fixed-window``, and so do windows of the calendar
        beside other windows. Value: one of 'sliding-window-counter', 'fixed-window', 'moving-window', 'gcra'. Default:
        ``"sliding-window-counter"``.
    :param storage: Store of the counters. ``memory://`` counts in this process alone. ``redis://``, ``rediss://``,
        ``redis+unix://``, ``redis+cluster://``, ``redis+sentinel://`` and their TLS and ``valkey`` forms count exactly
        for all processes, and so does a client of redis-py, whose settings are used for connections of flexmw's own.
        ``memcached://``, ``mongodb://`` and storages registered with ``limits`` count too, without ``tokens``,
        ``concurrency`` and corrected costs. Value: a storage URL, or a client of redis-py. Default: ``"memory://"``.
    :param prefix: What the names in the store have behind ``LIMITS:``. Limiters with the same prefix, strategy and rate
        share their counters; limiters with different prefixes never do. ``None`` is the service's name of
        ``OTEL_SERVICE_NAME``, and a number where two places in the source, or two tables of the configuration, make
        limiters that would share counters. Services without that name which share a store need different prefixes.
        Value: a text of letters, digits and '.', '_', ':', '/', '-', or None. Default: ``None``.
    :param unit: What ``rates``, ``limit`` and ``budget`` count instead of requests, such as ``usd``. Amounts have at
        most six decimals and are counted in millionths. See [Tokens and money](tokens.md#money). Value: a name of
        lower-case letters, digits and '-', such as 'usd', and none of the other units, or None. Default: ``None``.
    :param cost: What one request counts, or reserves of ``unit``. ``None`` is 1 request, and nothing of another unit. A
        function of the scope, plain or async, returns an estimate; ``usage`` or ``settle`` corrects the estimate when
        the response is complete. A name, such as 'openai', is the ``price`` of what ``token_cost`` of that name
        estimates. Value: a whole number, at least 1, or a function of the scope that returns one; of another unit a
        number, at least 0, a function, or the name of a reader, such as 'openai'; or None. Default: ``None``.
    :param price: A function of the model's name and its ``Usage`` that returns what they cost in ``unit``, as a
        ``Decimal``, a float or a whole number. Needs ``unit``. Value: a function, or None. Default: ``None``.
    :param budget: All that a caller has ever been given of ``unit``; what is used does not come back. A request of a
        caller who has used it up gets 402 ``insufficient_quota``. The function, plain or async, is called for each
        request; ``None`` is no budget. A ``Ledger`` keeps the credit of all callers in the app's own database. Needs
        ``unit``. Value: a number, a function of the Caller, a Ledger, or None. Default: ``None``.
    :param tokens: Limits in a second unit, in the forms of ``rates`` and ``limit``. All windows of both units are
        checked together, and a refusal takes nothing from either. Responses carry ``x-ratelimit-*-tokens`` headers too.
        Value: rates, a function, a table of rates by path, or None. Default: ``None``.
    :param token_cost: What one request reserves of ``tokens``. A function of the scope, plain or async, returns an
        estimate; an estimate above the limit never passes (429 without ``Retry-After``). A name, such as 'openai',
        estimates by the body of the request. ``usage`` or ``settle`` corrects the estimate when the response is
        complete. Has no effect on ``rates``. Value: a whole number, at least 0, a function of the scope that returns
        one, or the name of a reader, such as 'openai' (tokens). Default: ``0``.
    :param usage: Reads what a request has really used from its response, a JSON body or the events of a stream, and
        corrects what it has reserved. Nothing is held back. A function takes each JSON object, and returns a ``Usage``,
        a number of tokens, or ``None``. See [Tokens and money](tokens.md). Needs ``tokens`` or ``price``. Value:
        'openai', 'anthropic', 'google', 'cohere', 'bedrock', the name of an entry point of flexmw.usage, a UsageReader,
        or a function of a JSON object, or None. Default: ``None``.
    :param messages: Limits of the messages that a caller sends over websockets, apart from the limits of requests. A
        message over the limit does not reach the app: the connection is closed with 1008, or ``message_refusal``
        answers. Value: rates, or None. Default: ``None``.
    :param message_refusal: A function, plain or async, of the scope and the error. It returns a text or bytes that the
        client gets for a message over the limit, or ``None`` for nothing; the connection stays open. Value: a function,
        or None. Default: ``None``.
    :param concurrency: How many requests of one caller may be in progress at once. A websocket counts as one request
        while it is open. Value: a whole number, at least 1, or None (requests). Default: ``None``.
    :param lease: How long a process that died keeps its slots. A request that takes longer renews its own slot. Needs
        ``concurrency``. Memory needs no lease. Value: a number of seconds, at least 1. Default: ``60.0``.
    :param headers: Formats of the limit headers: ``unix`` writes resets as Unix seconds, ``openai`` as durations,
        ``ietf`` writes ``RateLimit`` and ``RateLimit-Policy``; ``seed`` is another name of ``unix``. An empty list
        writes none of them. Value: a list, each one of 'unix', 'openai', 'ietf', 'seed'. Default: ``("unix",)``.
    :param trusted_proxies: The proxies whose ``X-Forwarded-For`` or ``Forwarded`` is believed: networks (CIDR), where
        ``"unix"`` stands for the peer of a Unix socket, or the number of proxies in front of the app. The clients of a
        proxy that is not listed are one address. Value: a list of networks (CIDR), or the number of proxies in front.
        Default: ``()``.
    :param store_timeout: Longest wait of one decision for the store. After that, ``on_store_failure`` decides. The end
        of a response waits as long for the ``charge`` of a ``Ledger``. Value: a number of seconds above 0. Default:
        ``0.1``.
    :param on_store_failure: What decides while the store does not respond. ``local``: this process counts alone;
        ``local/4``: it counts alone, with a quarter of each limit; ``open``: every request passes; ``closed``: every
        request gets a 503. ``None`` is ``local``, and the store must work when the app is wrapped. A store that refuses
        the credentials or a command is an error in any case. Value: 'local', 'local/<number of processes>', 'open',
        'closed' or None. Default: ``None``.
    :param pepper: Secret key of the hash under which the store knows a caller. ``None`` takes ``FLEXMW_PEPPER`` from
        the environment, else a fixed label. Of several peppers the first one counts, and what a caller used under
        another one moves to the first. Value: a text, bytes, a list of them, or None. Default: ``None``.
    :param new_keys_per_address: How many keys of one client address may be unproven in a window (of an hour at most):
        the app has refused them (401, 403) or has not accepted them yet by a 2xx response. Requests with further new
        keys are charged to the address. Keys that were accepted before that window are not affected. Value: a whole
        number, at least 1 (keys). Default: ``100``.
    :param exempt: Requests that are not limited: ``"/health"``, ``"/users/{id}"``, ``"/static/*"``, ``"GET /metrics"``,
        or those for which the function, plain or async, returns true. Value: a path, a list of paths, a function of the
        scope, or None. Default: ``None``.
    :param shadow: Decide, count and report, but refuse nothing: for trying a limit on real traffic. Default: ``False``.
    :raises ConfigError: an option that cannot work, alone or together with another one.
    """

    name: ClassVar[str] = "ratelimit"
    api: ClassVar[int] = API
    order: ClassVar[Order] = Order(after=("tagging", "envelope"), before=("idempotency",))

    messages: str | tuple[Any, ...] | None = option(
        None,
        documented("rates, or None"),
        doc="Limits of the messages that a caller sends over websockets, apart from the limits of requests. A message "
        "over the limit does not reach the app: the connection is closed with 1008, or `message_refusal` answers.",
    )
    message_refusal: MessageRefusal | None = option(
        None,
        optional(function),
        doc="A function, plain or async, of the scope and the error. It returns a text or bytes that the client gets "
        "for a message over the limit, or `None` for nothing; the connection stays open.",
    )
    concurrency: int | None = option(
        None,
        optional(whole(least=1)),
        doc="How many requests of one caller may be in progress at once. A websocket counts as one request while it is "
        "open.",
        unit="requests",
    )
    lease: float = option(
        60.0,
        seconds(least=1.0),
        doc="How long a process that died keeps its slots. A request that takes longer renews its own slot. Needs "
        "`concurrency`. Memory needs no lease.",
        unit="seconds",
    )
    headers: tuple[HeaderStyle, ...] = option(
        ("unix",),
        HEADERS,
        doc="Formats of the limit headers: `unix` writes resets as Unix seconds, `openai` as durations, `ietf` writes "
        "`RateLimit` and `RateLimit-Policy`; `seed` is another name of `unix`. An empty list writes none of them.",
    )
    trusted_proxies: tuple[str, ...] | int = option(
        (),
        PROXIES,
        doc='The proxies whose `X-Forwarded-For` or `Forwarded` is believed: networks (CIDR), where `"unix"` stands '
        "for the peer of a Unix socket, or the number of proxies in front of the app. The clients of a proxy that is "
        "not listed are one address.",
    )
    store_timeout: float = option(
        0.1,
        seconds(above=0.0),
        doc="Longest wait of one decision for the store. After that, `on_store_failure` decides. The end of a response "
        "waits as long for the `charge` of a `Ledger`.",
        unit="seconds",
    )
    on_store_failure: str | None = option(
        None,
        documented("'local', 'local/<number of processes>', 'open', 'closed' or None"),
        doc="What decides while the store does not respond. `local`: this process counts alone; `local/4`: it counts "
        "alone, with a quarter of each limit; `open`: every request passes; `closed`: every request gets a 503. `None` "
        "is `local`, and the store must work when the app is wrapped. A store that refuses the credentials or a "
        "command is an error in any case.",
    )
    pepper: Pepper | tuple[Pepper | None, ...] | None = option(
        None,
        documented("a text, bytes, a list of them, or None"),
        doc="Secret key of the hash under which the store knows a caller. `None` takes `FLEXMW_PEPPER` from the "
        "environment, else a fixed label. Of several peppers the first one counts, and what a caller used under "
        "another one moves to the first.",
        secret=True,
    )
    new_keys_per_address: int = option(
        100,
        whole(least=1),
        doc="How many keys of one client address may be unproven in a window (of an hour at most): the app has refused "
        "them (401, 403) or has not accepted them yet by a 2xx response. Requests with further new keys are charged to "
        "the address. Keys that were accepted before that window are not affected.",
        unit="keys",
    )
    exempt: str | Sequence[str] | Callable[[Scope], bool | Awaitable[bool]] | None = option(
        None,
        documented("a path, a list of paths, a function of the scope, or None"),
        doc='Requests that are not limited: `"/health"`, `"/users/{id}"`, `"/static/*"`, `"GET /metrics"`, or those '
        "for which the function, plain or async, returns true.",
    )
    shadow: bool = option(
        False,
        flag,
        doc="Decide, count and report, but refuse nothing: for trying a limit on real traffic.",
    )
    clock: Clock = option(SYSTEM, hidden=True)
    _prefix: str = field(default="", init=False, repr=False, compare=False)
    _shared: list[Shared] = field(default_factory=list, init=False, repr=False, compare=False)
    """The shared state of all apps that this object wraps; made with the first app."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *rates_: Any,
            rates: Sequence[Any] | str = (),
            limit: Callable[..., Any] | Mapping[str, Any] | None = None,
            key: str | Callable[[Scope], Any] = "bearer",
            strategy: str = "sliding-window-counter",
            storage: str | RedisClient = "memory://",
            prefix: str | None = None,
            unit: str | None = None,
            cost: CostOption = None,
            price: Price | None = None,
            budget: Amount | Callable[..., Any] | Ledger | None = None,
            tokens: str | Sequence[Any] | Callable[..., Any] | Mapping[str, Any] | None = None,
            token_cost: TokenCostOption = 0,
            usage: UsageOption | None = None,
            messages: str | Sequence[Any] | None = None,
            message_refusal: MessageRefusal | None = None,
            concurrency: int | None = None,
            lease: float = 60.0,
            headers: Sequence[HeaderStyle] = ("unix",),
            trusted_proxies: Sequence[str] | int = (),
            store_timeout: float = 0.1,
            on_store_failure: str | None = None,
            pepper: Pepper | Sequence[Pepper | None] | None = None,
            new_keys_per_address: int = 100,
            exempt: str | Sequence[str] | Callable[[Scope], bool | Awaitable[bool]] | None = None,
            shadow: bool = False,
            clock: Clock = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        for name in ("rates", "tokens", "messages", "headers", "trusted_proxies", "pepper"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        check(self)
        check_together(self)
        plan = self._plan()
        check_plan(
            plan, plan.algorithm.name, cost=self.cost, tokens=self.tokens is not None, token_cost=self.token_cost
        )
        prefix = self.prefix
        if prefix is None:
            prefix = "" if is_checking() else prefix_of(plan, plan.algorithm.name)
        object.__setattr__(self, "_prefix", prefix)
        if self.storage != "memory://":
            expect_reports()

    def _plan(self, app: ASGIApp | None = None) -> Plan:
        return plan_of(self, app, prefix=self._prefix)

    @middleware_factory
    def asgi(self, app: ASGIApp) -> ASGIApp:
        """Wrap an app. All apps that one object wraps share its counters.

        :raises ConfigError: this object wraps the app already, or the store does not accept connections and
            ``on_store_failure`` is not set.
        """
        plan, shared = self.opened(app)
        if is_around(app, shared):
            expected = "an app that this limiter is not around yet: every request would count twice"
            raise ConfigError("RateLimit.asgi(app)", app, expected)
        return middleware(plan, shared, MessageLimit(plan, shared, app) if plan.messages else app)

    def documents(self, operation: Operation) -> Documentation:
        """Describe how this component changes the responses of an operation, for :func:`flexmw.openapi`."""
        return document(self._plan(), operation, exempt=self.exempt, has_budget=self.budget is not None)

    def opened(self, app: ASGIApp | None = None) -> tuple[Plan, Shared]:
        """Return the resolved options, and the state that all users of this object share.

        :param app: the wrapped app, if there is one.
        :raises ConfigError: the store does not accept connections and ``on_store_failure`` is not set.
        """
        plan = self._plan(app)
        if not self._shared:
            open_store(plan, required=self.on_store_failure is None)
            self._shared.append(share(plan))
        return plan, self._shared[0]
