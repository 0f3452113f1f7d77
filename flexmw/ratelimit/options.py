"""The rules of RateLimit's options, and the checks that need the resolved options."""

from __future__ import annotations

import logging
import re
from typing import Any, Final

from flexmw.contract.numbers import scaled
from flexmw.contract.quota import HEADER_STYLES
from flexmw.errors import ConfigError
from flexmw.kit.forwarded import warn_if_everyone_is_trusted
from flexmw.kit.options import Rule, check_effects, one_of, several
from flexmw.kit.workers import warn_about_memory
from flexmw.ratelimit.amounts import is_amount, whole_amount
from flexmw.ratelimit.backend import check_backend
from flexmw.ratelimit.core import MESSAGES, REQUESTS, TOKENS
from flexmw.ratelimit.cost import CostOption, TokenCostOption
from flexmw.ratelimit.ledger import Ledger
from flexmw.ratelimit.naming import default_prefix
from flexmw.ratelimit.plan import Plan
from flexmw.ratelimit.rates import Rates
from flexmw.ratelimit.routes import CALENDAR_NEEDS
from flexmw.ratelimit.stores import check_store
from flexmw.ratelimit.usage import UsageReader

__all__ = [
    "COST",
    "FIXED",
    "HEADERS",
    "PREFIX",
    "TOKEN_COST",
    "UNIT",
    "USAGE",
    "check_plan",
    "check_together",
    "open_store",
    "option_name",
    "prefix_of",
    "strategy_of",
]

_OTHER_UNITS: Final = frozenset({REQUESTS, TOKENS, MESSAGES, "concurrent-requests"})
COST: Final = Rule(
    "a whole number, at least 1, or a function of the scope that returns one; of another unit a number, at least 0, a "
    "function, or the name of a reader, such as 'openai'; or None",
    lambda value: value is None or callable(value) or isinstance(value, str) or is_amount(value),
)
UNIT: Final = Rule(
    "a name of lower-case letters, digits and '-', such as 'usd', and none of the other units",
    lambda value: (
        isinstance(value, str)
        and re.fullmatch(r"[a-z][a-z0-9-]{0,31}", value) is not None
        and value not in _OTHER_UNITS
    ),
)
TOKEN_COST: Final = Rule(
    "a whole number, at least 0, a function of the scope that returns one, or the name of a reader, such as 'openai'",
    lambda value: (
        callable(value)
        or isinstance(value, str)
        or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)
    ),
)
USAGE: Final = Rule(
    "'openai', 'anthropic', 'google', 'cohere', 'bedrock', the name of an entry point of flexmw.usage, a UsageReader, "
    "or a function of a JSON object",
    lambda value: isinstance(value, (str, UsageReader)) or callable(value),
)
PREFIX: Final = Rule(
    "a text of letters, digits and '.', '_', ':', '/', '-'",
    lambda value: isinstance(value, str) and re.fullmatch(r"[\w.:/-]+", value) is not None,
)
LOGGER: Final = logging.getLogger("flexmw.ratelimit")
FIXED: Final = "fixed-window"
_DAY: Final = 86_400
DEFAULT: Final = "sliding-window-counter"
HEADERS: Final = several(one_of(tuple(HEADER_STYLES)))


def option_name(option: str) -> str:
    """The name of an option in error messages."""
    return f"RateLimit({option}=...)"


def check_together(options: Any) -> None:
    """Check that there is a limit, and that no option refers to a limit that is missing.

    :param options: a :class:`flexmw.RateLimit`.
    :raises ConfigError: for the first option that can have no effect beside the others.
    """
    unit = options.unit
    requests = bool(options.rates or options.limit)
    rates = bool(requests or options.tokens or options.messages or options.budget is not None)
    if not rates and options.concurrency is None:
        raise ConfigError("RateLimit(*rates)", (), "at least one rate, such as '10/minute', or limit=")
    needs = {
        "strategy": (rates, "a rate: slots of concurrency are counted without a strategy"),
        "unit": (requests or options.budget is not None, "rates in this unit, such as '20/day', or budget="),
        "cost": (requests or unit, "a rate of requests, such as '10/minute': without one it has no effect"),
        "price": (unit, "unit=, such as 'usd', in which it is"),
        "budget": (unit, "unit=, such as 'usd', in which it is counted"),
        "token_cost": (options.tokens, "tokens=, the rates that it is reserved in"),
        "usage": (options.tokens or options.price, "tokens=, the rates that it corrects, or price="),
        "message_refusal": (options.messages, "messages=, the rates that it is for"),
        "lease": (options.concurrency, "concurrency=, whose slots it is for"),
    }
    check_effects(options, needs)
    _check_money(options)


