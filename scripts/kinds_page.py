"""Write the table of kinds in docs/kinds.md: ``python -m scripts.kinds_page``."""

from __future__ import annotations

from pathlib import Path

from flexmw import errors
from flexmw.contract import PAGE
from scripts.marked import filled

__all__ = ["BEGIN", "END", "PAGE_FILE", "kinds", "written"]

PAGE_FILE = Path(__file__).parent.parent / "docs" / "kinds.md"
BEGIN = "<!-- Kinds, written by python -m scripts.kinds_page -->"
END = "<!-- End of kinds -->"


def kinds() -> list[type[errors.APIError]]:
    """The classes of errors with a row of the contract, in the order of the contract."""
    classes = {cls.row: cls for cls in errors.APIError.__subclasses__() if cls.__module__ == "flexmw.errors"}
    return [classes[row] for row in PAGE.values()]


def table() -> str:
    lines = ["| kind | name in `messages` | status | `type` | `code` | message |", "|---|---|---|---|---|---|"]
    for cls, (name, row) in zip(kinds(), PAGE.items(), strict=True):
        own = errors.usage(cls).split(", message=...")[0].split(", status=...")[0].removesuffix("message=...")
        call = own if own.endswith(")") else f"{own})"
        cells = (f"`{call}`", f"`{name}`", str(row.status), f"`{row.type}`", f"`{row.code}`", row.message)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """The page with the table as the code has it.

    :raises ValueError: the page lacks the place of the table.
    """
    return filled(page, BEGIN, END, table(), name=PAGE_FILE.name)


if __name__ == "__main__":
    PAGE_FILE.write_text(written(PAGE_FILE.read_text()))
