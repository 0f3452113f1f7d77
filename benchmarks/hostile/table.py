"""The rows of the review: what was tried, with how many inputs, and how many faults it showed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Findings", "Row", "Settings", "show"]


@dataclass(frozen=True)
class Settings:
    """What the runs have in common.

    :param places: the servers and stores that are tried together, by their names.
    :param seconds: length of one run that goes on for a time, in seconds.
    :param seed: seed of everything that is drawn.
    :param folder: a directory for short-lived files.
    """

    places: Sequence[tuple[str, str]]
    seconds: float
    seed: int
    folder: Path


@dataclass(frozen=True)
class Row:
    """One line of the table.

    :param faults: how often a promise was broken.
    :param note: figures beside it, or the first faults.
    """

    area: str
    trial: str
    inputs: int
    faults: int
    note: str = ""


@dataclass
class Findings:
    """The faults of one run, counted by what was wrong, with the first examples of each."""

    inputs: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def check(self, holds: object, fault: str, example: object = "") -> None:
        """Count a fault where a promise does not hold."""
        if not holds:
            self.counts[fault] += 1
            if self.counts[fault] <= 3:
                self.examples.append(f"{fault}: {example}"[:400])

    def row(self, area: str, trial: str, note: str = "") -> Row:
        notes = [note] if note else []
        return Row(area, trial, self.inputs, self.counts.total(), "; ".join([*notes, *self.examples]))


def show(rows: Iterator[Row]) -> int:
    """Print the rows as they come. Returns 1 where one has faults, else 0."""
    faults = 0
    print(f"{'area':<12} {'tried':<58} {'inputs':>8} {'faults':>7}  figures", flush=True)
    for row in rows:
        faults += row.faults
        print(f"{row.area:<12} {row.trial:<58} {row.inputs:>8,} {row.faults:>7}  {row.note}", flush=True)
    print(f"{'all':<71} {'':>8} {faults:>7}", flush=True)
    return int(faults > 0)