def _check_money(options: Any) -> None:
    """Check the options of a unit that is not whole."""
    cost, budget = options.cost, options.budget
    is_given = cost is not None and not callable(cost)
    if options.unit is None and is_given and (not isinstance(cost, int) or cost < 1):
        raise ConfigError(option_name("cost"), cost, "a whole number, at least 1, or a function of the scope")
    if isinstance(cost, str) and options.price is None:
        raise ConfigError(option_name("cost"), cost, "price=, by which the estimate is priced")
    if budget is not None and not callable(budget) and not is_amount(budget) and not isinstance(budget, Ledger):
        raise ConfigError(option_name("budget"), budget, "a number, at least 0, a function of the Caller, or a Ledger")
    if options.unit is not None and options.strategy == "moving-window":
        expected = "another strategy: moving-window keeps one entry for each millionth"
        raise ConfigError(option_name("strategy"), options.strategy, expected)
    names = {value for value in (cost, options.token_cost) if isinstance(value, str)}
    if len(names) > 1:
        raise ConfigError(option_name("cost"), cost, f"the same reader as token_cost, {options.token_cost!r}")


def strategy_of(options: Any, known: Rates, *, has_functions: bool) -> str:
    """The strategy that a limiter counts with: where every window is one of the calendar, or a budget, that of fixed
    windows.

    :param known: the rates that are known before the first request.
    :param has_functions: further rates come from functions of the application.
    :raises ConfigError: the strategy cannot count all windows.
    """
    strategy: str = options.strategy
    periods = [rate for rate in known if rate.period]
    has_periods = periods or options.budget is not None
    if not has_periods or strategy == FIXED:
        return strategy
    if len(periods) < len(known) or has_functions or options.messages is not None or strategy != DEFAULT:
        raise ConfigError(option_name("strategy"), strategy, f"'{FIXED}': {CALENDAR_NEEDS}")
    return FIXED


def check_plan(plan: Plan, strategy: str, *, cost: CostOption, tokens: bool, token_cost: TokenCostOption) -> None:
    """Check that the store can do what the options need, and that a request can pass.

    :param plan: the resolved options.
    :param strategy: the option ``strategy``.
    :param cost: the option ``cost``, in requests.
    :param tokens: the option ``tokens`` was given.
    :param token_cost: the option ``token_cost``, in tokens.
    :raises ConfigError: for the first option that cannot work together with the others.
    """
    needs = {
        "cost": callable(cost) or plan.pricing.unit != REQUESTS,
        "tokens": tokens,
        "concurrency": plan.concurrency is not None,
        "pepper": plan.hasher.rotates,
    }
    needed = [name for name, is_needed in needs.items() if is_needed]
    check_store(plan.url, strategy, (*plan.rates.known, *plan.messages), needed)
    for name, unit, value in (("cost", plan.pricing.unit, cost), ("token_cost", TOKENS, token_cost)):
        limits = [(rate.limit, rate.scale) for rate in plan.rates.known if rate.unit == unit]
        if is_amount(value) and any(whole_amount(value, scale) > limit for limit, scale in limits):
            expected = f"at most the smallest limit, {scaled(*min(limits))}: no request could pass"
            raise ConfigError(option_name(name), value, expected)


def prefix_of(plan: Plan, strategy: str) -> str:
    """The value that the option ``prefix`` has by default; empty for memory, which no other limiter reads.

    :param plan: the resolved options, without a prefix.
    :param strategy: the option ``strategy``.
    """
    if plan.url.scheme.family == "memory":
        return ""
    names = [rate.key_suffix for rate in (*plan.rates.known, *plan.messages)]
    if plan.rates.is_dynamic:
        names.append("*")
    if plan.concurrency is not None:
        names.append(f"slots/{plan.concurrency}")
    url = plan.url  # two spellings of one server, or a client of it, are one store
    store = f"{url.nodes or url.shown} {url.path.strip('/') or '0'} {url.service}"
    return default_prefix(store, strategy, names)


def open_store(plan: Plan, *, required: bool) -> None:
    """Check that the store works; warn where several processes would count in memory, each for itself.

    :param required: a store that does not respond is an error.
    :raises ConfigError: the store does not respond, and it is required.
    """
    slots = plan.concurrency is not None
    lasting = any(rate.seconds >= _DAY or rate.period for rate in plan.rates.known)
    name = option_name("storage")
    check_backend(plan.url, plan.algorithm, name, prefix=plan.prefix, slots=slots, lasting=lasting, required=required)
    if plan.url.scheme.family == "memory":
        effect = "each caller has up to {count} times the limit"
        warn_about_memory("RateLimit", effect, LOGGER)
    warn_if_everyone_is_trusted("RateLimit", plan.hasher.proxies, LOGGER)
