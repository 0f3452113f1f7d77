"""Shared state of one ``RateLimit``: frameworks such as Litestar make a middleware object of it for each route."""

from __future__ import annotations

from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from flexmw.ratelimit.backend import Backend, LocalBackend, open_backend
from flexmw.ratelimit.callers import CallerIdentifier
from flexmw.ratelimit.charges import Charges
from flexmw.ratelimit.core import SECOND
from flexmw.ratelimit.new_keys import NewKeyGuard
from flexmw.ratelimit.plan import Plan
from flexmw.ratelimit.several_apps import Apps

__all__ = ["Shared", "share"]

_DEFAULT_WINDOW_US: Final = 60 * SECOND

_named_backends: Final[WeakValueDictionary[tuple[str, str, int], LocalBackend]] = WeakValueDictionary()
"""The counters in memory of limiters with a ``prefix`` of the application, by prefix, strategy and clock."""


class Shared(NamedTuple):
    """The parts that the middleware objects of one ``RateLimit`` share.

    :ivar backend: the store of the counters.
    :ivar identifier: identifies the caller of a request.
    :ivar charges: the charges of a ``Ledger`` that have not ended yet.
    :ivar apps: the middleware objects.
    """

    backend: Backend
    identifier: CallerIdentifier
    charges: Charges
    apps: Apps


def share(plan: Plan) -> Shared:
    """Open the store of a plan, and make the parts that the middleware objects share."""
    window_us = max((rate.window_us for rate in plan.rates.known), default=_DEFAULT_WINDOW_US)
    guard = NewKeyGuard(plan.new_keys_per_address, window_us)
    identifier = CallerIdentifier(plan.caller, plan.hasher, guard, plan.clock.monotonic)
    return Shared(_backend(plan), identifier, Charges(plan.store_timeout, plan.clock), Apps())


def _backend(plan: Plan) -> Backend:
    name = (plan.prefix, plan.algorithm.name, id(plan.clock))
    if plan.is_named and name in _named_backends and plan.url.scheme.family == "memory":
        return _named_backends[name]
    backend = open_backend(
        plan.url,
        plan.algorithm,
        plan.failure,
        timeout=plan.store_timeout,
        clock=plan.clock,
        cache_denials=plan.pricing.fixed_cost is not None,
    )
    if plan.is_named and isinstance(backend, LocalBackend):
        _named_backends[name] = backend
    return backend
