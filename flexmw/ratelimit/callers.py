"""Who is limited: the forms that ``RateLimit(key=...)`` takes, and whom a new key is charged to.

>>> key_of = caller_function("header:x-api-key", CallerHasher(), "RateLimit(key=...)")
>>> import asyncio
>>> scope = {"type": "http", "headers": [(b"x-api-key", b"k-1")], "client": ("192.0.2.7", 1)}
>>> asyncio.run(key_of(scope)).kind
'key'
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable
from typing import Final, NamedTuple, TypeAlias

from flexmw.errors import ConfigError
from flexmw.kit.app_function import finished
from flexmw.kit.asgi import ASGIApp, Scope
from flexmw.kit.caller_names import MissingKey, key_function, raw_name
from flexmw.kit.exchange import REFUSALS
from flexmw.kit.identity import AUTHORIZATION, CallerHasher, bearer_token_of
from flexmw.ratelimit.core import SECOND
from flexmw.ratelimit.new_keys import NewKeyGuard, judged_app

__all__ = ["BearerDigest", "Caller", "CallerFunction", "CallerIdentifier", "caller_function"]

_LOGGER: Final = logging.getLogger("flexmw.ratelimit")


class Caller(NamedTuple):
    """The caller of a request, as it is given to the application's own functions.

    :param kind: ``"key"``, ``"address"`` or ``"shared"`` (neither is known: one bucket for all such callers).
    :param digest: the keyed hash of the caller, which is all that a store sees.
    :param value: the key or the address in the clear, for looking up a tier. It is not in ``repr``, and flexmw neither
        stores nor records it.
    :param proven: the application named the caller (a user, a value of the state, a function), not the request.
    :param earlier: the digests of the caller under earlier peppers.
    """

    kind: str
    digest: str
    value: str = ""
    proven: bool = False
    earlier: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Caller(kind={self.kind!r}, digest={self.digest!r})"


CallerFunction: TypeAlias = Callable[[Scope], Awaitable[Caller]]
BearerDigest: TypeAlias = Callable[[Scope, int], str | None]
"""The type of :meth:`CallerIdentifier.bearer_digest`."""

_EXPECTED: Final = (
    "'bearer', 'address', 'user', 'header:<name>', 'cookie:<name>', 'state:<name>' or a function of the scope"
)


def caller_function(key: object, hasher: CallerHasher, option: str) -> CallerFunction:
    """The function behind a ``key`` option. It returns the caller by key, or by address if the request has no key.

    :raises ConfigError: for a form that does not exist.
    """
    key_of = key_function(key)
    if key_of is None:
        raise ConfigError(option, key, _EXPECTED)
    proven = callable(key) or key == "user" or (isinstance(key, str) and key.startswith("state:"))
    missing = MissingKey(key, "RateLimit(key={!r}): {}; such requests count for the address of the client. {}")

    async def caller(scope: Scope) -> Caller:
        value = key_of(scope)
        if not isinstance(value, bytes) and isawaitable(value):
            value = await finished(value, option)
        raw = raw_name(value, option)
        if not raw:
            missing.count(scope)
            return _by_address(hasher, scope)
        missing.is_over = True
        kind, digest, earlier = hasher.of_key(raw)
        return Caller(kind, digest, raw.decode("latin-1") if isinstance(value, bytes) else str(value), proven, earlier)

    return caller


def _by_address(hasher: CallerHasher, scope: Scope) -> Caller:
    """The caller by the client's address alone."""
    kind, digest, earlier = hasher.of_address(scope)
    return Caller(kind, digest, hasher.address(scope) or "", earlier=earlier)


class CallerIdentifier:
    """Identifies the caller of each request: by key, or by address for a new key that the address may not bring.

    :param caller: the caller of a request, by the option ``key``.
    :param hasher: the hash of callers and the trusted proxies.
    :param guard: the keys that the app has accepted, and the addresses that brought too many others.
    :param monotonic: the time that windows are measured by, in seconds.
    """

    def __init__(
        self, caller: CallerFunction, hasher: CallerHasher, guard: NewKeyGuard, monotonic: Callable[[], float]
    ) -> None:
        self._caller, self.hasher, self.guard, self._monotonic = caller, hasher, guard, monotonic
        self._key_hasher = hasher.hasher
        self._recent = guard.recent
        self._has_warned = False

    async def identify(self, scope: Scope, now_us: int, app: ASGIApp) -> tuple[Caller, ASGIApp]:
        """The caller whom a request is charged to, and the app that the request is given to.

        That is ``app`` itself, or ``app`` with a look at the status of its response, for a key of the request.
        """
        caller = await self._caller(scope)
        if caller.kind != "key" or caller.proven:
            return caller, app
        guard, digest = self.guard, caller.digest
        if guard.knows(digest, now_us):
            return caller, judged_app(app, partial(self.judge_known, digest))
        address = _by_address(self.hasher, scope)
        if address.kind == "shared":
            return caller, app
        app = judged_app(app, partial(self._judge, digest, address.digest))
        if guard.admits(digest, address.digest, now_us):
            return caller, app
        self._warn(address.value)
        return address, app

    def bearer_digest(self, scope: Scope, now_us: int) -> str | None:
        """The digest of :meth:`identify` for ``key="bearer"``, without a coroutine and without a :class:`Caller`.

        ``None``: the app has not accepted the key yet, and :meth:`identify` decides.
        """
        for name, value in scope.get("headers", ()):
            if name == AUTHORIZATION:
                return self._recent.get(value, now_us) or self._hashed(scope, value, now_us)
        return self.hasher.of_address(scope).digest

    def _hashed(self, scope: Scope, value: bytes, now_us: int) -> str | None:
        """:meth:`bearer_digest` for a value of ``Authorization`` that is not remembered."""
        token = bearer_token_of(value)
        if token is None:
            return self.hasher.of_address(scope).digest
        hasher = self._key_hasher()
        hasher.update(token)
        digest = hasher.hexdigest()
        if not self.guard.knows(digest, now_us):
            return None
        if not self.guard.is_alert:
            self._recent.add(value, digest, now_us)
        return digest

    def judge_known(self, digest: str, status: int) -> None:
        """Take the response to a request with a key that the app has accepted earlier as a verdict on the key."""
        if status in REFUSALS:
            self.guard.refuse(digest, int(self._monotonic() * SECOND))

    def _judge(self, digest: str, address: str, status: int) -> None:
        self.guard.judge(digest, address, status, int(self._monotonic() * SECOND))

    def _warn(self, address: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            _LOGGER.warning(
                "RateLimit(new_keys_per_address=%d): the client address %s brought more keys within %g seconds than "
                "that, which the app has refused or not yet answered. Further new keys of the address count as one "
                "caller, the address. If it is a proxy, name it in trusted_proxies; if its callers are many, raise "
                "new_keys_per_address. This is logged once.",
                self.guard.limit,
                address,
                self.guard.window,
            )
