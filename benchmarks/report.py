"""What a benchmark reports: tables for people, and figures by name for the goals and for ``docs/performance.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.table import Table as RichTable

__all__ = ["Curve", "Curves", "Report", "Table"]

_WIDTH: Final = 150


@dataclass(frozen=True)
class Table:
    """A table of measured values.

    :param section: the section of ``docs/performance.md`` that shows the table.
    :param title: what the values are, with their unit.
    :param columns: the names of the columns.
    :param rows: the cells, as they are shown.
    :param note: a sentence below the table.
    """

    section: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """One line of a drawing.

    :param name: its label.
    :param points: the pairs of x and y.
    """

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curves:
    """A drawing.

    :param section: the section of ``docs/performance.md`` that shows it.
    :param title: what the drawing shows.
    :param x: the name of the x axis, which is logarithmic.
    :param y: the name of the y axis, which begins at 0.
    :param curves: the lines.
    """

    section: str
    title: str
    x: str
    y: str
    curves: Sequence[Curve]


Titled = TypeVar("Titled", Table, Curves)


def _replaced(old: list[Titled], new: list[Titled]) -> list[Titled]:
    places = {(each.section, each.title): each for each in old}
    return list((places | {(each.section, each.title): each for each in new}).values())


@dataclass
class Report:
    """All that one program has measured.

    :param figures: values by name, such as ``idempotency.redis.64.first``.
    """

    tables: list[Table] = field(default_factory=list)
    curves: list[Curves] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def add(self, other: Report) -> None:
        """Add what another program has measured. Tables and curves of the same title take the place of earlier ones."""
        self.tables = _replaced(self.tables, other.tables)
        self.curves = _replaced(self.curves, other.curves)
        self.figures |= other.figures

    def show(self) -> None:
        """Print the tables."""
        console = Console(width=_WIDTH)
        for table in self.tables:
            shown = RichTable(*table.columns, title=table.title, title_justify="left", caption=table.note or None)
            for row in table.rows:
                shown.add_row(*row)
            console.print(shown)
        for drawing in self.curves:
            shown = RichTable(
                drawing.x, *(curve.name for curve in drawing.curves), title=f"{drawing.title}: {drawing.y}"
            )
            values = [dict(curve.points) for curve in drawing.curves]
            for x in sorted({x for points in values for x in points}):
                shown.add_row(f"{x:,.0f}", *(f"{points[x]:.3g}" if x in points else "" for points in values))
            console.print(shown)

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def write(self, path: str | None) -> None:
        """Write the report to a file, if one is named."""
        if path:
            Path(path).write_text(self.to_json())

    @classmethod
    def of_json(cls, text: str) -> Report:
        """The inverse of :meth:`to_json`."""
        data: dict[str, Any] = json.loads(text)
        return cls(
            [Table(**table) for table in data["tables"]],
            [
                Curves(
                    **{
                        **drawing,
                        "curves": [
                            Curve(each["name"], [(x, y) for x, y in each["points"]]) for each in drawing["curves"]
                        ],
                    }
                )
                for drawing in data["curves"]
            ],
            data["figures"],
        )
