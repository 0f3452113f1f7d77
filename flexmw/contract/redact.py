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
from collections.abc import Iterator, Sequence
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits
from typing import Final

from flexmw.contract.secret_families import NAMED, SHAPES, Family

__all__ = ["ACCOUNTS", "CREDENTIALS", "redact"]

CREDENTIALS: Final = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token")
"""The request headers in which a caller shows who it is, in lower case."""

ACCOUNTS: Final = ("openai-organization", "openai-project", "x-goog-user-project")
"""The request headers by which one credential chooses whose limits a request counts against, in lower case. Not every
header that names a project does: a request with another one would begin without knowing the limit that it shares."""

_USER_INFO: Final = re.compile(r"://[^\s/?#]+@")
_USER: Final = re.compile(r"://[^\s/?#@:\"'<>]{0,256}:(?!\d{1,5}[/?#])")
_URL: Final = re.compile(r"://[^\s\"'<>]*+")
_MORE_USER_INFO: Final = re.compile(r"[^\s/?#]+@")
_LONGEST_PASSWORD: Final = 512
_FIRST: Final = f"{ascii_letters}{digits}-"


class Rule:
    """One alternation of families.

    Families with one name, or with one first character, share a branch. Tried: one branch for each family. At each
    beginning of a word the matcher went through all of them, and 64 KB of hyphens took 50 ms.

    :param families: in the order in which they are tried, as far as they share a branch.
    :param begins: pattern of what every family begins with.
    :param folds: match with the text in lower case. The flag ``IGNORECASE`` would make a search five times slower.
    :ivar pattern: the alternation. An empty group after what is shown of each family tells the family.
    """

    __slots__ = ("_families", "_folds", "pattern")

    def __init__(self, families: Sequence[Family], *, begins: str, folds: bool = False) -> None:
        self._families: dict[str, Family] = {}
        branches: dict[str, list[str]] = {}
        for family in families:
            for beginning, shown, hidden in _beginnings(family):
                group = f"f{len(self._families)}"
                self._families[group] = family
                branches.setdefault(beginning, []).append(f"{shown}(?P<{group}>){hidden}")
        joined = "|".join(f"{beginning}(?:{'|'.join(rest)})" for beginning, rest in branches.items())
        self.pattern = re.compile(rf"(?<![A-Za-z0-9])(?={begins})(?:{joined})")
        self._folds = folds

    def apply(self, text: str) -> str:
        """The text with ``***`` in place of each secret."""
        parts: list[str] = []
        copied = 0
        for match in self.pattern.finditer(text.translate(_LOWER) if self._folds else text):
            group = match.lastgroup or ""
            family = self._families[group]
            if family.check is None or family.check(match[0]):
                parts += text[copied : match.start(group) if family.shown else match.start()], "***"
                copied = match.end()
        return "".join(parts) + text[copied:] if parts else text


def _beginnings(family: Family) -> Iterator[tuple[str, str, str]]:
    """For each beginning of a family: the beginning, the rest of what is shown, and the rest of the secret."""
    if family.named:
        yield family.named, family.shown, family.hidden
        return
    pattern = family.shown or family.hidden
    end = pattern.index("]") + 1 if pattern.startswith("[") else 1
    for first in filter(re.compile(pattern[:end]).fullmatch, _FIRST):
        yield (first, pattern[end:], family.hidden) if family.shown else (first, "", pattern[end:])


_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)
"""To lower case in ASCII alone: no character becomes two."""

RULES: Final = (
    Rule(NAMED, begins="[abcehikmoprstux]", folds=True),
    Rule(SHAPES, begins="[A-Za-z0-9]|-----B"),
)


def redact(text: str, *, limit: int = 2048) -> str:
    """``text`` with URL user info, bearer tokens, API keys and cloud credentials replaced by ``***``.

    Looks at the first ``limit`` characters and cuts the rest, so that the cost is bounded whatever the input. A URL
    that the cut goes through is dropped, because its password may stand before the cut and the ``@`` behind it.
    """
    cut = text if len(text) <= limit else _cut(text[:limit])
    if "://" in cut and "@" in cut:
        cut = _without_passwords(_USER_INFO.sub("://***@", cut))
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
    copied = 0
    for url in _URL.finditer(text):
        start, end = url.span()
        user = _USER.search(text, start, end) if "@" in url[0] else None
        while user is not None:
            start = user.start() + len("://")
            at_sign = text.rfind("@", user.end() + 1, min(end, user.end() + _LONGEST_PASSWORD + 1))
            if at_sign >= 0:
                parts += text[copied:start], "***@"
                more = _MORE_USER_INFO.match(text, at_sign + 1)
                copied = start = at_sign + 1 if more is None else more.end()
            user = _USER.search(text, start, end)
    return "".join(parts) + text[copied:]
