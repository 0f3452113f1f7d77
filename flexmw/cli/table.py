"""Format rows of text as aligned columns, which fit the terminal.

>>> print(table(("name", "size"), [("a", "10"), ("bcd", "2")]), end="")
name  size
a     10
bcd   2
>>> print(table(("code", "message"), [("internal_error", "The server had an error.")], width=30), end="")
code            message
internal_error  The server had
                an error.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final, TextIO

__all__ = ["paragraph", "table", "width_of"]

_GAP: Final = "  "
_NARROWEST: Final = 8
"""Characters that a column has at least. A table of many columns may still be wider than the terminal."""


def width_of(out: TextIO) -> int | None:
    """The characters of a line of the output: those of the terminal, or ``COLUMNS``; ``None`` for a file or a pipe,
    whose lines have no end."""
    if out.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return shutil.get_terminal_size().columns
    return None


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> str:
    """Format a head and rows as columns, without spaces at the end of a line.

    :param width: characters of a line at most; the widest columns are wrapped, between words as long as that is
        enough. ``None``: one line per row.
    """
    lines = [tuple(head), *map(tuple, rows)]
    columns = [*zip(*lines, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    words = [max(len(word) for cell in column for word in cell.split() or ("",)) for column in columns]
    for narrowest in (words, [_NARROWEST] * len(widths)):
        _narrow(widths, narrowest, None if width is None else width - len(_GAP) * (len(widths) - 1))
    return "".join(_row(line, widths) for line in lines)


def _narrow(widths: list[int], narrowest: Sequence[int], most: int | None) -> None:
    """Narrow the widest columns until all of them have ``most`` characters together."""
    while most is not None and sum(widths) > most:
        spare = [column for column, width in enumerate(widths) if width > narrowest[column]]
        if not spare:
            return
        widths[max(spare, key=widths.__getitem__)] -= 1


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    columns = [textwrap.wrap(cell, max(width, 1)) or [""] for cell, width in zip(cells, widths, strict=True)]
    return "".join(
        _GAP.join(part.ljust(width) for part, width in zip(parts, widths, strict=True)).rstrip() + "\n"
        for parts in zip_longest(*columns, fillvalue="")
    )


def paragraph(text: str, *, width: int | None, indent: str = "", hanging: str = "") -> str:
    """A text that is wrapped at spaces.

    :param width: characters of a line at most; ``None``: one line.
    :param indent: in front of the first line.
    :param hanging: in front of the others.
    """
    if width is None:
        return f"{indent}{text}\n"
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "".join(f"{line}\n" for line in lines)
