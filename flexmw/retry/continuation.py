"""Decision about the response to a continuation: the body continues, try again later, or the stream is lost. Pure.

``docs/streams.md`` specifies the codes.

>>> judge_refusal(410, code="idempotency_stream_gone"), judge_refusal(503, code=None)
('stream_gone', 'come_back')
>>> step_delay(0, 1.0), step_delay(1, 1.0), step_delay(3, 1.0)
(0.05, 0.05, 0.8)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from flexmw.contract.idempotent_stream import StreamPosition

__all__ = [
    "LOSSES",
    "Loss",
    "Verdict",
    "code_of",
    "from_an_event",
    "is_waiting",
    "judge_position",
    "judge_refusal",
    "preferred_wait",
    "step_delay",
]

Loss = Literal["stream_lost", "stream_gone", "stream_changed", "stream_differs", "stream_too_large", "resume_exhausted"]
"""Why a body that broke could not be continued.

``stream_lost``: the process that ran the execution died, or the server refuses the continuation. ``stream_gone``: the
server no longer knows the key. ``stream_changed``: another execution runs under the key. ``stream_differs``: the
response is not the one that broke, or something between the two ends changes its bytes. ``stream_too_large``: the
server does not keep a response of this size. ``resume_exhausted``: the attempts, the patience, the deadline or the
retry budget are used up."""

Verdict = Literal["continues", "come_back"] | Loss

LOSSES: Final[Mapping[str, Loss]] = {
    "idempotency_stream_changed": "stream_changed",
    "idempotency_stream_gone": "stream_gone",
    "idempotency_unknown": "stream_lost",
    "idempotency_answer_not_kept": "stream_too_large",
}
"""The loss that each code of a refusal means."""

_WAITING: Final = frozenset({502, 503, 504})
"""Under a key that the server honours, these statuses mean that the execution has not ended yet, also from a proxy."""

_COME_BACK: Final = _WAITING | {408, 425, 429, 529}

_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\n|\r){2}")
_MAX_WAIT: Final = 10
"""Seconds. A proxy gives up if no response head arrives; the shortest common limit is 15 seconds."""


def is_waiting(status: int) -> bool:
    """Return whether a status means, under an honoured key, that the execution has not ended yet."""
    return status in _WAITING


def judge_refusal(status: int, *, code: str | None, names_wait: bool = False, asked: bool | None = None) -> Verdict:
    """Judge a response that does not continue the body.

    :param code: the code of the error; ``None`` if the body has none.
    :param names_wait: whether the response names a wait.
    :param asked: the value of the response's ``x-should-retry``.
    """
    if code is not None and code in LOSSES:
        return LOSSES[code]
    if asked is not False and (status in _COME_BACK or (status == 409 and names_wait)):
        return "come_back"
    return "stream_gone" if status == 410 else "stream_lost"


def judge_position(
    position: StreamPosition | None, *, generation: str | None, start: int, digest: bytes
) -> Verdict | Literal["replays"]:
    """Judge a good response.

    :param position: the position that the response states; ``None`` if it states none.
    :param generation: the generation that the request asked for; ``None`` if it asked for a replay.
    :param start: the number of bytes that the caller has.
    :param digest: the SHA-256 digest of these bytes.
    """
    if position is None:
        return "replays"
    if generation is not None and position.generation != generation:
        return "stream_changed"
    if position.start is None:
        return "replays"
    return "continues" if position.start == start and position.digest == digest else "stream_differs"


def code_of(body: bytes) -> str | None:
    """The code of an error body of OpenAI's form; ``None`` for any other body."""
    try:
        error: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = error.get("error") if isinstance(error, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None


def preferred_wait(seconds: float) -> int:
    """Return for how many seconds a server may hold a request (RFC 7240, ``wait``).

    :param seconds: the time until the client gives the request up.
    """
    return int(min(_MAX_WAIT, 0.8 * seconds))


def step_delay(tries: int, chance: float) -> float:
    """Return the seconds to wait before a request for the rest of a body.

    Most cuts are single, so the first request is sent nearly at once.

    :param tries: the requests since the last byte.
    :param chance: a random number from 0 to 1.
    """
    if tries == 0:
        return 0.05 * chance
    return min(8.0, 0.05 * 4.0 ** min(tries - 1, 8)) * (0.1 + 0.9 * chance)


def from_an_event(tail: bytes) -> bytes:
    """Return the part of an event stream after its first blank line, so that it begins with a whole event."""
    blank = _BLANK_LINE.search(tail)
    return b"" if blank is None else tail[blank.end() :]
