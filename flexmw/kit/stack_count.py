"""The count of an SDK's repetitions, as the SDK keeps it on the stack.

Some SDKs repeat a call and send no header with the count. A loop of the SDK then calls the client again, and the number
of the repetition is a local variable of that loop. :data:`_LOOPS` names the loops.

Checked with cohere 7.3 and deepgram-sdk 7.17 (Fern), mistralai 3.7 (Speakeasy), githubkit 0.16, llama-index-llms-openai
0.8 and google-genai 3.6 (both by tenacity 9.1).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final, NamedTuple

__all__ = ["sdk_count_on_stack"]


class _Loop(NamedTuple):
    """A function that repeats calls.

    :param module: the end of the name of its module.
    :param counter: its local variable that counts the repetitions.
    """

    module: str
    counter: str


_FERN: Final = _Loop(".core.http_client", "retries")
_SPEAKEASY: Final = _Loop(".utils.retries", "retries")
_GITHUBKIT: Final = _Loop("githubkit.core", "retry_count")

_LOOPS: Final[Mapping[str, tuple[_Loop, ...]]] = {
    "request": (_FERN, _GITHUBKIT),
    "arequest": (_GITHUBKIT,),
    "retry_with_backoff": (_SPEAKEASY,),
    "retry_with_backoff_async": (_SPEAKEASY,),
}
"""By the name of the function."""

_TENACITY: Final = "__call__"
_REPEATED_BY_TENACITY: Final = ("llama_index.", "google.genai.")
"""Packages that repeat calls by tenacity. A program's own use of tenacity does not count: the program may look for the
result of a lost call before it calls again."""


def sdk_count_on_stack() -> int | None:
    """How often an SDK has repeated its current call; ``None`` where no SDK on the stack counts its repetitions there.

    A function that repeats a call by calling itself has the count in its innermost frame, and one SDK may call another.
    The result is the highest count.
    """
    counts: list[int] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_name
        if name in _LOOPS:
            count = _count_of_loop(frame, _LOOPS[name])
        else:
            count = _count_of_tenacity(frame) if name == _TENACITY else None
        if type(count) is int:
            counts.append(count)
        frame = frame.f_back
    return max(counts, default=None)


def _count_of_loop(frame: FrameType, loops: tuple[_Loop, ...]) -> Any:
    module = frame.f_globals.get("__name__", "")
    return next((frame.f_locals.get(loop.counter) for loop in loops if module.endswith(loop.module)), None)


def _count_of_tenacity(frame: FrameType) -> Any:
    if frame.f_globals.get("__name__", "").partition(".")[0] != "tenacity":
        return None
    state = frame.f_locals.get("retry_state")
    owner = getattr(getattr(state, "fn", None), "__module__", None) or ""
    return getattr(state, "attempt_number", 1) - 1 if owner.startswith(_REPEATED_BY_TENACITY) else None
