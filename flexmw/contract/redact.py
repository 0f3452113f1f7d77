"""Take secrets out of a text that a person or a log will read.

>>> redact("cannot reach redis://app:hunter2@cache:6379 with sk-live-abcdef123456")
'cannot reach redis://***@cache:6379 with sk-***'
>>> redact("GET /v1/models?api_key=abc123&limit=2")
'GET /v1/models?api_key=***&limit=2'
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["redact"]

_RULES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^\s/@?#]{1,512}@"), r"\1***@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{6,4096}"), r"\1 ***"),
    (re.compile(r"\b(sk|pk|rk|ghp|gho|xox[abp]|glpat)([-_])[A-Za-z0-9_-]{6,512}"), r"\1\2***"),
    (re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{12,20}\b"), r"\1***"),
    (re.compile(r"\bAIza[A-Za-z0-9_-]{20,64}"), "AIza***"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,2048}\.[A-Za-z0-9_-]{8,4096}(\.[A-Za-z0-9_-]{0,1024})?"), "eyJ***"),
    (
        re.compile(
            r"(?i)\b(api[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret|password|passwd|secret|signature|sig)"
            r"(\s{0,3}[\"']?\s{0,3}[=:]\s{0,3}[\"']?)[^\s&\"',;}]{1,1024}"
        ),
        r"\1\2***",
    ),
)


def redact(text: str, *, limit: int = 2048) -> str:
    """``text`` with URL user info, bearer tokens, API keys and cloud credentials replaced by ``***``.

    Looks at the first ``limit`` characters and cuts the rest, so that the cost is bounded whatever the input. Every
    pattern is bounded too: none can backtrack without end.
    """
    cut = text[:limit]
    for pattern, replacement in _RULES:
        cut = pattern.sub(replacement, cut)
    return cut if len(text) <= limit else f"{cut}..."
