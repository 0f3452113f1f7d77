"""Keyed hashes of idempotency keys and requests: the store holds no key and no path in the clear.

>>> hasher = KeyHasher("a secret of this deployment")
>>> hasher.of_key("8e03978e") == KeyHasher("a secret of this deployment").of_key("8e03978e")
True
>>> hasher.of_key("8e03978e") == KeyHasher().of_key("8e03978e")
False

With a pepper a hash is HMAC-SHA256 (RFC 2104), else SHA-256. Without a pepper, whoever reads the store can test
guesses: a random key cannot be guessed, an order number can.
"""

from __future__ import annotations

import hmac
import os
from hashlib import sha256
from typing import Any, Final

from flexmw.kit.identity import PEPPER_VARIABLE

__all__ = ["KEY_DIGITS", "KeyHasher"]

KEY_DIGITS: Final = 40
"""Hexadecimal digits of the hash of a key: 160 bits."""

_KEY: Final = b"flexmw idempotency key\0"
_REQUEST: Final = b"flexmw idempotency request\0"
"""The contexts. A key and a request of the same text have different hashes."""


class KeyHasher:
    """Hashes the keys and the requests of one app.

    :param pepper: the key of the hash. ``None`` takes ``FLEXMW_PEPPER`` from the environment; without both, the hash
        has no key.
    """

    __slots__ = ("_key", "_request")

    def __init__(self, pepper: str | bytes | None = None) -> None:
        secret = (os.environ.get(PEPPER_VARIABLE) or "") if pepper is None else pepper
        raw = secret.encode() if isinstance(secret, str) else secret
        self._key, self._request = _started(raw, _KEY), _started(raw, _REQUEST)

    def of_key(self, key: str) -> str:
        """The hash of a key, as 40 hexadecimal digits."""
        digest = self._key.copy()
        digest.update(key.encode("utf-8", "surrogatepass"))
        return str(digest.hexdigest()[:KEY_DIGITS])

    def of_request(self, fingerprint: str) -> str:
        """The hash of a request's fingerprint, as 64 hexadecimal digits."""
        digest = self._request.copy()
        digest.update(fingerprint.encode())
        return str(digest.hexdigest())


def _started(pepper: bytes, context: bytes) -> Any:
    """A hash object that has read the context."""
    return hmac.new(pepper, context, sha256) if pepper else sha256(context)
