"""The picture of the chaos runs: what was broken while they ran, and how often a promise was."""

from __future__ import annotations

import re
from typing import Final

from scripts.pictures import FOLDER
from scripts.pictures.canvas import Canvas

__all__ = ["OUTPUT", "chaos"]

OUTPUT: Final = FOLDER / "chaos.txt"
_PROMISE: Final = re.compile(r" +(?P<verdict>ok|BAD) +(?P<promise>.+): (?P<times>\d+)")
_OF_THE_RUN: Final = ("met on the way", "processes that should", "stores that should", "runs without")
"""Lines that say how good the run was, and nothing of flexmw."""
_HEAD: Final = re.compile(r"(?:store|streams over) .+ s, seed \d+")


def chaos() -> str:
    """One column for each run in ``chaos.txt``: its own lines, then each promise with the times that it was broken."""
    runs: list[list[str]] = []
    for line in OUTPUT.read_text("utf-8").splitlines():
        if _HEAD.match(line):
            runs.append([])
        if runs and not any(words in line for words in _OF_THE_RUN):
            runs[-1].append(line)
    height = 96 + sum(66 + 24 * (len(_done(run)) + len(_promises(run))) for run in runs)
    canvas = Canvas(760, height, "The results of the chaos runs")
    canvas.text(24, 40, "One POST, one execution, while everything around it fails", bold=True, size=16)
    canvas.text(24, 62, "python -m benchmarks.chaos; how often each promise was broken", size=13, soft=True)
    y = 100
    for run in runs:
        canvas.text(24, y, run[0].strip(), bold=True)
        for line in _done(run):
            y += 24
            canvas.text(24, y, line, size=12, soft=True)
        y += 12
        for promise, times in _promises(run):
            canvas.box(24, y, 52, 20, [str(times)], "red" if times else "green")
            canvas.text(88, y + 15, promise, size=13)
            y += 24
        y += 44
    return canvas.svg()


def _done(run: list[str]) -> list[str]:
    """The lines of a run that say what was done, each cut to the width of the picture."""
    lines = [line.strip() for line in run[1:] if line.strip() and not _PROMISE.fullmatch(line)]
    return [line if len(line) <= 112 else f"{line[:111]}…" for line in lines]


def _promises(run: list[str]) -> list[tuple[str, int]]:
    return [(match["promise"], int(match["times"])) for line in run if (match := _PROMISE.fullmatch(line))]
