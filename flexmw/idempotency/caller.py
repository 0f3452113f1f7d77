"""The caller of a request, as part of the store keys: the same idempotency key of two callers is two keys.

>>> callers = CallerNames("keys", caller=None, hasher=CallerHasher())
>>> callers.shown({"headers": [(b"authorization", b"Bearer sk-1")]}).is_lasting
True
>>> callers.shown({"headers": [(b"cookie", b"session=1")]}).is_lasting
False
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeAlias, cast

from flexmw.contract import CREDENTIALS
from flexmw.contract.credentials import is_lasting_scheme, is_signature, is_tenant, shows_caller, split_query
from flexmw.kit.app_function import finished
from flexmw.kit.asgi import Scope
from flexmw.kit.caller_names import MissingKey, cookies, key_function, raw_name
from flexmw.kit.exchange import Header
from flexmw.kit.identity import CallerHasher

__all__ = ["CALLER_FORMS", "CallerFunction", "CallerNames", "ShownCaller", "caller_function", "changes"]

CallerFunction: TypeAlias = Callable[[Scope], Any | Awaitable[Any]]

CALLER_FORMS: Final = "'user', 'header:<name>', 'cookie:<name>', 'state:<name>' or a function of the scope"

_AUTHORIZATION: Final = b"authorization"
_BEARER: Final = b"Bearer "
_HOST: Final = b"host"
_PORT: Final = re.compile(rb":[0-9]{1,5}$")
"""The port of a host. It belongs to a process and not to a tenant: a restarted server may have another one."""
_LONGEST_NAME: Final = 64
"""Bytes of the longest header name whose role is remembered."""
_MAX_ROLES: Final = 1024
"""Header names whose roles are remembered."""

_OTHER, _TENANT, _WEAK, _STRONG, _SIGNED, _COOKIE = range(6)
"""Roles of a header: not about the caller, which is 0; what the caller acts for; a credential by its name; one of the
usual credentials; made anew for each request; cookies."""

_CHANGING: Final = frozenset({_SIGNED, _COOKIE})
"""Roles of headers that may change between the attempts of a call."""


class ShownCaller(NamedTuple):
    """What a request shows of its caller.

    :param lines: the header lines, cookies and query parameters that name the caller.
    :param tenant: the header lines that name what the caller acts for: host, organization.
    :param is_lasting: the caller shows the same in every attempt of a call, as far as the names tell.
    """

    lines: list[Header]
    tenant: list[Header]
    is_lasting: bool


_shown: Final[Callable[[tuple[list[Header], list[Header], bool]], ShownCaller]] = partial(
    cast("Any", tuple.__new__), ShownCaller
)
"""Makes a :class:`ShownCaller` without a call of a function in Python."""


class CallerNames:
    """The beginning of the store keys of a caller. The store sees a keyed hash of the caller and no credential.

    A caller is identified by ``caller(scope)``, else by all that the request shows: every header that is named like a
    credential, cookies, the parameters of a signed URL, a TLS client certificate, the host and the organization;
    without a credential, by the client address and the host. All of it counts: two callers behind one address, or
    behind one proxy that signs in for them, must never get each other's responses.

    Beside one of the usual credential headers only cookies that are named like a credential count, because others
    change with every response.

    :param prefix: the beginning of all store keys of the app.
    :param caller: a function that names the caller, plain or async; nothing from it means the credentials.
    :param hasher: hashes names and credentials, and finds the client address.
    :param key_header: the header of the key, which names no caller.
    """

    def __init__(
        self, prefix: str, *, caller: CallerFunction | None, hasher: CallerHasher, key_header: bytes = b""
    ) -> None:
        self._prefix, self._caller, self._hasher, self._key_header = prefix, caller, hasher, key_header
        self.has_function = caller is not None

    def shown(self, scope: Scope) -> ShownCaller:
        """What a request shows of its caller."""
        lines: list[Header] = []
        tenant: list[Header] = []
        is_lasting, is_strong, has_cookie = True, False, False
        roles = _ROLES
        for pair in scope["headers"]:
            role = roles[pair[0]]
            if not role:
                continue
            name, value = pair
            if not value or name == self._key_header:
                continue
            if role == _TENANT:
                if name.endswith(_HOST):
                    host = value.lower()
                    pair = name, _PORT.sub(b"", host) if b":" in host else host
                tenant.append(pair)
            elif role == _COOKIE:
                has_cookie = True
            else:
                lines.append(pair)
                is_strong |= role == _STRONG
                if role == _SIGNED or (
                    name == _AUTHORIZATION and not (value.startswith(_BEARER) or is_lasting_scheme(value))
                ):
                    is_lasting = False
        if has_cookie:
            pairs = sorted(cookies(scope))
            counted = (
                [pair for pair in pairs if shows_caller(pair[0].decode("latin-1").lower())] if is_strong else pairs
            )
            lines += [(b"cookie " + name, value) for name, value in counted]
            is_lasting &= not counted
        if scope.get("query_string"):
            _, signed = split_query(scope["query_string"])
            lines += [(b"query", part) for part in signed]
            is_lasting &= not signed
        extensions = scope.get("extensions")
        if extensions and "tls" in extensions:
            lines += _certificate(extensions["tls"])
        return _shown((lines, tenant, is_lasting))

    async def digest(self, scope: Scope, shown: ShownCaller) -> tuple[str, bool]:
        """The keyed hash of the caller of a request, and whether ``caller`` has named the caller.

        :raises ConfigError: when ``caller`` returns what is not a name.
        """
        name = await self._name(scope) if self._caller is not None else b""
        if name:
            # A second hash, so that a name and a token of the same text are two callers.
            return blake2b(self._hasher.of_key(name).digest.encode(), digest_size=16).hexdigest(), True
        return self.shown_digest(scope, shown), False

    def shown_digest(self, scope: Scope, shown: ShownCaller) -> str:
        """The keyed hash of what a request shows of its caller."""
        lines = shown.lines or [(b"address", (self._hasher.address(scope) or "").encode())]
        digest = self._hasher.hasher()
        digest.update(b"\n".join([b"%s:%d:%s" % (name, len(value), value) for name, value in (*shown.tenant, *lines)]))
        return digest.hexdigest()

    def prefix(self, digest: str) -> str:
        """The beginning of the store keys. Its hash tag puts all keys of a caller on one node of a redis cluster."""
        return f"{self._prefix}:{{{digest}}}"

    def address(self, scope: Scope) -> str:
        """The client's address as text; empty if it is unknown."""
        return self._hasher.address(scope) or ""

    def comes_through_proxy(self, scope: Scope) -> bool:
        """Whether a trusted proxy has sent the request."""
        return self._hasher.proxies.trusts_peer(scope)

    async def _name(self, scope: Scope) -> bytes:
        assert self._caller is not None  # noqa: S101
        option = "Idempotency(caller=...)"
        return raw_name(await finished(self._caller(scope), option), option)


