"""Format rows of text as aligned columns.

>>> print(table(("name", "size"), [("a", "10"), ("bcd", "2")]), end="")
name  size
a     10
bcd   2
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["table"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a head and rows as columns: one line per row, without spaces at the end of a line."""
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )
