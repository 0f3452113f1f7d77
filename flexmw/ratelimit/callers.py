"""Who is limited: the forms that ``RateLimit(key=...)`` takes, and how many new keys an address may bring.

>>> key_of = caller_function("header:x-api-key", CallerHasher(), "RateLimit(key=...)")
>>> import asyncio
>>> scope = {"type": "http", "headers": [(b"x-api-key", b"k-1")], "client": ("192.0.2.7", 1)}
>>> asyncio.run(key_of(scope)).kind
'key'
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Any, Final, NamedTuple, TypeAlias, cast

from flexmw.errors import ConfigError
from flexmw.kit.asgi import Scope
from flexmw.kit.expiring import ExpiringTable
from flexmw.kit.identity import CallerHasher, bearer_token, header
from flexmw.ratelimit.core import SECOND

__all__ = ["Caller", "CallerFunction", "CallerIdentifier", "NewKeyGuard", "by_address", "caller_function"]


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
_EXPECTED: Final = "'bearer', 'address', 'user', 'header:<name>', 'state:<name>' or a function of the scope"


def caller_function(key: object, hasher: CallerHasher, option: str) -> CallerFunction:
    """The function behind a ``key`` option. It returns the caller by key, or by address if the request has no key.

    :raises ConfigError: for a form that does not exist.
    """
    key_of = _key_function(key)
    if key_of is None:
        raise ConfigError(option, key, _EXPECTED)
    proven = callable(key) or key == "user" or (isinstance(key, str) and key.startswith("state:"))

    async def caller(scope: Scope) -> Caller:
        value = key_of(scope)
        if not isinstance(value, bytes) and isawaitable(value):
            value = await value
        if value is None or value in ("", b""):
            return by_address(hasher, scope)
        raw = value if isinstance(value, bytes) else str(value).encode()
        kind, digest, earlier = hasher.of_key(raw)
        return Caller(kind, digest, raw.decode("latin-1") if isinstance(value, bytes) else str(value), proven, earlier)

    return caller


def by_address(hasher: CallerHasher, scope: Scope) -> Caller:
    """The caller by the client's address alone."""
    kind, digest, earlier = hasher.of_address(scope)
    return Caller(kind, digest, hasher.address(scope) or "", earlier=earlier)


def _key_function(key: object) -> Callable[[Scope], Any] | None:
    if callable(key):
        return key
    if not isinstance(key, str):
        return None
    if key in _NAMED:
        return _NAMED[key]
    kind, _, name = key.partition(":")
    if kind == "header" and name:
        raw = name.lower().encode("latin-1", "replace")
        return lambda scope: header(scope, raw)
    if kind == "state" and name:
        return lambda scope: _item(scope.get("state"), name)
    return None


def _user(scope: Scope) -> Any:
    """The user that an authentication middleware left in the scope (Starlette's ``AuthenticationMiddleware``, Django):
    its ``identity``, ``id`` or ``username``, or the user itself when it is a text or a number."""
    user = scope.get("user")
    if user is None or isinstance(user, (str, bytes, int)):
        return user
    if getattr(user, "is_authenticated", True) is False:
        return None
    for name in ("identity", "id", "pk", "username"):
        try:
            value = getattr(user, name, None)
        except NotImplementedError:  # Starlette's BaseUser declares `identity` without having one
            continue
        if value is not None:
            return value
    return None


def _item(state: Any, name: str) -> Any:
    return cast("Mapping[str, Any]", state).get(name) if isinstance(state, dict) else getattr(state, name, None)


_NAMED: Final[dict[str, Callable[[Scope], Any]]] = {
    "bearer": bearer_token,
    "user": _user,
    "address": lambda scope: None,
}


class NewKeyGuard:
    """Keeps an address from getting a fresh limit with every key that it makes up.

    An address may bring ``limit`` keys that were never seen before in each window; further new keys are charged to the
    address. Known keys behind the address are not affected. Counted in this process, in bounded memory.

    :param limit: new keys in a window.
    :param window_us: the window in microseconds; an hour at most.
    """

    def __init__(self, limit: int, window_us: int) -> None:
        self._limit = limit
        self._window_us = min(window_us, 3600 * SECOND)
        self._known: ExpiringTable[bool] = ExpiringTable(self._window_us)
        self._brought: ExpiringTable[tuple[int, int]] = ExpiringTable(self._window_us, shards=16)
        self.knows: Callable[[str, int], bool] = self._known.touch
        """Whether a key, given by its digest, is known at a moment in microseconds."""

    def admits(self, digest: str, address: str, now_us: int) -> bool:
        """Whether a new key from an address gets a limit of its own. If it does, it is known from now on."""
        end_us, count = self._brought.get(address, now_us) or (now_us + self._window_us, 0)
        if now_us >= end_us:
            end_us, count = now_us + self._window_us, 0
        if count >= self._limit:
            return False
        self._brought.put(address, (end_us, count + 1), now_us)
        self._known.put(digest, True, now_us)
        return True


class CallerIdentifier:
    """Identifies the caller of each request: by key, or by address for a new key that the address may not bring."""

    def __init__(self, caller: CallerFunction, hasher: CallerHasher, guard: NewKeyGuard) -> None:
        self._caller, self._hasher, self._guard = caller, hasher, guard
        self._key_hasher = hasher.hasher

    async def identify(self, scope: Scope, now_us: int) -> Caller:
        """The caller whom a request is charged to."""
        caller = await self._caller(scope)
        if caller.kind != "key" or caller.proven or self._guard.knows(caller.digest, now_us):
            return caller
        address = by_address(self._hasher, scope)
        if address.kind == "shared" or self._guard.admits(caller.digest, address.digest, now_us):
            return caller
        return address

    def bearer_digest(self, scope: Scope, now_us: int) -> str:
        """The digest of :meth:`identify` for ``key="bearer"``, without a coroutine and without a :class:`Caller`."""
        token = bearer_token(scope)
        if token is None:
            return self._hasher.of_address(scope).digest
        hasher = self._key_hasher()
        hasher.update(token)
        digest = hasher.hexdigest()
        if not self._guard.knows(digest, now_us):
            address = self._hasher.of_address(scope)
            if address.kind != "shared" and not self._guard.admits(digest, address.digest, now_us):
                return address.digest
        return digest
