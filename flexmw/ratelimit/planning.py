"""Resolve the options of RateLimit into a plan: read rates, look functions and names up, parse the URL."""

from __future__ import annotations

from typing import Any

from flexmw.kit.asgi import ASGIApp
from flexmw.kit.identity import CallerHasher
from flexmw.kit.paths import request_predicate, routing_of
from flexmw.kit.storage import parse_storage
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.ratelimit.callers import caller_function
from flexmw.ratelimit.core import MESSAGES, REQUESTS
from flexmw.ratelimit.cost import Pricing
from flexmw.ratelimit.fallback import parse_store_failure
from flexmw.ratelimit.options import FIXED, option_name, strategy_of
from flexmw.ratelimit.plan import Plan
from flexmw.ratelimit.rates import parse_rates
from flexmw.ratelimit.routes import RequestRates
from flexmw.ratelimit.stores import schemes
from flexmw.ratelimit.usage_readers import load_reader

__all__ = ["plan_of"]


def plan_of(options: Any, app: ASGIApp | None, *, prefix: str) -> Plan:
    """Resolve the options of a limiter. Each plan has its own caches.

    :param options: a :class:`flexmw.RateLimit`.
    :param app: the wrapped app, whose router decides how paths are compared.
    :param prefix: the prefix of the limiter in the store: its option, or the one that the limiter has chosen.
    :raises ConfigError: an option cannot be understood.
    """
    unit = REQUESTS if options.unit is None else options.unit
    has_functions = callable(options.limit) or callable(options.tokens)
    rates = RequestRates(
        options.rates,
        options.limit,
        options.tokens,
        unit=unit,
        budget=options.budget,
        is_fixed=options.strategy == FIXED or not has_functions,
        routing=routing_of(app),
        prefix=prefix,
        clock=options.clock,
    )
    strategy = strategy_of(options, rates.known, has_functions=has_functions)
    hasher = CallerHasher(pepper=options.pepper, trusted_proxies=options.trusted_proxies, option="RateLimit: ")
    failure = "local" if options.on_store_failure is None else options.on_store_failure
    return Plan(
        algorithm=ALGORITHMS[strategy],
        caller=caller_function(options.key, hasher, option_name("key")),
        hasher=hasher,
        key_is_bearer=options.key == "bearer",
        rates=rates,
        pricing=_pricing_of(options, unit),
        concurrency=options.concurrency,
        lease=options.lease,
        exempt=request_predicate(options.exempt, option_name("exempt"), exempts=True, app=app),
        failure=parse_store_failure(failure, option_name("on_store_failure")),
        url=parse_storage(options.storage, option_name("storage"), schemes=schemes()),
        messages=()
        if options.messages is None
        else parse_rates(options.messages, option_name("messages"), unit=MESSAGES, prefix=prefix),
        message_refusal=options.message_refusal,
        prefix=prefix,
        is_named=options.prefix is not None,
        store_timeout=options.store_timeout,
        new_keys_per_address=options.new_keys_per_address,
        styles=options.headers,
        shadow=options.shadow,
        clock=options.clock,
    )


def _pricing_of(options: Any, unit: str) -> Pricing:
    """What a request costs, and the readers that estimate it."""
    return Pricing(
        options.cost,
        options.token_cost if options.tokens is not None else None,
        unit=unit,
        price=options.price,
        reader=None if options.usage is None else load_reader(options.usage, option_name("usage")),
        estimators={
            value: load_reader(value, option_name(name))
            for name, value in (("cost", options.cost), ("token_cost", options.token_cost))
            if isinstance(value, str)
        },
    )
