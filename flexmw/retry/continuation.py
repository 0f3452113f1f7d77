"""Decide what a response to a continuation means: the body goes on, come back later, or the stream is lost. Pure.

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
"""What the codes of a refusal mean."""

_WAITING: Final = frozenset({502, 503, 504})
"""Under a key that the server honours, these say that the response is not there yet, whoever wrote them."""

_COME_BACK: Final = _WAITING | {408, 425, 429, 529}

_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\n|\r){2}")
_MAX_WAIT: Final = 10
"""A proxy gives up a response whose head does not come; the smallest time limit that is common is 15 seconds."""


def is_waiting(status: int) -> bool:
    """Whether a status means under an honoured key that the response of the execution is not there yet."""
    return status in _WAITING


def judge_refusal(status: int, *, code: str | None, names_wait: bool = False, asked: bool | None = None) -> Verdict:
    """What a response means that does not continue the body.

    :param code: the code of the error; ``None`` where the body names none.
    :param names_wait: whether the response says when to come back.
    :param asked: the response's ``x-should-retry``.
    """
    if code is not None and code in LOSSES:
        return LOSSES[code]
    if asked is not False and (status in _COME_BACK or (status == 409 and names_wait)):
        return "come_back"
    return "stream_gone" if status == 410 else "stream_lost"


def judge_position(
    position: StreamPosition | None, *, generation: str | None, start: int, digest: bytes
) -> Verdict | Literal["replays"]:
    """What a good response means.

    :param position: what the response says; ``None`` where it says nothing.
    :param generation: the generation that was asked for; ``None`` where the request asked for a replay.
    :param start: the number of bytes that the caller has.
    :param digest: SHA-256 of these bytes.
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
    """For how many seconds a server may hold a request (RFC 7240, ``wait``), of the seconds until it is given up."""
    return int(min(_MAX_WAIT, 0.8 * seconds))


def step_delay(tries: int, chance: float) -> float:
    """Seconds before a request for the rest of a body: most cuts are single, so the first comes nearly at once.

    :param tries: the requests since the last byte.
    :param chance: a random number from 0 to 1.
    """
    if tries == 0:
        return 0.05 * chance
    return min(8.0, 0.05 * 4.0 ** min(tries - 1, 8)) * (0.1 + 0.9 * chance)


def from_an_event(tail: bytes) -> bytes:
    """The part of an event stream that begins where an event begins: what follows the first blank line."""
    blank = _BLANK_LINE.search(tail)
    return b"" if blank is None else tail[blank.end() :]
