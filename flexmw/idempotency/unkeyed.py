"""Unkeyed requests: most requests have no key, and this module recognises them by the names of their headers.

>>> unkeyed = UnkeyedRequests((b"idempotency-key",))
>>> scope = {"type": "http", "headers": [(b"accept", b"*/*"), (b"authorization", b"Bearer sk-1")]}
>>> unkeyed.recognises(scope)
True
>>> scope["headers"].append((b"idempotency-key", b"k"))
>>> unkeyed.recognises(scope)
False
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flexmw.contract.credentials import is_lasting_scheme, split_query
from flexmw.idempotency.caller import changes
from flexmw.kit.asgi import Scope

__all__ = ["UnkeyedRequests"]

_AUTHORIZATION: Final = b"authorization"
_BEARER: Final = b"Bearer "

_MAX_NAME_BYTES: Final = 64
"""Bytes of the longest header name that is remembered."""
_MAX_NAMES: Final = 1024
"""Header names that are remembered."""


class UnkeyedRequests:
    """Recognises requests that a component has nothing to do for but to announce that it honours keys.

    Such a request has no key, no field of a continuation and no retry count, and its caller shows the same in every
    request. Nothing of the caller is hashed. A request that is not recognised may be such a request all the same.

    :param fields: the names of the headers that the component reads, in lower case.
    """

    __slots__ = ("_fields", "_names")

    def __init__(self, fields: Iterable[bytes]) -> None:
        self._fields = frozenset(fields)
        self._names: set[bytes] = set()
        """Names of headers that neither the component reads nor change between the requests of a caller."""

    def recognises(self, scope: Scope) -> bool:
        """Whether a request is one of these. A loop over the headers, because a dict of them costs more."""
        headers = scope["headers"]
        if type(headers) is not list:
            return False
        names, fields = self._names, self._fields
        try:
            for name, value in headers:
                if (
                    name not in names
                    and (name != _AUTHORIZATION or not (value.startswith(_BEARER) or is_lasting_scheme(value)))
                    and (name in fields or not self._learn(name))
                ):
                    return False
        except (AttributeError, TypeError):  # names or values that are not bytes: the exchange makes bytes of them
            return False
        query = scope.get("query_string")
        return not query or not split_query(query)[1]

    def _learn(self, name: bytes) -> bool:
        """Remember a name, unless a request with such a header needs a look of its own. Returns whether it does not."""
        if type(name) is not bytes or name == _AUTHORIZATION or name in self._fields or changes(name):
            return False
        if len(name) <= _MAX_NAME_BYTES:
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            self._names.add(name)
        return True
