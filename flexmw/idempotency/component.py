"""The options of :class:`Idempotency`.

>>> Idempotency(storage="sqlite:///keys.db", sdk_retries=True, required=lambda scope: scope["path"] == "/charges").ttl
86400.0
>>> Idempotency(on_unknown="guess")
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: Idempotency(on_unknown=...) = 'guess': expected one of 'refuse', 'run'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from flexmw.idempotency.core import OnUnknown
from flexmw.idempotency.stores.open import SCHEMES, Store
from flexmw.idempotency.stores.sqlite import path_of
from flexmw.kit.asgi import ASGIApp, Scope
from flexmw.kit.clock import SYSTEM, Clock
from flexmw.kit.component import API, Order
from flexmw.kit.options import Rule, check, flag, function, one_of, option, optional, seconds, several, text, whole
from flexmw.kit.store_url import parse

__all__ = ["Idempotency"]

_METHOD: Final = Rule(
    "a method in capitals, such as 'POST'", lambda value: isinstance(value, str) and value.isalpha() and value.isupper()
)
_STORAGE: Final = Rule(
    "a storage URL such as 'sqlite:///keys.db', or a flexmw Store",
    lambda value: isinstance(value, (str, Store)) and not isinstance(value, type),
)
_REQUIRED: Final = Rule(
    "true, false or a function of the scope", lambda value: isinstance(value, bool) or callable(value)
)
_PEPPER: Final = Rule(
    "a text or bytes that are not empty", lambda value: isinstance(value, (str, bytes)) and len(value) > 0
)


@dataclass(frozen=True, kw_only=True)
class Idempotency:
    """One request, one execution: the server half of a safe retry.

    Follows draft-ietf-httpapi-idempotency-key-header-07: a key that is missing where it is ``required`` is a 400, one
    whose first request still runs a 409 with ``Retry-After``, one that another request has a 422. A key belongs to its
    caller (bearer token or other credential, else client address); the same text of another caller is another key.

    An answer is kept for ``ttl`` seconds once the app was called; 400, 401, 402, 409, 413, 415, 422, 425, 429 and a 503
    with ``Retry-After`` say that nothing was done and are not kept. When the app raises, what Envelope (which sits
    outside) answers to that is kept, by default 500 ``internal_error``, and the exception is raised on the first call
    only. A client that leaves does not stop the work. A process that is killed leaves the key ``unknown`` when its
    lease has run out.

    :param storage: ``memory://``, ``sqlite:///keys.db``, ``redis://host``, ``valkey://host`` or a Store object.
    :param sdk_retries: match retries of the openai and anthropic SDKs, which send no key, by their
        ``x-stainless-retry-count`` and an equal request of the same caller not more than ``sdk_window`` seconds ago.
        Risk: a first attempt that never arrived can meet an equal earlier call, whose answer it then gets.
    :param sdk_window: seconds; longer than the client's own timeout (600 by default in both SDKs).
    :param ttl: seconds that keys and answers are kept; said in ``Idempotency-Key-TTL``.
    :param lease: seconds without a heartbeat after which an execution counts as cut off.
    :param required: whether a request without a key is refused; a function decides by scope.
    :param methods: what is protected. :param exempt: a function of the scope; true leaves the request alone.
    :param max_body: bytes of an answer that are kept at most; above it, a replay says that it was carried out.
    :param max_request: bytes of a request with a key at most (413 above); they are held in memory meanwhile.
    :param on_unknown: ``refuse`` (409 ``idempotency_unknown``) or ``run`` again, for handlers that resume with
        :func:`flexmw.execution`.
    :param wait: seconds that a duplicate waits for the first one's answer before it is told 409.
    :param caller: a function of the scope that names the caller, where credentials do not; ``None`` falls back to them.
    :param pepper: the key of the callers' hash; else ``FLEXMW_PEPPER``. :param trusted_proxies: as for RateLimit.
    :param store_timeout: seconds that one operation of the store may take.
    :param capacity: keys that ``memory://`` holds at most.
    :param prefix: what the names of its entries in the store begin with; apps that share a store and must not share
        keys have different ones.
    :param on_store_failure: without a working store, ``refuse`` (503) or ``run`` unprotected. ``None`` refuses, and
        also wants the store to be there at start.
    :raises ConfigError: for any option that cannot work.
    """

    name: ClassVar[str] = "idempotency"
    api: ClassVar[int] = API
    order: ClassVar[Order] = Order(after=("tagging", "envelope", "ratelimit"))

    storage: str | Store = option("memory://", _STORAGE, secret=True)
    sdk_retries: bool = option(False, flag)
    sdk_window: float = option(660.0, seconds(above=0.0))
    ttl: float = option(86_400.0, seconds(least=1.0))
    lease: float = option(60.0, seconds(above=0.0))
    required: bool | Callable[[Scope], bool] = option(False, _REQUIRED)
    methods: tuple[str, ...] = option(("POST", "PATCH"), several(_METHOD))
    exempt: Callable[[Scope], bool] | None = option(None, optional(function))
    max_body: int = option(1024 * 1024, whole(least=0))
    max_request: int = option(32 * 1024 * 1024, whole(least=0))
    on_unknown: OnUnknown = option("refuse", one_of(("refuse", "run")))
    wait: float = option(0.0, seconds())
    caller: Callable[[Scope], str | None] | None = option(None, optional(function))
    pepper: str | bytes | None = option(None, optional(_PEPPER), secret=True)
    trusted_proxies: tuple[str, ...] = option((), several(text))
    store_timeout: float = option(2.0, seconds(above=0.0))
    capacity: int = option(10_000, whole(least=1))
    prefix: str = option("flexmw:idempotency", text)
    on_store_failure: str | None = option(None, optional(one_of(("refuse", "run"))))
    clock: Clock = option(SYSTEM, hidden=True)

    def __post_init__(self) -> None:
        check(self)
        if isinstance(self.storage, str):
            url: Any = parse(self.storage, "Idempotency(storage=...)", schemes=SCHEMES)
            if url.scheme.family == "sqlite":
                path_of(self.storage, "Idempotency(storage=...)")

    def asgi(self, app: ASGIApp) -> ASGIApp:
        """The app with this component around it. Opens the store."""
        from flexmw.idempotency.asgi import IdempotencyApp

        return IdempotencyApp(self, app)
