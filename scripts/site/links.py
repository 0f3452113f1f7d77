"""Find and rewrite the relative links of a Markdown page. Links in code are text, as for every Markdown reader."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Link", "anchors", "links", "rewrite", "slug"]

_LINK: Final = re.compile(r"(?<=\]\()(?P<target>[^)\s]+)(?=\))")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_CODE: Final = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
_HEADING: Final = re.compile(r"#{1,6} +(?P<text>.+?)(?: +#+)?$")
_EXTERNAL: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Link:
    """A relative link.

    :param line: the line of the page that holds the link, counted from 1.
    :param path: the path as it is written; empty where the link stays on its page.
    :param anchor: what follows ``#``; empty where nothing does.
    """

    line: int
    path: str
    anchor: str


def links(text: str) -> Iterator[Link]:
    """The relative links of a page, images included, in order."""
    for number, line in _prose(text):
        for match in _LINK.finditer(_without_code(line)):
            target = match["target"]
            if not _EXTERNAL.match(target):
                path, _, anchor = target.partition("#")
                yield Link(number, path, anchor)


def rewrite(text: str, place: Callable[[str], str]) -> str:
    """The page with the path of each relative link replaced.

    :param place: gives the new path for a path as it is written.
    """
    lines = text.split("\n")
    for number, line in _prose(text):
        code = [match.span() for match in _CODE.finditer(line)]

        def replaced(match: re.Match[str], code: list[tuple[int, int]] = code) -> str:
            target = match["target"]
            path, sign, anchor = target.partition("#")
            if _EXTERNAL.match(target) or not path or any(first <= match.start() < last for first, last in code):
                return target
            return f"{place(path)}{sign}{anchor}"

        lines[number - 1] = _LINK.sub(replaced, line)
    return "\n".join(lines)


def anchors(text: str) -> set[str]:
    """The anchors of the headings of a page. A heading that appears twice gets ``-1`` appended, as on forges."""
    seen: dict[str, int] = {}
    names: set[str] = set()
    for _, line in _prose(text):
        if heading := _HEADING.match(line):
            name = slug(heading["text"])
            count = seen.get(name, 0)
            seen[name] = count + 1
            names.add(f"{name}-{count}" if count else name)
    return names


def slug(heading: str) -> str:
    """The anchor of a heading, as forges make it: lower case, without punctuation, a hyphen for each space."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a page outside of fenced code, with their numbers."""
    fence = ""
    for number, line in enumerate(text.split("\n"), 1):
        if mark := _FENCE.match(line):
            if not fence:
                fence = mark[1]
                continue
            if mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
                continue
        if not fence:
            yield number, line


def _without_code(line: str) -> str:
    return _CODE.sub(lambda match: " " * len(match[0]), line)
