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

from hashlib import sha256
from typing import Final

from flexmw.kit.identity import environment_pepper

__all__ = ["KEY_DIGITS", "KeyHasher"]

KEY_DIGITS: Final = 40
"""Hexadecimal digits of the hash of a key: 160 bits."""

_KEY: Final = b"flexmw idempotency key\0"
_REQUEST: Final = b"flexmw idempotency request\0"
"""The contexts. A key and a request of the same text have different hashes."""


_BLOCK_BYTES: Final = 64
_PADS: Final = tuple(bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
"""The block of SHA-256, and the inner and outer pad of RFC 2104 section 2, as tables for ``bytes.translate``."""


class KeyHasher:
    """Hashes the keys and the requests of one app.

    :param pepper: the key of the hash. ``None`` takes ``FLEXMW_PEPPER`` from the environment; without both, the hash
        has no key.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, pepper: str | bytes | None = None) -> None:
        secret = environment_pepper() if pepper is None else pepper
        raw = secret.encode() if isinstance(secret, str) else secret
        if len(raw) > _BLOCK_BYTES:
            raw = sha256(raw).digest()
        block = raw.ljust(_BLOCK_BYTES, b"\0")
        self._inner = sha256(block.translate(_PADS[0])) if raw else sha256()
        self._outer = sha256(block.translate(_PADS[1])) if raw else None

    def of_key(self, key: str) -> str:
        """The hash of a key, as 40 hexadecimal digits."""
        return self._hash(_KEY + key.encode("utf-8", "surrogatepass"))[:KEY_DIGITS]

    def of_request(self, fingerprint: str) -> str:
        """The hash of a request's fingerprint, as 64 hexadecimal digits."""
        return self._hash(_REQUEST + fingerprint.encode())

    def _hash(self, text: bytes) -> str:
        # The functions of the module hmac take two to four times as long for such a short text.
        inner = self._inner.copy()
        inner.update(text)
        if self._outer is None:
            return inner.hexdigest()
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.hexdigest()
