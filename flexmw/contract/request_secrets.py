"""The credentials of one request, and their removal from a text such as the message of an exception. Pure.

>>> secrets = secrets_in([("authorization", "Basic YWRhOmh1bnRlcjI=")], "page=2&%74oken=s3cr3t-token-1")
>>> remove_secrets("hunter2 and S3CR3T-TOKEN-1 and s3cr3t-to...", secrets)
'*** and *** and ***...'
>>> safe_query("page=2&%74oken=s3cr3t;a=1")
'page=2&%74oken=REDACTED;a=1'
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from string import ascii_lowercase, ascii_uppercase
from typing import Final
from urllib.parse import quote, quote_plus, unquote_plus

from flexmw.contract.redact import redact
from flexmw.contract.secret_families import SECRET_HEADER, SECRET_PARAMETER

__all__ = ["LEFT_OUT", "is_secret_name", "remove_secrets", "safe_query", "secrets_in"]

LEFT_OUT: Final = "<left out: the credentials of the request are too long to be removed from a text>"
"""What :func:`remove_secrets` returns where it cannot keep its bounds. No real request comes near them."""

_MAX_SECRETS: Final = 512
_MAX_CHARACTERS: Final = 32 * 1024
"""All secrets of a request together. Browsers and servers refuse headers long before."""

_SHORTEST: Final = 6
_SHORTEST_PASSWORD: Final = 4
_PART: Final = 8
"""Characters of a token that are recognised where the text holds only a part of it."""

_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=:@!$%*-]{12,}")
_HAS_DIGIT: Final = re.compile(r"[0-9]")
_SEPARATORS: Final = re.compile(r"([&;])")
_PARAMETER: Final = re.compile(r"[\s,;]+")
_NOT_A_WORD: Final = re.compile(r"[^a-z0-9]+")


def is_secret_name(name: str) -> bool:
    """True if a query parameter of this name carries a credential or a signature, however the name is written."""
    plain = _NOT_A_WORD.sub("_", unquote_plus(name[:200]).lower()).strip("_")
    return SECRET_PARAMETER.search(plain) is not None


def secrets_in(headers: Iterable[tuple[str, str]], query: str = "") -> tuple[str, ...]:
    """The credentials of a request, as sent and as decoded, longest first, so that no credential is replaced in part.

    These count: every header that is named like a credential, each word and parameter of it, each value of a cookie,
    user and password of ``Basic``, and each query parameter that :func:`is_secret_name` knows.

    :param headers: names in lower case.
    :param query: the raw query string.
    """
    secrets: set[str] = set()
    for name, value in headers:
        if SECRET_HEADER.search(name):
            secrets.update(_forms(value))
    for part in _SEPARATORS.split(query)[::2]:
        name, _, value = part.partition("=")
        if len(value) >= _SHORTEST and is_secret_name(name):
            secrets.update((value, unquote_plus(value)))
    kept = (value for value in secrets if len(value) >= _SHORTEST)
    return tuple(sorted(kept, key=len, reverse=True)) + tuple(_short_passwords(secrets))


class _Password(str):
    """A password of four or five characters: removed where it stands alone."""

    __slots__ = ()


def _short_passwords(secrets: Iterable[str]) -> Iterator[str]:
    return (value for value in secrets if isinstance(value, _Password) and len(value) < _SHORTEST)


def _forms(value: str) -> Iterator[str]:
    """The value of a header, its words, the values of its parameters, and the decoded credentials of Basic
    authentication."""
    yield value
    yield value.strip('"')
    words = value.split()
    yield from words
    for part in _PARAMETER.split(value):
        text = part.partition("=")[2].strip('"')
        if text:
            yield text
            yield unquote_plus(text)
    if len(words) == 2 and words[0].lower() == "basic":
        try:
            user, _, password = b64decode(words[1], validate=True).decode("utf-8", "replace").partition(":")
        except (Base64Error, ValueError):
            return
        yield f"{user}:{password}"
        if len(password) >= _SHORTEST_PASSWORD:
            yield _Password(password)
            yield quote(password, safe="")
            yield quote_plus(password, safe="")


def remove_secrets(text: str, secrets: Sequence[str]) -> str:
    """The text with ``***`` in place of each secret, in any case, and of each part of a token.

    A part has at least eight characters: a text that was cut holds only the beginning of a token. The cost is linear in
    the text and in the secrets.

    :param text: bounded by the caller: a text is cut before secrets are removed from it.
    :param secrets: of :func:`secrets_in`.
    """
    if not secrets:
        return text
    if len(secrets) > _MAX_SECRETS or sum(map(len, secrets)) > _MAX_CHARACTERS:
        return LEFT_OUT
    folded = text.translate(_LOWER)
    spans: list[tuple[int, int]] = []
    parts: set[str] = set()
    for secret in secrets:
        plain = secret.translate(_LOWER)
        alone = len(plain) < _SHORTEST
        start = folded.find(plain)
        while start >= 0:
            end = start + len(plain)
            if not (alone and (folded[max(0, start - 1) : start].isalnum() or folded[end : end + 1].isalnum())):
                spans.append((start, end))
            start = folded.find(plain, end)
        if _TOKEN.fullmatch(secret) and _HAS_DIGIT.search(secret):
            parts.update(plain[index : index + _PART] for index in range(len(plain) - _PART + 1))
    if parts:
        spans += (
            (index, index + _PART) for index in range(len(folded) - _PART + 1) if folded[index : index + _PART] in parts
        )
    return _masked(text, spans) if spans else text


def _masked(text: str, spans: list[tuple[int, int]]) -> str:
    """The text with one ``***`` in place of each run of spans that overlap."""
    spans.sort()
    merged = [spans[0]]
    for start, end in spans[1:]:
        if start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    edges = [(0, 0), *merged, (len(text), len(text))]
    return "***".join(text[before[1] : after[0]] for before, after in pairwise(edges))


def safe_query(query: str) -> str:
    """The query with the values of parameters that carry credentials or signatures replaced by ``REDACTED``."""
    parts = _SEPARATORS.split(query)
    for index in range(0, len(parts), 2):
        name, equals, _ = parts[index].partition("=")
        if equals and is_secret_name(name):
            parts[index] = f"{name}=REDACTED"
        elif len(parts[index]) > _SHORTEST:
            parts[index] = redact(parts[index])
    return "".join(parts)
