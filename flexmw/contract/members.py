"""Other members: the members of an error body without a field in the contract, made safe to send. Pure.

>>> error = {"message": "Too long.", "code": 400, "n_ctx": 4096, "hint": "key sk-live-abcdef123456"}
>>> other_members(error, taken=("message", "code"))
{'n_ctx': 4096, 'hint': 'key sk-***'}
"""

from __future__ import annotations

import math
import re
from collections.abc import Container
from typing import Any, Final

from flexmw.contract.redact import redact
from flexmw.contract.secret_families import SECRET_MEMBER
from flexmw.contract.text import array_in, object_in

__all__ = ["CONTRACT_FIELDS", "TRACE", "other_members"]

CONTRACT_FIELDS: Final = frozenset({"message", "type", "param", "code", "doc_url"})
"""The fields of the contract's error object."""

TRACE: Final = re.compile(r"Traceback \(most recent call last\)|\n[ \t]{0,64}File \"[^\"\n]{1,400}\", line \d")
"""A Python traceback. The blanks before ``File`` have a bound: without it the search takes quadratic time."""

_INTERNAL: Final = frozenset(
    {"trace", "traceback", "stack", "stacktrace", "stack_trace", "exception", "debug", "debug_info"}
)
"""Members that frameworks fill with a stack trace in their debug mode."""

_INPUT: Final = frozenset({"input", "ctx", "url"})
"""Members of a pydantic error that repeat what the caller has sent, or link to pydantic's documentation."""

_MAX_DEPTH: Final = 20
"""Nesting that is kept. A deeper value becomes null, because ``json`` cannot write a value of any depth."""


def other_members(value: dict[str, Any], *, taken: Container[str] = ()) -> dict[str, Any]:
    """The members of an object whose names are not in ``taken``, without secrets, stack traces and validated input."""
    return _members(value, taken, _MAX_DEPTH)


def _members(value: dict[str, Any], taken: Container[str], depth: int) -> dict[str, Any]:
    hidden = _INPUT if "loc" in value and "msg" in value else ()
    return {
        name: "***" if SECRET_MEMBER.search(name) and isinstance(member, str) else _safe(member, depth)
        for name, member in value.items()
        if name not in taken and name not in hidden and name.lower() not in _INTERNAL and not _is_trace(member)
    }


def _is_trace(value: object) -> bool:
    return isinstance(value, str) and TRACE.search(value) is not None


def _safe(value: object, depth: int) -> Any:
    if isinstance(value, str):
        return redact(value, limit=len(value))
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such number
    if not isinstance(value, (dict, list)):
        return value
    if not depth:
        return None
    if members := object_in(value):
        return _members(members, (), depth - 1)
    if items := array_in(value):
        return [_safe(item, depth - 1) for item in items if not _is_trace(item)]
    return {} if isinstance(value, dict) else []
