"""Custom messages: an application's own words in place of the contract's, by error code. Pure.

>>> messages = {"job_not_found": "Video job not found.", "rate_limit_exceeded": "Too fast. Wait {seconds} s."}
>>> from flexmw.errors import APIError, JobNotFound, RateLimitExceeded
>>> reword(JobNotFound().body, messages).message, reword(RateLimitExceeded(34).body, messages).message
('Video job not found.', 'Too fast. Wait 34 s.')

A message that the app has written itself stays:

>>> reword(JobNotFound(message="No such job.").body, messages).message
'No such job.'
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from string import Formatter
from typing import Final

from flexmw.contract.error import ErrorBody
from flexmw.contract.table import OWN, PAGE, STATUS, for_status

__all__ = ["PLACEHOLDERS", "expected", "reword"]

_IDEMPOTENCY: Final = ("idempotency_in_progress", "idempotency_key_required", "idempotency_key_reused")
"""Codes of Idempotency whose message never varies. Its other messages name what is wrong with one request."""


def _names(template: str) -> Iterable[str]:
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


def _placeholders() -> dict[str, frozenset[str]]:
    codes: dict[str, frozenset[str]] = dict.fromkeys(_IDEMPOTENCY, frozenset())
    for row in (*map(for_status, range(400, 600)), *STATUS.values(), *OWN.values(), *PAGE.values()):
        codes[row.code] = codes.get(row.code, frozenset()).union(_names(row.message))
    return codes


PLACEHOLDERS: Final[Mapping[str, frozenset[str]]] = _placeholders()
"""Every code whose message can be replaced, and the placeholders that its message may have. A code is not in here if
its message always comes from the app, or names what is wrong with one request."""


def expected(code: object, message: object) -> str | None:
    """Return what would be right if ``message`` cannot be the message of ``code``; ``None`` if it can be."""
    if not isinstance(code, str) or code not in PLACEHOLDERS:
        close = difflib.get_close_matches(str(code), PLACEHOLDERS, n=1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        listed = sorted(name for name in PLACEHOLDERS if not name.startswith("http_"))
        return f"{guess}the code {code!r} to be one of {', '.join(listed)}, or http_NNN for a status without a name"
    if not isinstance(message, str) or not message.strip():
        return "a text that is not empty"
    try:
        parts = list(Formatter().parse(message))
    except ValueError as error:
        return f"a text with placeholders in braces ({error}); {{{{ and }}}} stand for braces"
    for _, name, format_spec, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS[code] or format_spec or conversion):
            known = ", ".join(f"{{{each}}}" for each in sorted(PLACEHOLDERS[code])) or "none"
            written = name + (f"!{conversion}" if conversion else "") + (f":{format_spec}" if format_spec else "")
            return f"no placeholder {{{written}}}; the placeholders of {code!r} are: {known}"
    return None


def reword(error: ErrorBody, messages: Mapping[str, str]) -> ErrorBody:
    """Give an error the message of its code, if its present message is the contract's own.

    A message whose placeholders this error cannot fill is not used. A bare 429 of the app, for example, knows no
    ``{seconds}``.

    :param messages: by code; each one valid by :func:`expected`.
    """
    message = messages.get(error.code) if error.placeholders is not None and error.code is not None else None
    if message is None or error.placeholders is None:
        return error
    try:
        text = message.format_map(error.placeholders)
    except KeyError:
        return error
    return replace(error, message=text, placeholders=None)
