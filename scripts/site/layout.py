"""Lay out the input of the site: each page at its place, with the files that it links to."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from scripts.site import ROOT
from scripts.site.links import anchors, links, rewrite

__all__ = ["SETTINGS", "BadSite", "laid_out", "place_of"]

SETTINGS: Final = ROOT / "zensical.toml"
SOURCE: Final = "source"
"""The folder of the site for what lies outside of ``docs/``. Only its READMEs need a place in the navigation."""

_LANGUAGES: Final = {".py": "python", ".toml": "toml", ".ini": "ini", ".json": "json", ".yml": "yaml", ".sh": "sh"}
_PICTURES: Final = frozenset({".svg", ".png"})


class BadSite(Exception):
    """The pages do not make a site.

    :param faults: one sentence for each fault, which names the page, the line and the link.
    """

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def laid_out(generated: Mapping[str, str], root: Path = ROOT) -> dict[str, bytes]:
    """Every file of the site's input folder, by its path in it.

    :param generated: pages that no file holds: path in the site to text.
    :param root: the folder of the repository.
    :raises BadSite: a link leads nowhere, or the navigation and the pages differ.
    """
    texts = {page: page.read_text("utf-8") for folder in (root, root / "docs") for page in sorted(folder.glob("*.md"))}
    files: dict[str, bytes] = {path: text.encode() for path, text in generated.items()}
    faults: list[str] = []
    waiting = list(texts)
    while waiting:
        page = waiting.pop()
        for link in links(texts[page]):
            target = _target(page, link.path)
            fault = f"{page.relative_to(root)}:{link.line}: {link.path}{'#' * bool(link.anchor)}{link.anchor}"
            if not target.is_relative_to(root) or not target.is_file():
                faults.append(f"{fault}: there is no such file")
            elif target.suffix == ".md":
                if target not in texts:
                    texts[target] = target.read_text("utf-8")
                    waiting.append(target)
                if link.anchor and link.anchor not in anchors(texts[target]):
                    faults.append(f"{fault}: {target.relative_to(root)} has no such heading")
            elif target.suffix in _PICTURES:
                files[place_of(target, root)] = target.read_bytes()
            else:
                files[place_of(target, root)] = _source_page(target, root).encode()
    texts.pop(root / "README.md", None)
    places = {page: place_of(page, root) for page in texts}
    faults += _outside_navigation({*places.values(), *(path for path in files if path.endswith(".md"))}, root)
    if faults:
        raise BadSite(faults)
    return files | {place: _moved(page, texts[page], root).encode() for page, place in places.items()}


def place_of(file: Path, root: Path = ROOT) -> str:
    """The place of a file of the repository in the input folder.

    The README is the start page on a forge, and ``index.md`` that of the site, so a link to the one leads to the other.
    """
    path = file.relative_to(root).as_posix()
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{SOURCE}/{path}" if file.suffix in {".md", *_PICTURES} else f"{SOURCE}/{path}.md"


def _target(page: Path, path: str) -> Path:
    """The file that a link on a page leads to. A folder shows its README, as on a forge."""
    target = Path(os.path.normpath(page.parent / path)) if path else page
    return target / "README.md" if target.is_dir() else target


def _moved(page: Path, text: str, root: Path) -> str:
    """The text of a page at its place, with links to the places of what it links to."""
    folder = PurePosixPath(place_of(page, root)).parent

    return rewrite(text, lambda path: os.path.relpath(place_of(_target(page, path), root), folder))


def _source_page(file: Path, root: Path) -> str:
    """A file of the repository as a page."""
    text = file.read_text("utf-8")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"# {file.relative_to(root)}\n\n{fence}{_LANGUAGES.get(file.suffix, 'text')}\n{text.rstrip()}\n{fence}\n"


def _outside_navigation(pages: set[str], root: Path) -> Iterator[str]:
    named = list(_named(tomllib.loads((root / SETTINGS.name).read_text("utf-8"))["project"]["nav"]))
    for page in sorted(pages - set(named)):
        if not page.startswith(f"{SOURCE}/"):
            yield f"{page}: no line of zensical.toml names the page"
    for page in sorted(set(named) - pages):
        yield f"zensical.toml: {page}: there is no such page"
    for page in sorted({page for page in named if named.count(page) > 1}):
        yield f"zensical.toml: {page} is named twice"


def _named(nav: list[dict[str, Any]]) -> Iterator[str]:
    for entry in nav:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from _named(value)
