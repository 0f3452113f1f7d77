"""The lines of tables and keys in a TOML file, for error messages. Python's own reader of TOML does not keep them.

>>> lines = Locations("flexmw.toml", "[retry]\\n\\n[profile.prod]\\nretry.attempts = 5\\n")
>>> lines.of(("retry",)), lines.of(("profile", "prod", "retry"), "attempts")
('flexmw.toml, line 1', 'flexmw.toml, line 4')
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["Locations"]


class Locations:
    """Finds the lines of tables and keys.

    :param file: the name of the file, as messages show it.
    :param text: the text of the file.
    """

    def __init__(self, file: str, text: str) -> None:
        self.file, self._lines = file, text.splitlines()

    def of(self, table: Sequence[str], key: str | None = None, index: int = 0) -> str:
        """The file and the line of a table, or of a key in the table. What is not found is on the first line.

        :param table: the names that lead to the table, from the top of the file.
        :param key: a key of the table.
        :param index: which table, where an array has several of this name.
        """
        line = self._table(table, index)
        if key is not None:
            line = self._line(rf"(?:[^#]*[.{{,])?\s*{_name(key)}=", after=line - 1) or line
        return f"{self.file}, line {line or 1}"

    def _table(self, table: Sequence[str], index: int) -> int:
        """The line of the table's own header; else the line inside the nearest header that begins with the rest."""
        for split in range(len(table), -1, -1):
            names, rest = table[:split], table[split:]
            header = r"\.\s*".join(map(_name, names))
            line = self._line(rf"\s*\[\[?\s*{header}[].]", index=0 if rest else index) if names else 0
            if names and not line:
                continue
            if not rest:
                return line
            if inside := self._line(rf"\s*{_name(rest[0])}[.=]", after=line):
                return inside
        return 0

    def _line(self, pattern: str, *, after: int = 0, index: int = 0) -> int:
        """The number of a matching line, from 1; the last one where there are fewer than ``index``; 0 for none."""
        numbers = [n for n, text in enumerate(self._lines, 1) if n > after and re.match(pattern, text)]
        return numbers[min(index, len(numbers) - 1)] if numbers else 0


def _name(name: str) -> str:
    """The pattern of a bare or quoted key."""
    return rf"""["']?{re.escape(name)}["']?\s*"""
