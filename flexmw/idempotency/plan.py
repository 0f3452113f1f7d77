"""The options of an :class:`~flexmw.idempotency.Idempotency`, resolved once for one app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from flexmw.idempotency.app_end import Lifespans
from flexmw.idempotency.caller import CallerNames
from flexmw.idempotency.claim import Claims
from flexmw.idempotency.followers import MAX_FOLLOWERS, Followers
from flexmw.idempotency.hashing import KeyHasher
from flexmw.idempotency.heartbeats import Heartbeats
from flexmw.idempotency.late_outcomes import LateOutcomes
from flexmw.idempotency.log import RunningLogs
from flexmw.idempotency.reading import BodyBudget
from flexmw.idempotency.renewed import AnonymousCalls, RenewedCredentials
from flexmw.idempotency.unkeyed import UnkeyedRequests
from flexmw.kit.asgi import ASGIApp, Scope
from flexmw.kit.exchange import Header
from flexmw.kit.paths import RequestPredicate

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What all requests of one wrapped app have in common.

    :param app: the app.
    :param lifespans: the lifespans of the app.
    :param claims: the claims on the keys in the store, with the lease, the time to live and the clock.
    :param hasher: hashes keys and requests for the store.
    :param labels: what the store also holds in the clear for operators: ``key``, ``path``.
    :param callers: who a request's caller is, and the beginning of the caller's store keys.
    :param unkeyed: recognises requests without a key; ``None`` where each request needs a look of its own.
    :param passing: the same, where no request is exempt and none is a preflight: the requests that it recognises pass.
    :param anonymous_sdk_calls: warns of SDK calls that cannot be protected.
    :param renewed: notices credentials that change between the attempts of a call.
    :param authenticated: whether the app accepts the credential of a request; ``None`` leaves that to the app.
    :param header: the header of the key, as users write it.
    :param key_headers: the headers that a key is looked for in, in lower case, the first one first.
    :param methods: the methods that are protected.
    :param exempt: whether a request is left alone.
    :param required: whether a request without a key is refused; ``None`` where none is.
    :param sdk_retries: whether the retries of SDKs without keys are recognised.
    :param wait: seconds that a duplicate waits for the first response.
    :param max_body: bytes of a response body that are stored at most.
    :param max_request: bytes of the body of a request with a key at most.
    :param bodies: the bytes of all bodies that are held.
    :param runs_without_store: whether the app runs unprotected while the store does not respond.
    :param store_timeout: seconds that one operation of the store may take.
    :param ttl_header: ``Idempotency-Key-TTL`` and its value.
    :param known_headers: :attr:`~flexmw.kit.exchange.Exchange.known` of an exchange with that header: 1, or 0 where the
        name is not remembered.
    :param continues: whether a response that was cut can be continued: the store keeps logs.
    :param copies_logs: whether the log of a running response is copied to the store, for other processes and apps.
    :param linger: seconds that an execution goes on without a reader; ``None``: to its end, if it has a key.
    :param attaches_all: whether every duplicate of a running request follows its response.
    :param logs: the logs of the executions that run in this process.
    :param heartbeats: the heartbeats of the executions that run in this process.
    :param late_outcomes: the outcomes that the store did not take in time.
    :param followers: the clients that follow a response in this process.
    """

    app: ASGIApp
    lifespans: Lifespans
    claims: Claims
    hasher: KeyHasher
    labels: frozenset[str]
    callers: CallerNames
    unkeyed: UnkeyedRequests | None
    passing: UnkeyedRequests | None
    anonymous_sdk_calls: AnonymousCalls
    renewed: RenewedCredentials
    authenticated: Callable[[Scope], bool | Awaitable[bool]] | None
    header: str
    key_headers: tuple[bytes, ...]
    methods: frozenset[str]
    exempt: RequestPredicate | None
    required: RequestPredicate | None
    sdk_retries: bool
    wait: float
    max_body: int
    max_request: int
    bodies: BodyBudget
    runs_without_store: bool
    store_timeout: float
    ttl_header: Header
    known_headers: int
    continues: bool
    copies_logs: bool = True
    linger: float | None = None
    attaches_all: bool = False
    logs: RunningLogs = field(default_factory=RunningLogs)
    heartbeats: Heartbeats = field(default_factory=Heartbeats)
    late_outcomes: LateOutcomes = field(default_factory=LateOutcomes)
    followers: Followers = field(default_factory=lambda: Followers(MAX_FOLLOWERS))
