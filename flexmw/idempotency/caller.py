"""Whose key it is: the same key of two callers is two keys."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from flexmw.contract import CREDENTIALS
from flexmw.kit.asgi import Scope
from flexmw.kit.exchange import Header
from flexmw.kit.identity import CallerHasher

__all__ = ["CallerPrefix"]

_CREDENTIALS: Final = tuple(name.encode() for name in CREDENTIALS)
_SESSION: Final = (b"cookie",)
"""Cookies identify a caller only when there is no credential, because some cookies change with every response."""


class CallerPrefix:
    """The beginning of the store keys of a caller. The store sees a keyed hash of the caller and no credential.

    A caller is identified by ``caller(scope)``, else by all credential headers of the request, else by its cookies,
    else by the client address. All headers count: two callers behind one address, or behind one proxy that signs in
    for them, must never get each other's responses.

    :param prefix: the beginning of all store keys of the app.
    :param caller: a function that names the caller; ``None`` from it means the credentials.
    :param hasher: hashes names and credentials, and finds the client address.
    """

    def __init__(self, prefix: str, *, caller: Callable[[Scope], str | None] | None, hasher: CallerHasher) -> None:
        self._prefix, self._caller, self._hasher = prefix, caller, hasher

    def __call__(self, scope: Scope) -> str:
        """The prefix for a request. Its hash tag puts all keys of the caller on one node of a redis cluster."""
        return f"{self._prefix}:{{{self._digest(scope)}}}"

    def _digest(self, scope: Scope) -> str:
        name = self._caller(scope) if self._caller is not None else None
        if name:
            # A second hash, so that a name and a token of the same text are two callers.
            return blake2b(self._hasher.of_key(name.encode()).digest.encode(), digest_size=16).hexdigest()
        identity = self._hasher(scope)
        shown = _lines(scope, _CREDENTIALS) or _lines(scope, _SESSION)
        if not shown or (identity.kind == "key" and len(shown) == 1):
            return identity.digest
        parts = (b"%s:%d:%s" % (name, len(value), value) for name, value in shown)
        return self._hasher.of_key(b"\n".join(parts)).digest


def _lines(scope: Scope, names: tuple[bytes, ...]) -> list[Header]:
    """All header lines with these names. HTTP/2 may split a cookie over several lines."""
    return [(name, value) for name, value in scope["headers"] if name in names and value]
