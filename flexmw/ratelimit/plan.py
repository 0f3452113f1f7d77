"""The options of RateLimit, resolved: what the middleware is built from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from flexmw.contract import HeaderStyle
from flexmw.errors import APIError
from flexmw.kit.asgi import Scope
from flexmw.kit.clock import Clock
from flexmw.kit.identity import CallerHasher
from flexmw.kit.paths import RequestPredicate
from flexmw.kit.store_url import StorageURL
from flexmw.ratelimit.algorithms import Algorithm
from flexmw.ratelimit.callers import CallerFunction
from flexmw.ratelimit.cost import Pricing
from flexmw.ratelimit.fallback import StoreFailure
from flexmw.ratelimit.rates import Rates
from flexmw.ratelimit.routes import RequestRates

__all__ = ["EXEMPT_OPTION", "MessageRefusal", "Plan"]

EXEMPT_OPTION: Final = "RateLimit(exempt=...)"
"""The name of the option in messages."""

MessageRefusal: TypeAlias = Callable[[Scope, APIError], str | bytes | Awaitable[str | bytes | None] | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that the middleware needs, checked and in its final form.

    :param caller: the caller of a request, by the option ``key``.
    :param hasher: the hash of callers and the trusted proxies.
    :param key_is_bearer: whether ``key`` is the bearer token, which has a path without a coroutine.
    :param rates: the rates of a request.
    :param pricing: the cost of a request.
    :param concurrency: slots of a caller; ``None`` without a limit of concurrent requests.
    :param lease: seconds that a slot is held without being renewed.
    :param url: the store.
    :param messages: the rates of websocket messages; empty for none.
    :param message_refusal: what a client gets for a message over the limit; ``None`` closes the connection.
    :param prefix: what keeps the counters apart from those of other limiters in the same store.
    :param is_named: the application has given the prefix: limiters of this process with the same prefix share counters.
    :param failure: what a request gets when the store fails.
    :param store_timeout: seconds that a decision may wait for the store.
    :param new_keys_per_address: keys never seen before that an address may bring in a window.
    :param exempt: which requests are not limited.
    :param styles: the styles of the limit headers.
    :param shadow: decide and report, but refuse nothing.
    """

    algorithm: Algorithm
    caller: CallerFunction
    hasher: CallerHasher
    key_is_bearer: bool
    rates: RequestRates
    pricing: Pricing
    concurrency: int | None
    lease: float
    url: StorageURL
    failure: StoreFailure
    messages: Rates
    message_refusal: MessageRefusal | None
    prefix: str
    is_named: bool
    store_timeout: float
    new_keys_per_address: int
    exempt: RequestPredicate | None
    styles: Sequence[HeaderStyle]
    shadow: bool
    clock: Clock

    @property
    def gives_back(self) -> bool:
        """Whether anything is given back: what was estimated too high, or a slot."""
        return self.pricing.fixed_cost is None or self.concurrency is not None
