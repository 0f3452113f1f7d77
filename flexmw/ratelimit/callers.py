"""Who is limited: the forms that ``RateLimit(key=...)`` takes, and what an address may bring.

>>> await_it = keyed("header:x-api-key", CallerHasher(), "RateLimit(key=...)")
>>> import asyncio
>>> scope = {"type": "http", "headers": [(b"x-api-key", b"k-1")], "client": ("192.0.2.7", 1)}
>>> asyncio.run(await_it(scope)).kind
'key'
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Any, Final, NamedTuple, TypeAlias, cast

from flexmw.errors import ConfigError
from flexmw.kit.asgi import Scope
from flexmw.kit.identity import CallerHasher, bearer_token, header
from flexmw.ratelimit.core import SECOND
from flexmw.ratelimit.stores.memory import Table

__all__ = ["Caller", "Keyed", "NewKeys", "by_address", "keyed"]


class Caller(NamedTuple):
    """One caller, as the host's own functions are told of it.

    ``kind`` is ``"key"``, ``"address"`` or ``"shared"``; ``digest`` is the keyed hash that stores know. ``value`` is
    what the caller was told apart by, in the clear, so that a table of tiers can be asked; it is in no ``repr``, and
    flexmw never stores or records it. ``proven`` says that the host named the caller (a user, a state, a function),
    not the request. ``earlier`` are the digests under earlier peppers.
    """

    kind: str
    digest: str
    value: str = ""
    proven: bool = False
    earlier: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Caller(kind={self.kind!r}, digest={self.digest!r})"


Keyed: TypeAlias = Callable[[Scope], Awaitable[Caller]]
_WORDS: Final = "'bearer', 'address', 'user', 'header:<name>', 'state:<name>' or a function of the scope"


def keyed(key: object, callers: CallerHasher, option: str) -> Keyed:
    """The function behind a ``key`` option: the caller of a request, by address where the key is not there.

    :raises ConfigError: for a form that does not exist.
    """
    find = _finder(key)
    if find is None:
        raise ConfigError(option, key, _WORDS)
    proven = callable(key) or key == "user" or (isinstance(key, str) and key.startswith("state:"))

    if key == "bearer":
        return _ByBearer(callers)

    async def caller(scope: Scope) -> Caller:
        value = find(scope)
        if isawaitable(value):
            value = await value
        if value is None or value in ("", b""):
            return by_address(callers, scope)
        raw = value if isinstance(value, bytes) else str(value).encode()
        kind, digest, earlier = callers.of_key(raw)
        return Caller(kind, digest, raw.decode("latin-1") if isinstance(value, bytes) else str(value), proven, earlier)

    return caller


def by_address(callers: CallerHasher, scope: Scope) -> Caller:
    """The caller as the address alone tells it."""
    kind, digest, earlier = callers.of_address(scope)
    return Caller(kind, digest, callers.address(scope) or "", earlier=earlier)


class _ByBearer:
    """The default, on the shortest way."""

    def __init__(self, callers: CallerHasher) -> None:
        self._callers = callers

    async def __call__(self, scope: Scope) -> Caller:
        token = bearer_token(scope)
        if token is None:
            return by_address(self._callers, scope)
        kind, digest, earlier = self._callers.of_key(token)
        return Caller(kind, digest, token.decode("latin-1"), earlier=earlier)


def _finder(key: object) -> Callable[[Scope], Any] | None:
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
    its ``identity``, ``id`` or ``username``, or the value itself when it is a plain one."""
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


class NewKeys:
    """Keeps an address from minting buckets: it may bring ``most`` keys that nobody has seen in each window, further
    ones are charged to the address itself. Known keys behind it are not touched.

    Counted in this process, in bounded memory.
    """

    def __init__(self, most: int, window: int) -> None:
        self._most = most
        self._window = min(window, 3600 * SECOND)
        self._seen = Table(self._window)
        self._brought = Table(self._window, shards=16)
        self.knows: Callable[[str, int], bool] = self._seen.keep
        """Whether this key has a bucket of its own already, by its digest, now."""

    def admits(self, digest: str, address: str, now: int) -> bool:
        """Whether a new key gets a bucket of its own, and from now on has it."""
        ends, count = self._brought.get(address, now) or (now + self._window, 0)
        if now >= ends:
            ends, count = now + self._window, 0
        if count >= self._most:
            return False
        self._brought.put(address, (ends, count + 1), now)
        self._seen.put(digest, True, now)
        return True
