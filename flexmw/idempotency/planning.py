"""Resolve the options of an ``Idempotency`` for one app: open the store, and build the :class:`Plan`."""

from __future__ import annotations

from typing import Any

from flexmw.contract.idempotent_stream import STREAM
from flexmw.contract.sdk import RETRY_COUNT
from flexmw.idempotency.app_end import Lifespans
from flexmw.idempotency.caller import CallerNames, caller_function
from flexmw.idempotency.claim import Claims, random_token
from flexmw.idempotency.core import Record
from flexmw.idempotency.errors import HEADER
from flexmw.idempotency.followers import Followers
from flexmw.idempotency.hashing import KeyHasher
from flexmw.idempotency.late_outcomes import LateOutcomes
from flexmw.idempotency.plan import Plan
from flexmw.idempotency.reading import BodyBudget
from flexmw.idempotency.renewed import AnonymousCalls, RenewedCredentials
from flexmw.idempotency.response_head import TTL_HEADER
from flexmw.idempotency.stores import LogStore, Store
from flexmw.idempotency.stores.guarded import FALLBACKS, GuardedStore
from flexmw.idempotency.stores.memory import MemoryStore, RecordsInMemory
from flexmw.idempotency.stores.open import open_store, shown_store
from flexmw.idempotency.unkeyed import UnkeyedRequests
from flexmw.kit.asgi import ASGIApp
from flexmw.kit.identity import CallerHasher
from flexmw.kit.merged_headers import expect_headers
from flexmw.kit.paths import RequestPredicate, check_returns, request_predicate
from flexmw.kit.store_log import StoreLog

__all__ = ["build_plan", "caller_hasher", "predicates"]


def caller_hasher(options: Any) -> CallerHasher:
    """The hasher of callers.

    :param options: a :class:`flexmw.Idempotency`.
    :raises ConfigError: for proxies that are no networks.
    """
    return CallerHasher(pepper=options.pepper, trusted_proxies=options.trusted_proxies, option="Idempotency: ")


def predicates(options: Any, app: ASGIApp | None) -> tuple[RequestPredicate | None, RequestPredicate | None]:
    """The predicates behind ``required`` and ``exempt``. Checks ``authenticated`` too.

    :param options: a :class:`flexmw.Idempotency`.
    :param app: the wrapped app, whose routes the paths are compared with; ``None`` while it is not known.
    :raises ConfigError: for another value, and for a path that no request can have.
    """
    check_returns(options.authenticated, "Idempotency(authenticated=...)")
    required: Any = None if options.required is False else "*" if options.required is True else options.required
    return (
        request_predicate(required, "Idempotency(required=...)", exempts=False, app=app),
        request_predicate(options.exempt, "Idempotency(exempt=...)", exempts=True, app=app),
    )


def build_plan(options: Any, app: ASGIApp) -> Plan:
    """The plan of one app. Opens the store.

    :param options: a :class:`flexmw.Idempotency`.
    :param app: the wrapped app.
    :raises ConfigError: for a store that cannot be opened, and as :func:`predicates`.
    """
    required, exempt = predicates(options, app)
    store, has_logs = _open_store(options)
    key_headers = dict.fromkeys((options.header.lower().encode(), HEADER.lower().encode()))
    unkeyed = None
    if required is None:
        unkeyed = UnkeyedRequests((*key_headers, STREAM.encode(), *([RETRY_COUNT] if options.sdk_retries else [])))
    claims = Claims(
        store=store,
        clock=options.clock,
        lease=options.lease,
        ttl=options.ttl,
        sdk_window=options.sdk_window,
        on_unknown=options.on_unknown,
        token=store.token if isinstance(store, RecordsInMemory) else random_token,
        encode=Record.as_entry if isinstance(store, RecordsInMemory) else Record.encode,
    )
    return Plan(
        app=app,
        lifespans=Lifespans(app),
        claims=claims,
        hasher=KeyHasher(options.pepper),
        labels=frozenset(options.labels),
        callers=CallerNames(
            options.prefix,
            caller=caller_function(options.caller),
            hasher=caller_hasher(options),
            key_header=options.header.lower().encode(),
        ),
        unkeyed=unkeyed,
        passing=unkeyed if exempt is None and "OPTIONS" not in options.methods else None,
        anonymous_sdk_calls=AnonymousCalls(),
        renewed=RenewedCredentials(options.ttl, options.clock),
        authenticated=options.authenticated,
        header=options.header,
        key_headers=tuple(key_headers),
        methods=frozenset(options.methods),
        exempt=exempt,
        required=required,
        sdk_retries=options.sdk_retries,
        wait=options.wait,
        max_body=options.max_body,
        max_request=options.max_request,
        bodies=BodyBudget(options.max_reading),
        runs_without_store=options.on_store_failure == "run",
        store_timeout=options.store_timeout,
        ttl_header=(TTL_HEADER, str(int(options.ttl)).encode()),
        known_headers=int(expect_headers(TTL_HEADER)),
        continues=has_logs,
        copies_logs=has_logs and not _is_private(options.storage),
        linger=options.linger,
        attaches_all=options.attach == "all",
        late_outcomes=LateOutcomes(options.clock),
        followers=Followers(options.max_followers),
    )


def _is_private(storage: object) -> bool:
    """Whether no other app can have the store: ``memory://`` is a new one for each app, and its readers find the log in
    the plan. A store that is an object can be given to several apps."""
    return isinstance(storage, str) and storage.startswith("memory:")


def _open_store(options: Any) -> tuple[Store, bool]:
    """The store, in a guard unless it is in this process' memory, and whether it keeps logs."""
    store = open_store(
        options.storage,
        option="Idempotency(storage=...)",
        timeout=options.store_timeout,
        capacity=options.capacity,
        max_bytes=options.capacity_bytes,
        reach=options.on_store_failure is None,
        probe=True,
        prefix=options.prefix,
        clock=options.clock,
    )
    has_logs = isinstance(store, LogStore)
    if type(store) is MemoryStore:
        return store.records(), has_logs
    if isinstance(store, MemoryStore):
        return store, has_logs
    shown, secrets = shown_store(options.storage)
    log = StoreLog(
        "flexmw.idempotency",
        shown,
        FALLBACKS[options.on_store_failure or "refuse"],
        monotonic=options.clock.monotonic,
        secrets=secrets,
    )
    return GuardedStore(store, timeout=options.store_timeout, clock=options.clock, log=log), has_logs
