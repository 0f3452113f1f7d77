"""What a RateLimit adds to an OpenAPI document: the refusal, and the headers of its styles."""

from __future__ import annotations

from typing import Any, Final

from flexmw.contract import Quota, render
from flexmw.errors import APIError, InsufficientCredit, RateLimitExceeded, SubsystemOffline
from flexmw.kit.documentation import Documentation, Operation, matches
from flexmw.ratelimit.core import REQUESTS
from flexmw.ratelimit.plan import Plan

__all__ = ["document"]

_EXAMPLE_SECONDS: Final = 12.0


def document(plan: Plan, operation: Operation, *, exempt: Any, has_budget: bool) -> Documentation:
    """What a limiter does to the responses of an operation.

    :param exempt: the option ``exempt``.
    :param has_budget: the option ``budget`` is given.
    """
    rates = plan.rates.known if plan.rates.is_dynamic else plan.rates.by_path(operation.scope())
    is_limited = bool(rates) or plan.rates.is_dynamic or plan.concurrency is not None
    if not is_limited or matches(exempt, plan.exempt, operation):
        return Documentation()
    units = list(dict.fromkeys(rate.unit for rate in rates)) or [REQUESTS]
    quotas = [Quota(limit=1, remaining=0, reset_at=1.0, window=1, policy="", unit=unit) for unit in units]
    headers = tuple(name for name, _ in render(*quotas, now=0.0, styles=plan.styles))
    errors: list[APIError] = []
    if not plan.shadow:
        errors.append(RateLimitExceeded(_EXAMPLE_SECONDS))
        if has_budget:
            errors.append(InsufficientCredit())
        if plan.failure.mode == "closed":
            errors.append(SubsystemOffline("The rate limiter", _EXAMPLE_SECONDS))
    return Documentation(errors=tuple(errors), headers=headers)
