"""The options of RateLimit about counting: the units, and how much one request counts in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flexmw.kit.asgi import Scope
from flexmw.kit.options import documented, function, one_of, option, optional
from flexmw.kit.storage import RedisClient, shown_storage
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.amounts import Amount
from flexmw.ratelimit.cost import CostOption, Price, TokenCostOption
from flexmw.ratelimit.ledger import Ledger
from flexmw.ratelimit.options import COST, PREFIX, TOKEN_COST, UNIT, USAGE
from flexmw.ratelimit.usage_readers import UsageOption

__all__ = ["CountedOptions"]


@dataclass(frozen=True, kw_only=True)
class CountedOptions:
    """The first half of the options of :class:`flexmw.RateLimit`, which documents all of them."""

    rates: Sequence[Any] | str = option(
        (),
        documented("texts such as '10/minute' or '5 per 2 hour', or items of the library limits"),
        doc="Limits of each caller. All windows are checked together, and a request is taken from all of them or from "
        "none. Python code gives the rates as positional arguments, a configuration file as the list `rates`. At least "
        "one of `rates`, `limit`, `tokens`, `budget` and `concurrency` is required.",
    )
    limit: Callable[..., Any] | Mapping[str, Any] | None = option(
        None,
        documented("a function, a table of rates by path, or None"),
        doc="Rates that depend on the caller or on the path. The function, plain or async, takes the `Caller`, and the "
        "scope if it has a second parameter; it returns rates, or `None` for those of `rates`. An async function is "
        "called once in ten seconds for each caller. In a table, `rates` apply to all other paths; see "
        "[Paths](#paths) for the patterns. A caller whose "
        "rates change keeps the usage so far.",
    )
    key: str | Callable[[Scope], Any] = option(
        "bearer",
        documented(
            "'bearer', 'header:<name>', 'cookie:<name>', 'state:<name>', 'user', 'address' or a function of the scope"
        ),
        doc="What identifies a caller: the bearer token, another header, a cookie, an item of "
        '`scope["state"]`, the user that authentication has left in the scope, the client\'s address, or the result of '
        "the function, plain or async. A request without it counts for its client address (IPv6 by /64).",
    )
    strategy: str = option(
        "sliding-window-counter",
        one_of(tuple(ALGORITHMS)),
        doc="Algorithm that counts the requests of a window. The algorithms differ in accuracy and in memory per "
        "caller. Stores other than memory, redis and valkey need `fixed-window`, and so do windows of the calendar "
        "beside other windows.",
    )
    storage: str | RedisClient = option(
        "memory://",
        documented("a storage URL, or a client of redis-py"),
        doc="Store of the counters. `memory://` counts in this process alone. `redis://`, `rediss://`, "
        "`redis+unix://`, `redis+cluster://`, `redis+sentinel://` and their TLS and `valkey` forms count exactly for "
        "all processes, and so does a client of redis-py, whose settings are used for connections of flexmw's own. "
        "`memcached://`, `mongodb://` and storages registered with `limits` count too, without `tokens`, `concurrency` "
        "and corrected costs.",
        secret=True,
        shown=shown_storage,
    )
    prefix: str | None = option(
        None,
        optional(PREFIX),
        doc="What the names in the store have behind `LIMITS:`. Limiters with the same prefix, strategy and rate share "
        "their counters; limiters with different prefixes never do. `None` is the service's name of "
        "`OTEL_SERVICE_NAME`, and a number where two places in the source, or two tables of the configuration, make "
        "limiters that would share counters. Services without that name which share a store need different prefixes.",
    )
    unit: str | None = option(
        None,
        optional(UNIT),
        doc="What `rates`, `limit` and `budget` count instead of requests, such as `usd`. Amounts have at most six "
        "decimals and are counted in millionths. See [Tokens and money](tokens.md#money).",
    )
    cost: CostOption = option(
        None,
        COST,
        doc="What one request counts, or reserves of `unit`. `None` is 1 request, and nothing of another unit. A "
        "function of the scope, plain or async, returns an estimate; `usage` or `settle` corrects the estimate when "
        "the response is complete. A name, such as 'openai', is the `price` of what `token_cost` of that name "
        "estimates.",
    )
    price: Price | None = option(
        None,
        optional(function),
        doc="A function of the model's name and its `Usage` that returns what they cost in `unit`, as a `Decimal`, a "
        "float or a whole number. Needs `unit`.",
    )
    budget: Amount | Callable[..., Any] | Ledger | None = option(
        None,
        documented("a number, a function of the Caller, a Ledger, or None"),
        doc="All that a caller has ever been given of `unit`; what is used does not come back. A request of a caller "
        "who has used it up gets 402 `insufficient_quota`. The function, plain or async, is called for each request; "
        "`None` is no budget. A `Ledger` keeps the credit of all callers in the app's own database. Needs `unit`.",
    )
    tokens: str | tuple[Any, ...] | Callable[..., Any] | Mapping[str, Any] | None = option(
        None,
        documented("rates, a function, a table of rates by path, or None"),
        doc="Limits in a second unit, in the forms of `rates` and `limit`. All windows of both units are checked "
        "together, and a refusal takes nothing from either. Responses carry `x-ratelimit-*-tokens` headers too.",
    )
    token_cost: TokenCostOption = option(
        0,
        TOKEN_COST,
        doc="What one request reserves of `tokens`. A function of the scope, plain or async, returns an estimate; an "
        "estimate above the limit never passes (429 without `Retry-After`). A name, such as 'openai', estimates by the "
        "body of the request. "
        "`usage` or `settle` corrects the estimate when the response is complete. Has no effect on `rates`.",
        unit="tokens",
    )
    usage: UsageOption | None = option(
        None,
        optional(USAGE),
        doc="Reads what a request has really used from its response, a JSON body or the events of a stream, and "
        "corrects what it has reserved. Nothing is held back. A function takes each JSON object, and returns a "
        "`Usage`, a number of tokens, or `None`. See [Tokens and money](tokens.md). Needs `tokens` or `price`.",
    )
