"""Custom messages: an application's own words in place of the contract's, by error code or by kind. Pure.

>>> messages = {"job_not_found": "Video job not found.", "rate_limit_exceeded": "Too fast. Wait {seconds} s."}
>>> from flexmw.errors import APIError, JobNotFound, RateLimitExceeded
>>> reword(JobNotFound().body, messages).message, reword(RateLimitExceeded(34).body, messages).message
('Video job not found.', 'Too fast. Wait 34 s.')

A kind is named by its row of ``PAGE``. Its message is used before that of its code:

>>> from flexmw.errors import SubsystemOffline
>>> messages = {"subsystem_offline": "{name} sleeps.", "service_unavailable": "We sleep."}
>>> reword(SubsystemOffline("Speech").body, messages).message, reword(APIError(status=503).body, messages).message
('Speech sleeps.', 'We sleep.')

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

__all__ = ["PLACEHOLDERS", "expected", "key_of", "reword"]

_IDEMPOTENCY: Final = ("idempotency_in_progress", "idempotency_key_required", "idempotency_key_reused")
"""Codes of Idempotency whose message never varies. The other messages name the fault of one request."""


def _names(template: str) -> Iterable[str]:
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


def _placeholders() -> dict[str, frozenset[str]]:
    codes: dict[str, frozenset[str]] = dict.fromkeys(_IDEMPOTENCY, frozenset())
    for row in (*map(for_status, range(400, 600)), *STATUS.values(), *OWN.values(), *PAGE.values()):
        codes[row.code] = codes.get(row.code, frozenset()).union(_names(row.message))
    for kind, row in PAGE.items():
        codes[kind] = codes.get(kind, frozenset()).union(_names(row.message))
    return codes


_KIND_OF_CODE: Final[Mapping[str, str]] = {row.code: kind for kind, row in PAGE.items() if row.code != kind}
"""The kinds whose name is not their code."""


def key_of(key: object) -> object:
    """The name of a kind of error that is given by its class, such as ``SubsystemOffline``; any other key unchanged."""
    row = getattr(key, "row", None)
    return next((kind for kind, known in PAGE.items() if known is row), key)


PLACEHOLDERS: Final[Mapping[str, frozenset[str]]] = _placeholders()
"""Every code and kind whose message can be replaced, and the placeholders that its message may have. A code is not in
here if its message always comes from the app, or names what is wrong with one request."""


def expected(code: object, message: object) -> str | None:
    """Return what would be right if ``message`` cannot be the message of ``code``; ``None`` if it can be."""
    if not isinstance(code, str) or code not in PLACEHOLDERS:
        close = difflib.get_close_matches(str(code), PLACEHOLDERS, n=1)
        guess = f"; did you mean {close[0]!r}?" if close else ""
        listed = sorted(name for name in PLACEHOLDERS if not name.startswith("http_"))
        return f"the code {code!r} to be one of {', '.join(listed)}, or http_NNN for a status without a name{guess}"
    if not isinstance(message, str) or not message.strip():
        return "a text that is not empty"
    try:
        parts = list(Formatter().parse(message))
    except ValueError as error:
        return f"a text with placeholders in braces ({error}); {{{{ and }}}} stand for braces"
    for _, name, format_spec, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS[code] or format_spec or conversion):
            known = ", ".join(f"{{{placeholder}}}" for placeholder in sorted(PLACEHOLDERS[code])) or "none"
            written = name + (f"!{conversion}" if conversion else "") + (f":{format_spec}" if format_spec else "")
            return f"no placeholder {{{written}}}; the placeholders of {code!r} are: {known}"
    return None


def reword(error: ErrorBody, messages: Mapping[str, str]) -> ErrorBody:
    """Give an error the message of its code, if its present message is the contract's own.

    A message whose placeholders this error cannot fill is not used. A bare 429 of the app, for example, knows no
    ``{seconds}``.

    :param messages: by code or kind; each one valid by :func:`expected`.
    """
    values, code = error.placeholders, error.code
    if values is None or code is None:
        return error
    kind = _KIND_OF_CODE.get(code)
    if kind is not None and not (values.keys() >= set(_names(PAGE[kind].message))):
        kind = None  # a bare response of the status, which is not of the kind
    message = (messages.get(kind) if kind is not None else None) or messages.get(code)
    if message is None:
        return error
    try:
        text = message.format_map(values)
    except KeyError:
        return error
    return replace(error, message=text, placeholders=None)
