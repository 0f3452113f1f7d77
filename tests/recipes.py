"""The recipes of a page in the docs: the files and the commands of each section, as a user would copy them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Recipe", "files_of", "recipes"]

_FILE: Final = re.compile(r"```py(?:thon)?\n# (\S+\.py)\n(.*?)```", re.DOTALL)
_CONSOLE: Final = re.compile(r"```console\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Recipe:
    """One section.

    :param title: its heading.
    :param files: the text of each file by its path.
    :param commands: the lines of the console, without the prompt.
    """

    title: str
    files: dict[str, str]
    commands: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Write the files."""
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")


def recipes(page: Path) -> dict[str, Recipe]:
    """The recipes of a page by title; sections without files and commands are left out."""
    sections: dict[str, Recipe] = {}
    for section in page.read_text("utf-8").split("\n## ")[1:]:
        title = section.partition("\n")[0]
        lines = [line for block in _CONSOLE.findall(section) for line in block.splitlines()]
        commands = tuple(line.removeprefix("$ ") for line in lines if line.startswith("$ "))
        files = dict(_FILE.findall(section))
        if files or commands:
            sections[title] = Recipe(title, files, commands)
    return sections


def files_of(page: Path) -> dict[str, str]:
    """The text of each file of a page by its path."""
    return {name: text for recipe in recipes(page).values() for name, text in recipe.files.items()}
