"""The options of an :class:`~flexmw.idempotency.Idempotency`, resolved once for one app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flexmw.idempotency.caller import CallerPrefix
from flexmw.idempotency.claim import Claims
from flexmw.kit.asgi import ASGIApp, Scope

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What all requests of one wrapped app have in common.

    :param app: the app.
    :param claims: the claims on the keys in the store, with the lease, the time to live and the clock.
    :param caller_prefix: the beginning of the store keys of a request's caller.
    :param methods: the methods that are protected.
    :param exempt: whether a request is left alone.
    :param required: whether a request without a key is refused.
    :param sdk_retries: whether the retries of SDKs without keys are recognized.
    :param wait: seconds that a duplicate waits for the first response.
    :param max_body: bytes of a response body that are stored at most.
    :param max_request: bytes of the body of a request with a key at most.
    :param runs_without_store: whether the app runs unprotected while the store does not respond.
    :param store_timeout: seconds that one operation of the store may take.
    :param ttl_header: the value of ``Idempotency-Key-TTL``.
    """

    app: ASGIApp
    claims: Claims
    caller_prefix: CallerPrefix
    methods: frozenset[str]
    exempt: Callable[[Scope], bool] | None
    required: Callable[[Scope], bool]
    sdk_retries: bool
    wait: float
    max_body: int
    max_request: int
    runs_without_store: bool
    store_timeout: float
    ttl_header: bytes
