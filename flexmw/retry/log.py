"""Log lines of Retry, for programs without an OpenTelemetry SDK: logger ``flexmw.retry``.

========  =========================================================
A line names the method and the origin, never a path, a query, a header or a body: they may hold secrets.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from flexmw.kit.log_limit import LogLimit
from flexmw.retry.core import Outcome, RetryDecision

__all__ = [
    "LIMIT",
    "LOGGER",
    "log_attempt",
    "log_cut",
    "log_repetition",
    "log_repetition_above",
    "log_resumed",
    "log_stop",
    "note_of",
]

LOGGER: Final = logging.getLogger("flexmw.retry")
LIMIT: Final = LogLimit(burst=100, per_second=10.0, monotonic=time.monotonic)
"""The bound on WARNINGs: an upstream that is down fails every call, and a line for each would fill a disk."""


def log_attempt(
    method: str, origin: str, outcome: Outcome, decision: RetryDecision, *, kind: str, delay: float, source: str
) -> None:
    """Log that there will be another attempt.

    :param kind: the status or the class of the error of the last attempt.
    :param delay: seconds before the next attempt.
    :param source: who named the delay: ``"retry_after"`` or ``"backoff"``.
    """
    if LOGGER.isEnabledFor(logging.INFO):
        LOGGER.info(
            "%s %s: attempt %d in %.2f s (%s): attempt %d was %s: %s",
            method,
            origin,
            outcome.attempts + 1,
            delay,
            "the server named the wait" if source == "retry_after" else "backoff",
            outcome.attempts,
            decision.outcome,
            kind,
        )


def log_stop(method: str, origin: str, outcome: Outcome, *, kind: str) -> None:
    """Log that a call has failed. ``kind`` is the status or the class of the error."""
    level = logging.WARNING if outcome.outcome == "ambiguous" else logging.DEBUG
    if LOGGER.isEnabledFor(level):
        left_out = LIMIT.admit() if level == logging.WARNING else ""
        if left_out is not None:
            LOGGER.log(level, "%s %s: %s: %s%s", method, origin, kind, note_of(outcome), left_out)


def log_repetition(method: str, origin: str, lost: str, *, is_kept_back: bool) -> None:
    """Log that a transport below Retry sends requests again by itself.

    :param lost: what became of the attempt before.
    :param is_kept_back: whether Retry keeps the transport from sending this one.
    """
    LOGGER.warning(
        "%s %s: a transport inside flexmw sends requests again by itself (%s): %s; switch its retries off and leave "
        "them to flexmw.Retry",
        method,
        origin,
        lost,
        "this one may have been executed, and was kept back" if is_kept_back else "attempts multiply",
    )


def log_repetition_above(method: str, origin: str) -> None:
    """Log that something between the program and Retry, and no SDK, sends requests again by itself."""
    LOGGER.warning(
        "%s %s: a transport, an authentication or a method of the client above flexmw sends requests again by itself: "
        "its repetitions get one attempt each, and none if the request may have been executed; switch its retries off "
        "and leave them to flexmw.Retry",
        method,
        origin,
    )


def log_cut(method: str, origin: str, kind: str, *, received: int) -> None:
    """Log that the body of a response broke. ``kind`` is the class of the error, ``received`` a number of bytes."""
    LOGGER.info("%s %s: the response was cut after %d bytes: %s", method, origin, received, kind)


def log_resumed(method: str, origin: str, *, attempt: int, offset: int, gap: float) -> None:
    """Log that a body continues after a cut.

    :param attempt: the number of the request that continues the body.
    :param offset: the number of bytes before the cut.
    :param gap: seconds since the cut.
    """
    LOGGER.info(
        "%s %s: request %d continues the response at byte %d after %.2f s", method, origin, attempt, offset, gap
    )


def note_of(outcome: Outcome) -> str:
    """One sentence about an outcome, for a log line and for the note of an exception."""
    attempts = f"{outcome.attempts} attempt{'' if outcome.attempts == 1 else 's'}"
    doubt = "; the request may have been executed" if outcome.outcome == "ambiguous" else ""
    received = "" if outcome.received is None else f", {outcome.received} bytes received"
    return f"given back as {outcome.outcome} after {attempts}, reason: {outcome.reason}{received}{doubt}"
