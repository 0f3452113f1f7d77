"""Take secrets out of a text that a person or a log will read.

>>> redact("cannot reach redis://app:hunter2@cache:6379 with sk-live-abcdef123456")
'cannot reach redis://***@cache:6379 with sk-***'
>>> redact("GET /v1/models?api_key=abc123&limit=2")
'GET /v1/models?api_key=***&limit=2'
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["CREDENTIALS", "redact"]

CREDENTIALS: Final = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token")
"""The request headers in which a caller shows who it is, in lower case."""

_NAMES: Final = (
    r"(?i)(?<![a-z0-9])((?:x[_-])?api[_-]?key|(?:access|secret|private)[_-]?key|client[_-]?secret"
    r"|(?:access|auth|refresh|session|id)[_-]?token|password|passwd|secret|signature|sig)"
)
_PROSE: Final = r"(?:auth|authenticat(?:ion|ed)|authori[sz](?:ation|ed)|tokens?|credentials?)"
_RULES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    # In the header whatever follows the scheme is the token, in prose ("Bearer authentication is required") a word.
    (re.compile(r"(?i)\b(authorization[\"']?\s{0,3}[=:,]\s{0,3}b?[\"']?(?:bearer|basic))\s+[^\s\"',;*]+"), r"\1 ***"),
    (re.compile(rf"(?i)\b(bearer|basic)\s+(?!{_PROSE}[.,;:!?)]?(?:\s|$))[^\s\"',;*]{{6,}}"), r"\1 ***"),
    (re.compile(r"(://)[^\s/?#]+@"), r"\1***@"),
    # A password may hold an unescaped slash. `host:8080/...@...` is no password.
    (re.compile(r"(://)[^\s/?#@:\"'<>]{0,256}:(?!\d{1,5}[/?#])[^\s\"'<>]{1,512}@(?:[^\s/?#]+@)?"), r"\1***@"),
    (
        re.compile(
            r"(?<![A-Za-z0-9])(sk|pk|rk|gsk|xai|hf|gh[opsur]|github_pat|xox[abeprs]|glpat)([-_])"
            r"[A-Za-z0-9_-]{6,}"
        ),
        r"\1\2***",
    ),
    (re.compile(r"(?<![A-Za-z0-9])(AKIA|ASIA)[A-Z0-9]{12,}[A-Za-z0-9]*"), r"\1***"),
    (re.compile(r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{20,}"), "AIza***"),
    (re.compile(r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,512}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"), "eyJ***"),
    # In quotes, as in JSON, a repr or ASGI's header pairs: the value ends with its quote, not with a blank.
    (re.compile(_NAMES + r"([\"']?\s{0,3}[=:,]\s{0,3}b?)([\"'])(?:(?!\3)[^\\]|\\.)+"), r"\1\2\3***"),
    (re.compile(_NAMES + r"([\"']?\s{0,3}[=:]\s{0,3})(?!b[\"'])[^\s&\"',;}]+"), r"\1\2***"),
)


def redact(text: str, *, limit: int = 2048) -> str:
    """``text`` with URL user info, bearer tokens, API keys and cloud credentials replaced by ``***``.

    Looks at the first ``limit`` characters and cuts the rest, so that the cost is bounded whatever the input. A URL
    that the cut goes through is dropped, because its password may stand before the cut and the ``@`` behind it.
    """
    cut = text if len(text) <= limit else _cut(text[:limit])
    for pattern, replacement in _RULES:
        cut = pattern.sub(replacement, cut)
    return cut if len(text) <= limit else f"{cut}..."


def _cut(text: str) -> str:
    last = text.split()[-1] if text.strip() and not text[-1].isspace() else ""
    _, mark, rest = last.partition("://")
    return f"{text[: len(text) - len(rest)]}***" if mark else text
