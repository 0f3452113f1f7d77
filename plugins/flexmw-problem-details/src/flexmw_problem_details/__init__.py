"""Problem details (RFC 9457) for those who ask for them, from an app that keeps the OpenAI contract for all others.

>>> ProblemDetails().serves("/v1/models", "application/problem+json, */*;q=0.1")
True
>>> ProblemDetails().serves("/v1/models", "*/*"), ProblemDetails(always=True).serves("/v1/models", "*/*")
(False, True)
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

from flexmw.contract import ErrorBody, ends_whole

__all__ = ["ProblemDetails"]

_PROBLEM = "application/problem+json"
_QUALITY = re.compile(r";\s*q\s*=\s*([01](?:\.\d{0,3})?)", re.IGNORECASE)
_MEMBERS = {"type": str, "title": str, "status": int, "detail": str, "instance": str}


@dataclass(frozen=True, kw_only=True)
class ProblemDetails:
    """The dialect. ``always``: for every request; else for those whose ``Accept`` prefers it to plain JSON."""

    always: bool = False

    media_type: ClassVar[str] = _PROBLEM

    def serves(self, path: str, accept: str) -> bool:
        """Whether the request's ``Accept`` (RFC 9110 section 12.5.1) names problem details, and likes no other JSON
        better. Wildcards ask for nothing in particular."""
        if self.always:
            return True
        wanted = _qualities(accept)
        problem = wanted.get(_PROBLEM, 0.0)
        return problem > 0 and problem >= wanted.get("application/json", 0.0)

    def keeps(self, value: object) -> bool:
        """Whether a JSON value is a problem already (RFC 9457 section 3.1): members of the right types, among them at
        least a title or a type, and none of an error envelope's."""
        if not isinstance(value, dict) or "error" in value or not ({"type", "title"} & set(value)):
            return False
        return all(isinstance(value[name], kind) for name, kind in _MEMBERS.items() if name in value)

    def render(self, error: ErrorBody, *, status: int, request_id: str | None) -> bytes:
        """The problem. ``doc_url`` becomes its ``type``, the message its ``detail``; ``code``, ``param`` and
        ``request_id`` are extension members (section 3.2)."""
        problem: dict[str, Any] = {
            "type": error.doc_url or "about:blank",
            "title": _phrase(status),
            "status": status,
            "detail": error.message,
        }
        extras = {"code": error.code, "param": error.param, "request_id": request_id}
        problem |= {name: value for name, value in extras.items() if value is not None}
        return json.dumps(problem, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    def event(self, error: ErrorBody, *, status: int, path: str, last: bytes) -> bytes:
        """A server-sent event named ``error`` with the problem as its data. RFC 9457 knows no streams: this is ours."""
        return b"event: error\ndata: " + self.render(error, status=status, request_id=None) + b"\n\n"

    def finished(self, last: bytes) -> bool:
        return ends_whole(last)


def _qualities(accept: str) -> dict[str, float]:
    wanted: dict[str, float] = {}
    for part in accept.lower().split(","):
        media = part.partition(";")[0].strip()
        quality = _QUALITY.search(part)
        wanted[media] = max(wanted.get(media, 0.0), min(1.0, float(quality[1])) if quality else 1.0)
    return wanted


def _phrase(status: int) -> str:
    """With ``about:blank`` the title should be the status' own phrase (section 4.2.1)."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"HTTP {status}"
