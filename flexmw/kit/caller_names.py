"""Read the name of a caller from a request, in the forms of ``RateLimit(key=...)`` and ``Idempotency(caller=...)``.

>>> scope = {"type": "http", "headers": [(b"cookie", b"theme=dark; session=s-1")], "state": {"tenant": "acme"}}
>>> key_function("cookie:session")(scope), key_function("state:tenant")(scope), key_function("user")(scope)
(b's-1', 'acme', None)
>>> raw_name("acme", "RateLimit(key=...)"), raw_name(42, "RateLimit(key=...)")
(b'acme', b'42')
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from flexmw.errors import ConfigError
from flexmw.kit.asgi import Scope
from flexmw.kit.identity import bearer_token, header

__all__ = ["MissingKey", "cookies", "key_function", "raw_name"]

_LOGGERS: Final = {"RateLimit": "flexmw.ratelimit", "Idempotency": "flexmw.idempotency"}

_PATIENCE: Final = {"user": 5, "state": 5, "header": 100, "cookie": 100, "": 100}
"""How many requests without the value cause a warning, if no request had the value before. Requests before a login may
lack a user."""

_HINTS: Final = {
    "user": "Authentication sets the user: add this component inside of it (app.add_middleware before that of the "
    "authentication), not around the app.",
    "state": "Whatever sets the value has to run outside of this component.",
    "header": "Is the name right?",
    "cookie": "Is the name right?",
    "": "The function returns nothing.",
}


def key_function(key: object) -> Callable[[Scope], Any] | None:
    """The function behind ``"bearer"``, ``"address"``, ``"user"``, ``"header:<name>"``, ``"cookie:<name>"``,
    ``"state:<name>"`` or a function; ``None`` for any other value."""
    if callable(key):
        return key
    if not isinstance(key, str):
        return None
    if key in _NAMED:
        return _NAMED[key]
    kind, _, name = key.partition(":")
    if not name:
        return None
    if kind == "header":
        raw = name.lower().encode("latin-1", "replace")
        return lambda scope: header(scope, raw)
    if kind == "cookie":
        wanted = name.encode("latin-1", "replace")
        return lambda scope: _cookie(scope, wanted)
    if kind == "state":
        return lambda scope: _item(scope.get("state"), name)
    return None


def raw_name(value: object, option: str) -> bytes:
    """The name of a caller as bytes; empty if the request has no name.

    :param value: what a function of the application returned: ``None``, bytes, a text, a number, a UUID, another value
        whose class says how it is written (``__str__``), or a tuple of these.
    :param option: the option's name for the error.
    :raises ConfigError: for a value whose text is not the name of one caller, such as ``True`` or any object.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if value is None or value is False:
        return b""
    if isinstance(value, tuple):
        parts = [raw_name(part, option) for part in cast("tuple[object, ...]", value)]
        return b"".join(b"%d:%s," % (len(part), part) for part in parts)
    if value is True or (type(value).__str__ is object.__str__ and not isinstance(value, (int, float))):
        expected = "a function that returns the name of the caller (a text, bytes, a number or a UUID), or None"
        raise ConfigError(option, f"a function that returned a {type(value).__name__}", expected)
    return str(value).encode("utf-8", "surrogatepass")


def cookies(scope: Scope) -> list[tuple[bytes, bytes]]:
    """The cookies of a request, in their order. HTTP/2 may split them over several header lines."""
    pairs: list[tuple[bytes, bytes]] = []
    for name, value in scope.get("headers") or ():
        if name == b"cookie":
            for part in value.split(b";"):
                key, _, text = part.strip().partition(b"=")
                pairs.append((key.strip(), text.strip()))
    return [pair for pair in pairs if pair != (b"", b"")]


class MissingKey:
    """Logs one warning if no request has the key of callers: a component that counts all callers as one shows no other
    sign of the mistake.

    :param key: the option's value.
    :param text: the message, with places for the option's value, what is missing, and the hint.
    """

    __slots__ = ("_key", "_kind", "_left", "_text", "is_over")

    def __init__(self, key: object, text: str) -> None:
        self._key, self._text = key, text
        self._kind = key.partition(":")[0] if isinstance(key, str) else ""
        self._left = _PATIENCE.get(self._kind, 0)
        self.is_over = self._kind not in _PATIENCE
        """True after a request with the key, and after the warning."""

    def count(self, scope: Scope) -> None:
        """Count a request without the key."""
        if self.is_over:
            return
        self._left -= 1
        # An authentication middleware sets a user for every request, also an anonymous one.
        is_outside = self._kind == "user" and "user" not in scope
        if self._left > 0 and not is_outside:
            return
        self.is_over = True
        missing = "the scope has no user" if is_outside else "the key was not there in any request so far"
        logger = logging.getLogger(_LOGGERS[self._text.partition("(")[0]])
        logger.warning("%s This is logged once.", self._text.format(self._key, missing, _HINTS[self._kind]))


def _cookie(scope: Scope, name: bytes) -> bytes | None:
    """The value of a cookie; ``None`` if the cookie is missing, or has two different values: the app may then read
    another value than this function."""
    values = {value for key, value in cookies(scope) if key == name}
    return values.pop() if len(values) == 1 else None


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
