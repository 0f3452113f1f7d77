"""Take secrets out of a text that a person or a log will read.

>>> redact("cannot reach redis://app:hunter2@cache:6379 with sk-live-abcdef123456")
'cannot reach redis://***@cache:6379 with sk-***'
>>> redact("GET /v1/models?api_key=abc123&limit=2")
'GET /v1/models?api_key=***&limit=2'
>>> redact("Authorization: Digest username=\\"ada\\", response=\\"6629fae4\\"")
'Authorization: Digest ***'

A text is read three times, each time in linear time: for the passwords of URLs, for values whose name tells that they
are secret, and for the shapes of keys. The last two are one alternation each, of the rows in
:mod:`flexmw.contract.secret_families`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_lowercase, ascii_uppercase
from typing import Final

from flexmw.contract.secret_families import NAMED, SHAPES, Family

__all__ = ["CREDENTIALS", "redact"]

CREDENTIALS: Final = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token")
"""The request headers in which a caller shows who it is, in lower case."""

_USER_INFO: Final = re.compile(r"(://)[^\s/?#]+@")
_USER: Final = re.compile(r"[^\s/?#@:\"'<>]{0,256}:(?!\d{1,5}[/?#])")
_URL_CHARACTERS: Final = re.compile(r"[^\s\"'<>]*")
_MORE_USER_INFO: Final = re.compile(r"[^\s/?#]+@")
_LONGEST_PASSWORD: Final = 512


class Rule:
    """One alternation of families.

    :param folds: match with the text in lower case. The flag ``IGNORECASE`` would make a search five times slower.
    :ivar pattern: the alternation. An empty group after what is shown of each family tells the family.
    """

    __slots__ = ("_checks", "_folds", "pattern")

    def __init__(self, families: Sequence[Family], *, folds: bool = False) -> None:
        branches = "|".join(f"{family.shown}(?P<f{number}>){family.hidden}" for number, family in enumerate(families))
        self.pattern = re.compile(rf"(?<![A-Za-z0-9])(?=[A-Za-z0-9-])(?:{branches})")
        self._checks = {f"f{number}": family.check for number, family in enumerate(families) if family.check}
        self._folds = folds

    def apply(self, text: str) -> str:
        """The text with ``***`` in place of each secret."""
        parts: list[str] = []
        copied = 0
        for match in self.pattern.finditer(text.translate(_LOWER) if self._folds else text):
            group = match.lastgroup or ""
            check = self._checks.get(group)
            if check is None or check(match[0]):
                parts += text[copied : match.start(group)], "***"
                copied = match.end()
        return "".join(parts) + text[copied:] if parts else text


_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)
"""To lower case in ASCII alone: no character becomes two."""

RULES: Final = (Rule(NAMED, folds=True), Rule(SHAPES))


def redact(text: str, *, limit: int = 2048) -> str:
    """``text`` with URL user info, bearer tokens, API keys and cloud credentials replaced by ``***``.

    Looks at the first ``limit`` characters and cuts the rest, so that the cost is bounded whatever the input. A URL
    that the cut goes through is dropped, because its password may stand before the cut and the ``@`` behind it.
    """
    cut = text if len(text) <= limit else _cut(text[:limit])
    if "://" in cut and "@" in cut:
        cut = _without_passwords(_USER_INFO.sub(r"\1***@", cut))
    for rule in RULES:
        cut = rule.apply(cut)
    return cut if len(text) <= limit else f"{cut}..."


def _cut(text: str) -> str:
    last = text.split()[-1] if text.strip() and not text[-1].isspace() else ""
    _, mark, rest = last.partition("://")
    return f"{text[: len(text) - len(rest)]}***" if mark else text


def _without_passwords(text: str) -> str:
    """The text without the passwords of URLs that hold an unescaped slash. ``host:8080/...@...`` is no password.

    A loop instead of a pattern: after each ``://`` a pattern would have to read up to the longest password again.
    """
    parts: list[str] = []
    copied = end = 0
    start = text.find("://")
    while start >= 0:
        start += 3
        if start > end:  # the characters of one URL are read once, however many `://` it holds
            match = _URL_CHARACTERS.match(text, start)
            end = match.end() if match is not None else start
        user = _USER.match(text, start)
        if user is not None and user.end() <= end:
            at_sign = text.rfind("@", user.end() + 1, min(end, user.end() + _LONGEST_PASSWORD + 1))
            if at_sign >= 0:
                parts += text[copied:start], "***@"
                more = _MORE_USER_INFO.match(text, at_sign + 1)
                copied = start = at_sign + 1 if more is None else more.end()
        start = text.find("://", start)
    return "".join(parts) + text[copied:]