def caller_function(caller: object) -> CallerFunction | None:
    """The function behind the option ``caller``; ``None`` for a form that does not exist.

    A text form warns once when the name was never there.
    """
    function = key_function(caller)
    if function is None or caller in ("bearer", "address"):
        return None
    if callable(caller):
        return function
    missing = MissingKey(caller, "Idempotency(caller={!r}): {}; the credentials name the caller instead. {}")

    def counted(scope: Scope) -> Any:
        value = function(scope)
        if value is None or value in ("", b""):
            missing.count(scope)
        else:
            missing.is_over = True
        return value

    return counted


class _Roles(dict[bytes, int]):
    """The role of each header name. Lookups of long names remember nothing."""

    def __missing__(self, name: bytes) -> int:
        role = _role(name)
        if len(name) <= _LONGEST_NAME:
            if len(self) >= _MAX_ROLES:
                self.clear()
            self[name] = role
        return role


_ROLES: Final = _Roles()


def changes(name: bytes) -> bool:
    """Whether a header with this name may change between the requests of a caller: a cookie, or a signature."""
    return _ROLES[name] in _CHANGING


def _role(name: bytes) -> int:
    text = name.decode("latin-1").lower()
    if text == "cookie":
        return _COOKIE
    if text in CREDENTIALS:
        return _STRONG
    if not shows_caller(text):
        return _OTHER
    if is_tenant(text):
        return _TENANT
    return _SIGNED if is_signature(text) else _WEAK


def _certificate(tls: Any) -> list[Header]:
    """The client certificate of a TLS connection, by the ``tls`` extension of ASGI."""
    chain = tls.get("client_cert_chain") or ()
    certificate = next(iter(chain), None) or tls.get("client_cert_name")
    if isinstance(certificate, str):
        certificate = certificate.encode("utf-8", "surrogatepass")  # a name may hold any 16 bits: BMPString of X.509
    return [(b"tls", bytes(certificate))] if certificate else []
