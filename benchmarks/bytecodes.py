"""Count the bytecode instructions that a thread executes: a measure of cost that no load of the machine moves.

CPython executes the same instructions for the same work every time, whatever else the machine does. The count leaves
out what happens inside functions written in C; :mod:`benchmarks.cost` counts machine instructions for that.

Python 3.11 traces opcodes by ``sys.settrace``; later versions have ``sys.monitoring``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from threading import get_ident
from types import CodeType
from typing import Any, Final

__all__ = ["counting"]

_TOOL: Final = 4
"""A tool id of ``sys.monitoring`` that no debugger, profiler or coverage tool uses by convention."""


@contextmanager
def counting() -> Generator[Counter[CodeType]]:
    """Count the instructions that this thread executes inside, for each code object that begins inside.

    Frames that are already running are not counted, the caller's own included.
    """
    counts: Counter[CodeType] = Counter()
    with _traced(counts) if sys.version_info < (3, 12) else _monitored(counts):
        yield counts


@contextmanager
def _traced(counts: Counter[CodeType]) -> Generator[None]:
    def begin(frame: Any, event: str, argument: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return step

    def step(frame: Any, event: str, argument: Any) -> Any:
        if event == "opcode":
            counts[frame.f_code] += 1
        return step

    before = sys.gettrace()
    sys.settrace(begin)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def _monitored(counts: Counter[CodeType]) -> Generator[None]:
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
    instruction = monitoring.events.INSTRUCTION

    thread = get_ident()  # sys.monitoring sees all threads

    def step(code: CodeType, offset: int) -> None:
        if get_ident() == thread:
            counts[code] += 1

    monitoring.use_tool_id(_TOOL, "flexmw.benchmarks")
    monitoring.register_callback(_TOOL, instruction, step)
    monitoring.set_events(_TOOL, instruction)
    try:
        yield
    finally:
        monitoring.set_events(_TOOL, 0)
        monitoring.register_callback(_TOOL, instruction, None)
        monitoring.free_tool_id(_TOOL)
