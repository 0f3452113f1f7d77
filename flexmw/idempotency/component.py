"""The options of :class:`Idempotency`.

>>> Idempotency(storage="sqlite:///keys.db", sdk_retries=True, required="POST /charges").ttl
86400.0
>>> Idempotency(on_unknown="guess")
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: Idempotency(on_unknown=...) = 'guess': expected one of 'refuse', 'run'
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from flexmw.idempotency.asgi import IdempotencyApp
from flexmw.idempotency.caller import CallerFunction
from flexmw.idempotency.core import OnUnknown
from flexmw.idempotency.documentation import document
from flexmw.idempotency.followers import MAX_FOLLOWERS
from flexmw.idempotency.options import CALLER, KEY_HEADER, METHOD, PEPPER, PREFIX, STORAGE, check_together, log_at_start
from flexmw.idempotency.planning import build_plan, caller_hasher, predicates
from flexmw.idempotency.stores import Store
from flexmw.idempotency.stores.open import check_url
from flexmw.kit.asgi import ASGIApp, Scope
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import API, Order
from flexmw.kit.documentation import Documentation, Operation
from flexmw.kit.factory import ServerMiddleware, middleware_factory
from flexmw.kit.forwarded import PROXIES
from flexmw.kit.options import (
    check,
    documented,
    flag,
    function,
    one_of,
    option,
    optional,
    seconds,
    several,
    whole,
)
from flexmw.kit.storage import RedisClient, shown_storage
from flexmw.kit.store_observer import expect_reports

__all__ = ["Idempotency"]


@dataclass(frozen=True, kw_only=True)
class Idempotency(ServerMiddleware):
    """Execute each request once: a repetition with the same ``Idempotency-Key`` gets the stored response.

    The responses follow draft-ietf-httpapi-idempotency-key-header-07. A missing key where one is ``required`` is a 400.
    A key whose first request still runs is a 409 with ``Retry-After``. A key that was used for a different request is a
    422. A key belongs to its caller (bearer token or other credential, else client address): the same text from another
    caller is another key.

    A response is stored for ``ttl`` seconds. The statuses 400, 401, 402, 409, 413, 415, 422, 425, 429, and 503 with
    ``Retry-After``, say that nothing was done: they are not stored, and the key can be used again. When the app raises,
    the response of Envelope, which sits outside, is stored; its default is 500 ``internal_error``. The exception is
    raised for the first request only. A client that leaves does not stop the work. A process that is killed leaves the
    key ``unknown`` when its lease has run out.

    :param storage: Store of the keys and responses. ``memory://`` belongs to this process alone, ``sqlite:///keys.db``
        to all processes of one machine, ``redis://`` and ``valkey://`` (also with TLS, over a Unix socket or as a
        cluster) to any number of machines. An object with the methods of ``flexmw.idempotency.Store`` works too, and a
        client of redis-py, whose settings are used for connections of flexmw's own. Responses are stored unencrypted.
        Value: a storage URL such as 'sqlite:///keys.db', a client of redis-py, or a flexmw Store. Default:
        ``"memory://"``.
    :param sdk_retries: Recognise the retries of the openai and anthropic SDKs, which send no key, by their
        ``x-stainless-retry-count`` and an equal request of the same caller within ``sdk_window``. The risk: when a
        first attempt never arrived, its retry can be taken for an earlier equal request and get the response of that
        one. Default: ``False``.
    :param sdk_window: Longest time between the attempts of one SDK call. It has to be longer than the client's own
        timeout, which is 600 seconds by default in both SDKs. Needs ``sdk_retries``. Value: a number of seconds above
        0. Default: ``660.0``.
    :param ttl: How long keys and responses are kept. Responses announce it in ``Idempotency-Key-TTL``. Value: a number
        of seconds, at least 1. Default: ``86400.0``.
    :param lease: How long an execution may go without a heartbeat. After that it counts as cut off, and its outcome as
        unknown. Value: a number of seconds above 0. Default: ``60.0``.
    :param header: Header that carries the key, such as ``X-Idempotency-Key`` or ``Webhook-Id``; errors name it.
        ``Idempotency-Key`` works besides, for clients that follow the draft. Value: the name of a header that carries
        nothing else, such as 'X-Idempotency-Key'. Default: ``"Idempotency-Key"``.
    :param required: Whether a request without a key is refused with 400 ``idempotency_key_required``: always, for paths
        such as ``"POST /charges"`` or ``"/users/{id}/*"``, or where the function, plain or async, returns true. Value:
        true, false, a path, a list of paths or a function of the scope. Default: ``False``.
    :param methods: Methods that are protected. Requests with another method pass unchanged, with or without a key.
        Value: a list, each a method in capitals, such as 'POST'. Default: ``("POST", "PATCH")``.
    :param exempt: Requests that pass unchanged, with or without a key: paths such as ``"/health"`` or ``"POST
        /uploads/*"``, or those for which the function, plain or async, returns true. Value: a path, a list of paths, a
        function of the scope, or None. Default: ``None``.
    :param max_body: Longest response body that is kept. A retry of a request with a longer response gets 409
        ``idempotency_answer_not_kept``: the request was carried out, and its response is not repeated. Value: a whole
        number, at least 0 (bytes). Default: ``1048576``.
    :param max_request: Longest body of a request with a key; a longer one gets 413. The body is held in memory until
        the app has got it. Requests without a key are not limited. Value: a whole number, at least 0 (bytes). Default:
        ``33554432``.
    :param max_reading: Bytes of such bodies that all requests of the app together hold while they are read or wait. A
        request above it gets 503 with ``Retry-After``; one whose body alone is longer gets 413. Value: a whole number,
        at least 1 (bytes). Default: ``67108864``.
    :param authenticated: A function of the scope, plain or async, that says whether the app accepts the credential.
        Where it returns false, a request with a key gets 401 ``invalid_api_key``: its body is not read, and nothing is
        stored or replayed for it. Value: a function, or None. Default: ``None``.
    :param on_unknown: What happens to a request whose first execution was cut off. ``refuse``: 409
        ``idempotency_unknown``; ``run``: the app runs again, for handlers that resume with ``flexmw.execution()``.
        Value: one of 'refuse', 'run'. Default: ``"refuse"``.
    :param wait: How long a duplicate waits for the response to the first request before it gets 409
        ``idempotency_in_progress``. Value: a number of seconds, at least 0. Default: ``0.0``.
    :param attach: The duplicates of a running request that get its response while the app makes it. ``asked``: those
        that ask for it, by ``Idempotent-Stream`` or by ``Prefer: wait``; ``all``: every one, which waits for the
        response to begin. Any other duplicate gets 409 ``idempotency_in_progress``. Value: one of 'asked', 'all'.
        Default: ``"asked"``.
    :param max_followers: How many clients may follow one running or stored response in one process, beside the first. A
        further one gets 503 with ``Retry-After``. Value: a whole number, at least 1 (clients). Default: ``8``.
    :param linger: How long an execution goes on after its last reader has left, before the app receives the disconnect
        (``http.disconnect``, and an ``OSError`` from ``send``). ``None``: a request with a key is carried out to its
        end; an event stream of an SDK's call without a key goes on for 10 seconds. A response above ``max_body``, which
        nobody can ask for again, ends at once. Value: a number of seconds, at least 0, or None. Default: ``None``.
    :param caller: What names the caller where credentials change between two attempts (tokens that are renewed,
        signatures, cookies) or do not tell callers apart: a function of the scope, plain or async, or where the name
        stands. It must return nothing that a client can invent. When it returns ``None``, the credentials name the
        caller. Value: 'user', 'header:<name>', 'cookie:<name>', 'state:<name>' or a function of the scope, or None.
        Default: ``None``.
    :param pepper: Secret key of the hashes under which the store knows callers, keys and requests. ``None`` takes
        ``FLEXMW_PEPPER`` from the environment; without both, callers are hashed with a fixed label, keys and requests
        without a key. Value: bytes, or a text without half of a surrogate pair, that are not empty, or None. Default:
        ``None``.
    :param labels: What the store holds in the clear beside the hashes, for ``flexmw keys``: ``key``, the key as the
        caller wrote it; ``path``, method and path. By default it holds neither. Value: a list, each one of 'key',
        'path'. Default: ``()``.
    :param trusted_proxies: The proxies whose ``X-Forwarded-For`` or ``Forwarded`` is believed: networks (CIDR), where
        ``"unix"`` stands for the peer of a Unix socket, or the number of proxies in front of the app. Only callers
        without credentials are identified by their address. Value: a list of networks (CIDR), or the number of proxies
        in front. Default: ``()``.
    :param store_timeout: Longest time that a request waits for the store before the app runs, over all operations, and
        again to store its response. After that, ``on_store_failure`` decides. Value: a number of seconds above 0.
        Default: ``2.0``.
    :param capacity: How many keys the store holds. A full store deletes the oldest keys that are not running before
        they expire; when all are running, a new key is refused. ``None``: 10,000 in ``memory://``, 1,000,000 in a
        sqlite file. A redis has its own bound (``maxmemory``), and a store object too: a value is then a WARNING.
        Value: a whole number, at least 1, or None (keys). Default: ``None``.
    :param capacity_bytes: How many bytes of responses and records the store holds; the rule of ``capacity`` applies.
        ``None``: 64 MiB in ``memory://``, 4 GiB in a sqlite file. Value: a whole number, at least 1, or None (bytes).
        Default: ``None``.
    :param prefix: Beginning of every name in the store. Apps that share a store, but must not share keys, need
        different prefixes. Value: a text that is not empty, without half of a surrogate pair. Default:
        ``"flexmw:idempotency"``.
    :param on_store_failure: What happens to a request while the store does not respond. ``refuse``: 503; ``run``: the
        app runs without protection. ``None`` refuses too, and the store must work when the app starts. A store that
        refuses the credentials or a command is an error at start in any case. Value: one of 'refuse', 'run', or None.
        Default: ``None``.
    :raises ConfigError: for any option that cannot work.
    """

    name: ClassVar[str] = "idempotency"
    api: ClassVar[int] = API
    order: ClassVar[Order] = Order(after=("tagging", "envelope", "ratelimit"))

    storage: str | Store | RedisClient = option(
        "memory://",
        STORAGE,
        doc="Store of the keys and responses. `memory://` belongs to this process alone, `sqlite:///keys.db` to all "
        "processes of one machine, `redis://` and `valkey://` (also with TLS, over a Unix socket or as a cluster) to "
        "any number of machines. An object with the methods of `flexmw.idempotency.Store` works too, and a client of "
        "redis-py, whose settings are used for connections of flexmw's own. Responses are stored unencrypted.",
        secret=True,
        shown=shown_storage,
    )
    sdk_retries: bool = option(
        False,
        flag,
        doc="Recognise the retries of the openai and anthropic SDKs, which send no key, by their "
        "`x-stainless-retry-count` and an equal request of the same caller within `sdk_window`. The risk: when a first "
        "attempt never arrived, its retry can be taken for an earlier equal request and get the response of that one.",
    )
    sdk_window: float = option(
        660.0,
        seconds(above=0.0),
        doc="Longest time between the attempts of one SDK call. It has to be longer than the client's own timeout, "
        "which is 600 seconds by default in both SDKs. Needs `sdk_retries`.",
        unit="seconds",
    )
    ttl: float = option(
        86_400.0,
        seconds(least=1.0),
        doc="How long keys and responses are kept. Responses announce it in `Idempotency-Key-TTL`.",
        unit="seconds",
    )
    lease: float = option(
        60.0,
        seconds(above=0.0),
        doc="How long an execution may go without a heartbeat. After that it counts as cut off, and its outcome as "
        "unknown.",
        unit="seconds",
    )
    header: str = option(
        "Idempotency-Key",
        KEY_HEADER,
        doc="Header that carries the key, such as `X-Idempotency-Key` or `Webhook-Id`; errors name it. "
        "`Idempotency-Key` works besides, for clients that follow the draft.",
    )
    required: bool | str | Sequence[str] | Callable[[Scope], bool | Awaitable[bool]] = option(
        False,
        documented("true, false, a path, a list of paths or a function of the scope"),
        doc="Whether a request without a key is refused with 400 `idempotency_key_required`: always, for paths such as "
        '`"POST /charges"` or `"/users/{id}/*"`, or where the function, plain or async, returns true.',
    )
    methods: tuple[str, ...] = option(
        ("POST", "PATCH"),
        several(METHOD),
        doc="Methods that are protected. Requests with another method pass unchanged, with or without a key.",
    )
    exempt: str | Sequence[str] | Callable[[Scope], bool | Awaitable[bool]] | None = option(
        None,
        documented("a path, a list of paths, a function of the scope, or None"),
        doc='Requests that pass unchanged, with or without a key: paths such as `"/health"` or `"POST /uploads/*"`, or '
        "those for which the function, plain or async, returns true.",
    )
    max_body: int = option(
        1024 * 1024,
        whole(least=0),
        doc="Longest response body that is kept. A retry of a request with a longer response gets 409 "
        "`idempotency_answer_not_kept`: the request was carried out, and its response is not repeated.",
        unit="bytes",
    )
    max_request: int = option(
        32 * 1024 * 1024,
        whole(least=0),
        doc="Longest body of a request with a key; a longer one gets 413. The body is held in memory until the app "
        "has got it. Requests without a key are not limited.",
        unit="bytes",
    )
    max_reading: int = option(
        64 * 1024 * 1024,
        whole(least=1),
        doc="Bytes of such bodies that all requests of the app together hold while they are read or wait. A request "
        "above it gets 503 with `Retry-After`; one whose body alone is longer gets 413.",
        unit="bytes",
    )
    authenticated: Callable[[Scope], bool | Awaitable[bool]] | None = option(
        None,
        optional(function),
        doc="A function of the scope, plain or async, that says whether the app accepts the credential. Where it "
        "returns false, a request with a key gets 401 `invalid_api_key`: its body is not read, and nothing is stored "
        "or replayed for it.",
    )
    on_unknown: OnUnknown = option(
        "refuse",
        one_of(("refuse", "run")),
        doc="What happens to a request whose first execution was cut off. `refuse`: 409 `idempotency_unknown`; `run`: "
        "the app runs again, for handlers that resume with `flexmw.execution()`.",
    )
    wait: float = option(
        0.0,
        seconds(),
        doc="How long a duplicate waits for the response to the first request before it gets 409 "
        "`idempotency_in_progress`.",
        unit="seconds",
    )
    attach: str = option(
        "asked",
        one_of(("asked", "all")),
        doc="The duplicates of a running request that get its response while the app makes it. `asked`: those that ask "
        "for it, by `Idempotent-Stream` or by `Prefer: wait`; `all`: every one, which waits for the response to begin. "
        "Any other duplicate gets 409 `idempotency_in_progress`.",
    )
    max_followers: int = option(
        MAX_FOLLOWERS,
        whole(least=1),
        doc="How many clients may follow one running or stored response in one process, beside the first. A further "
        "one gets 503 with `Retry-After`.",
        unit="clients",
    )
    linger: float | None = option(
        None,
        optional(seconds()),
        doc="How long an execution goes on after its last reader has left, before the app receives the disconnect "
        "(`http.disconnect`, and an `OSError` from `send`). `None`: a request with a key is carried out to its end; an "
        "event stream of an SDK's call without a key goes on for 10 seconds. A response above `max_body`, which nobody "
        "can ask for again, ends at once.",
        unit="seconds",
    )
    caller: str | CallerFunction | None = option(
        None,
        CALLER,
        doc="What names the caller where credentials change between two attempts (tokens that are renewed, signatures, "
        "cookies) or do not tell callers apart: a function of the scope, plain or async, or where the name stands. It "
        "must return nothing that a client can invent. When it returns `None`, the credentials name the caller.",
    )
    pepper: str | bytes | None = option(
        None,
        optional(PEPPER),
        doc="Secret key of the hashes under which the store knows callers, keys and requests. `None` takes "
        "`FLEXMW_PEPPER` from the environment; without both, callers are hashed with a fixed label, keys and requests "
        "without a key.",
        secret=True,
    )
    labels: tuple[str, ...] = option(
        (),
        several(one_of(("key", "path"))),
        doc="What the store holds in the clear beside the hashes, for `flexmw keys`: `key`, the key as the caller "
        "wrote it; `path`, method and path. By default it holds neither.",
    )
    trusted_proxies: tuple[str, ...] | int = option(
        (),
        PROXIES,
        doc='The proxies whose `X-Forwarded-For` or `Forwarded` is believed: networks (CIDR), where `"unix"` stands '
        "for the peer of a Unix socket, or the number of proxies in front of the app. Only callers without "
        "credentials are identified by their address.",
    )
    store_timeout: float = option(
        2.0,
        seconds(above=0.0),
        doc="Longest time that a request waits for the store before the app runs, over all operations, and again to "
        "store its response. After that, `on_store_failure` decides.",
        unit="seconds",
    )
    capacity: int | None = option(
        None,
        optional(whole(least=1)),
        doc="How many keys the store holds. A full store deletes the oldest keys that are not running before they "
        "expire; when all are running, a new key is refused. `None`: 10,000 in `memory://`, 1,000,000 in a sqlite "
        "file. A redis has its own bound (`maxmemory`), and a store object too: a value is then a WARNING.",
        unit="keys",
    )
    capacity_bytes: int | None = option(
        None,
        optional(whole(least=1)),
        doc="How many bytes of responses and records the store holds; the rule of `capacity` applies. `None`: 64 MiB "
        "in `memory://`, 4 GiB in a sqlite file.",
        unit="bytes",
    )
    prefix: str = option(
        "flexmw:idempotency",
        PREFIX,
        doc="Beginning of every name in the store. Apps that share a store, but must not share keys, need different "
        "prefixes.",
    )
    on_store_failure: str | None = option(
        None,
        optional(one_of(("refuse", "run"))),
        doc="What happens to a request while the store does not respond. `refuse`: 503; `run`: the app runs without "
        "protection. `None` refuses too, and the store must work when the app starts. A store that refuses the "
        "credentials or a command is an error at start in any case.",
    )
    clock: Clock = option(SYSTEM, hidden=True)

    def __post_init__(self) -> None:
        check(self)
        predicates(self, None)
        check_together(self)
        caller_hasher(self)
        if isinstance(self.storage, str):
            check_url(self.storage, "Idempotency(storage=...)")
        if self.storage != "memory://":
            expect_reports()

    @middleware_factory
    def asgi(self, app: ASGIApp) -> ASGIApp:
        """The app with this component around it. Opens the store."""
        log_at_start(self, caller_hasher(self).proxies)
        return IdempotencyApp(build_plan(self, app))

    def documents(self, operation: Operation) -> Documentation:
        """What this component does to the requests of an operation, for :func:`flexmw.openapi`."""
        return document(self, operation)
