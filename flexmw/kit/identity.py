"""The identity of a caller: a keyed hash of the bearer token, else of the client's address. The token is not kept.

>>> callers = CallerHasher(pepper="a secret of this deployment")
>>> scope = {"type": "http", "headers": [(b"authorization", b"Bearer sk-live-1")], "client": ("192.0.2.7", 50000)}
>>> callers(scope).kind, len(callers(scope).digest)
('key', 32)
>>> callers({"type": "http", "headers": [], "client": ("192.0.2.7", 50000)}).kind
'address'

The forwarded hops of a request are believed from trusted proxies only: :mod:`flexmw.kit.forwarded` finds the client.
IPv6 clients are identified by their /64 network, because one machine owns all addresses of the network.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final, NamedTuple, cast

from flexmw.errors import ConfigError
from flexmw.kit.forwarded import Proxies, networks

__all__ = [
    "AUTHORIZATION",
    "PEPPER_VARIABLE",
    "CallerHasher",
    "Identity",
    "Pepper",
    "bearer_token",
    "bearer_token_of",
    "environment_pepper",
    "header",
    "networks",
]

AUTHORIZATION: Final = b"authorization"
"""The name of the header, as in an ASGI scope."""

PEPPER_VARIABLE: Final = "FLEXMW_PEPPER"
"""The environment variable with the pepper, for components whose option does not give one."""

_LABEL: Final = b"flexmw: callers without a pepper of their own"
_KINDS: Final = ("key", "address", "shared")

Pepper = str | bytes


class Identity(NamedTuple):
    """One caller, in a form that stores, spans and logs may hold.

    :param kind: ``"key"`` (a credential), ``"address"``, or ``"shared"``: neither is known, and all such callers are
        one.
    :param digest: 32 hexadecimal digits that depend on kind, credential or address, and pepper.
    :param earlier: the caller's digests under the older peppers.
    """

    kind: str
    digest: str
    earlier: tuple[str, ...] = ()


class CallerHasher:
    """Hashes the credential or the address of a request to an :class:`Identity`. It holds no state of a request.

    ``hasher()`` gives a hash object: after ``update(credential)`` its ``hexdigest()`` is the digest of :meth:`of_key`.

    :param pepper: the key of the hash. ``None`` takes ``FLEXMW_PEPPER`` from the environment, else a fixed label. The
        label is enough for long random API keys, and too little for credentials that can be guessed. Of several
        peppers the first one makes the digests, and the others make the ``earlier`` digests; ``None`` among them is
        the label.
    :param trusted_proxies: the proxies whose forwarded hops are believed: see :class:`~flexmw.kit.forwarded.Proxies`.
    :param option: what precedes the name of an option in the message of an error.
    :raises ConfigError: for an empty or repeated pepper, or a text that is not a network.
    """

    __slots__ = ("_earlier", "_hashers", "address", "hasher", "proxies")

    def __init__(
        self,
        *,
        pepper: Pepper | Sequence[Pepper | None] | None = None,
        trusted_proxies: Sequence[str] | int = (),
        option: str = "",
    ) -> None:
        given: object = environment_pepper() or _LABEL if pepper is None else pepper
        peppers = [_raw(value) for value in (cast("Sequence[object]", given) if _is_list(given) else [given])]
        if not peppers or not all(peppers) or len(set(peppers)) < len(peppers):
            expected = (
                "bytes, or a text without half of a surrogate pair, that are not empty, several different ones "
                "(the newest first), or None"
            )
            raise ConfigError(f"{option}pepper", "***", expected)
        self._hashers, *self._earlier = map(_hashers, peppers)
        self.hasher = self._hashers["key"].copy
        self.proxies = Proxies(trusted_proxies, option=f"{option}trusted_proxies")
        self.address = self.proxies.client
        """The client's IPv4 address or IPv6 /64 network as text; ``None`` if it is unknown."""

    def __call__(self, scope: MutableMapping[str, Any]) -> Identity:
        """The caller of a request: by its bearer token, else by its address."""
        token = bearer_token(scope)
        return self.of_address(scope) if token is None else self.of_key(token)

    def of_key(self, credential: bytes) -> Identity:
        """The caller with this credential."""
        return self._hash("key", credential)

    @property
    def rotates(self) -> bool:
        """True if there are older peppers, so that identities have ``earlier`` digests."""
        return bool(self._earlier)

    def of_address(self, scope: MutableMapping[str, Any]) -> Identity:
        """The caller by its address; callers without an address are one ``"shared"`` caller."""
        address = self.address(scope)
        if address is None:
            return self._hash("shared", b"")
        return self._hash("address", address.encode())

    def _hash(self, kind: str, value: bytes) -> Identity:
        hasher = self._hashers[kind].copy()
        hasher.update(value)
        if not self._earlier:
            return Identity(kind, hasher.hexdigest())
        earlier: list[str] = []
        for hashers in self._earlier:
            other = hashers[kind].copy()
            other.update(value)
            earlier.append(other.hexdigest())
        return Identity(kind, hasher.hexdigest(), tuple(earlier))


def bearer_token(scope: MutableMapping[str, Any]) -> bytes | None:
    """The token of ``Authorization: Bearer`` (RFC 6750, the scheme in any case); ``None`` without a token."""
    for name, value in scope.get("headers") or ():
        if name == AUTHORIZATION:
            return bearer_token_of(value)
    return None


def bearer_token_of(authorization: bytes) -> bytes | None:
    """The token in a value of ``Authorization``; ``None`` for another scheme, and without a token."""
    if authorization[:7] != b"Bearer " and (
        authorization[:6].lower() != b"bearer" or authorization[6:7] not in (b" ", b"\t")
    ):
        return None
    return authorization[7:].strip() or None


def header(scope: MutableMapping[str, Any], name: bytes) -> bytes | None:
    """The first value of a request header; ``None`` without one.

    :param name: the header's name in lower case, as in an ASGI scope.
    """
    for key, value in scope.get("headers") or ():
        if key == name:
            return value  # type: ignore[no-any-return]
    return None


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))


def environment_pepper() -> bytes:
    """The value of ``FLEXMW_PEPPER``; empty without it. Bytes that are not UTF-8 count as they are."""
    return os.environ.get(PEPPER_VARIABLE, "").encode("utf-8", "surrogateescape")


def _raw(pepper: object) -> bytes:
    """A pepper as bytes; empty for a value that cannot be a pepper."""
    if pepper is None:
        return _LABEL
    if isinstance(pepper, bytes):
        return pepper
    with suppress(UnicodeEncodeError):
        return pepper.encode() if isinstance(pepper, str) else b""
    return b""


def _hashers(pepper: bytes) -> dict[str, blake2b]:
    key = pepper if len(pepper) <= 64 else blake2b(pepper).digest()
    return {kind: blake2b(key=key, digest_size=16, person=kind.encode()) for kind in _KINDS}
