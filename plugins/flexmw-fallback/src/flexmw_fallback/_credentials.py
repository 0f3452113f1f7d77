"""What belongs to one upstream alone: credentials, cookies, keys, and the account that a caller acts for. Pure.

A header shows a credential by the words in its name (``x-api-key``, ``Ocp-Apim-Subscription-Key``, ``x-acme-token``),
not by a list of names. A value counts too: a header of any name that holds a token of a removed one is removed.

>>> pairs = [("Authorization", "Bearer sk-abcdef12"), ("x-copy", "token=sk-abcdef12"), ("accept", "*/*")]
>>> without_credentials(pairs)
[('accept', '*/*')]
>>> query_without_credentials("key=abc&alt=sse&api-version=1")
'alt=sse&api-version=1'
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote_plus

from flexmw.contract import ACCOUNTS, CREDENTIALS, is_secret_name, lasting_part, shows_caller

__all__ = ["KEY", "derived_key", "digest_of", "is_own", "query_without_credentials", "without_credentials"]

KEY: Final = "idempotency-key"

_REQUEST: Final = frozenset({"host", "content-length", "transfer-encoding"})
"""What belongs to one request and not to an account: the new request has its own."""

_SHORTEST_TOKEN: Final = 8
"""A shorter word of a credential is too common to be looked for in other values."""

_NOT_IN_TOKEN: Final = re.compile(r"[\s,;\"=]+")

Pairs = Sequence[tuple[str, str]]


def is_own(name: str) -> bool:
    """Whether a header with this name belongs to one upstream alone."""
    lower = name.lower()
    return lower in CREDENTIALS or "cookie" in lower or shows_caller(lower) or is_secret_name(lower)


def without_credentials(pairs: Pairs) -> list[tuple[str, str]]:
    """The headers of a request without what belongs to the upstream that it was made for."""
    own = [(name, value) for name, value in pairs if name.lower() not in _REQUEST and is_own(name)]
    tokens = {word for _, value in own for word in _tokens(value)}
    return [
        (name, value)
        for name, value in pairs
        if name.lower() in _REQUEST or not (is_own(name) or any(token in value for token in tokens))
    ]


def _tokens(value: str) -> Iterable[str]:
    yield from (word for word in _NOT_IN_TOKEN.split(value) if len(word) >= _SHORTEST_TOKEN)


def query_without_credentials(query: str) -> str:
    """A query string without the parameters that carry a credential, a signature or an account."""
    kept = [part for part in query.split("&") if not _is_own_parameter(part.partition("=")[0])]
    return "&".join(kept)


def _is_own_parameter(name: str) -> bool:
    plain = unquote_plus(name).lower()
    return is_secret_name(plain) or shows_caller(plain)


def derived_key(key: str, origin: str) -> str:
    """The idempotency key for another upstream than the one that the caller has named the key for."""
    return hashlib.sha256(f"{key}\0{origin}".encode()).hexdigest()


def digest_of(pairs: Iterable[tuple[str, str]]) -> bytes:
    """A digest of the credentials among headers, and of the account that a request chooses among those of a credential:
    circuits are kept for each of them, and never hold one."""
    digest = hashlib.blake2b(digest_size=16)
    for name in (*CREDENTIALS, *ACCOUNTS):
        for given, value in pairs:
            if given.lower() == name:
                digest.update(f"{name}\0{lasting_part(value)}\0".encode("utf-8", "replace"))
    return digest.digest()
