"""Turn a docstring into Markdown: reStructuredText inline marks, field lists, doctests and literal blocks."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Final

__all__ = ["markdown", "summary"]

_FIELD: Final = re.compile(r":(?P<kind>param|ivar|return|returns|raises)(?: (?P<name>[^:]+))?: ?(?P<text>.*)")
_ROLE: Final = re.compile(r":(?:\w+:)?\w+:`~?(?:[^`<]*<)?(?P<target>[^`>]+)>?`")
_LITERAL: Final = re.compile(r"``(.+?)``", re.DOTALL)


def markdown(docstring: str, page: str = "", *, params: bool = True) -> str:
    """A docstring as Markdown.

    :param page: the page that anchors of the docstring, such as ``[Paths](#paths)``, belong to.
    :param params: leave out the parameters if false, because a table elsewhere has them.
    """
    text, fields = _at_fields(inspect.cleandoc(docstring))
    parts = list(_paragraphs(text))
    rows: dict[str, list[tuple[str, str]]] = {"param": [], "ivar": [], "return": [], "raises": []}
    for kind, name, meaning in _fields(fields):
        rows[kind.replace("returns", "return")].append((name, _inline(meaning)))
    named = rows["param"] * params + rows["ivar"]
    if named:
        parts.append(
            "\n".join(["| name | meaning |", "|---|---|", *(f"| `{name}` | {_cell(text)} |" for name, text in named)])
        )
    parts += [f"**Returns** {meaning}" for _, meaning in rows["return"]]
    if rows["raises"]:
        parts.append("\n".join(f"- **Raises** `{name}`: {meaning}" for name, meaning in rows["raises"]))
    return "\n\n".join(parts).replace("](#", f"]({page}#" if page else "](#")


def summary(docstring: str) -> str:
    """The first sentence of a docstring, as Markdown."""
    first = _inline(" ".join(inspect.cleandoc(docstring).partition("\n\n")[0].split()))
    return re.split(r"(?<=\.) |(?<=:) *$", first)[0]


def _at_fields(text: str) -> tuple[str, str]:
    """The text before the first field, and the fields."""
    lines = text.split("\n")
    first = next((number for number, line in enumerate(lines) if _FIELD.match(line)), len(lines))
    return "\n".join(lines[:first]).rstrip(), "\n".join(lines[first:])


def _fields(text: str) -> Iterator[tuple[str, str, str]]:
    """Kind, name and text of each field. A field goes on in indented lines."""
    for part in re.split(r"\n(?=:)", text.strip()):
        if match := _FIELD.match(part.split("\n")[0]):
            yield match["kind"], (match["name"] or "").strip(), " ".join(part.partition(": ")[2].split())


def _paragraphs(text: str) -> Iterator[str]:
    """The paragraphs, with doctests and literal blocks as code."""
    literal = False
    for part in re.split(r"\n\s*\n", text):
        if part.startswith(">>>"):
            yield f"```pycon\n{part}\n```"
        elif literal and part.startswith("    "):
            yield f"```python\n{textwrap.dedent(part)}\n```"
        elif part.strip():
            literal = part.rstrip().endswith("::")
            prose = re.sub(r"\s*::\s*$", ":" if part.strip() != "::" else "", part)
            if prose.strip():
                yield _inline(prose)


def _inline(text: str) -> str:
    """Inline marks of reStructuredText as Markdown; ``<name>`` outside of code is text and no HTML."""
    text = _ROLE.sub(lambda match: f"`{match['target'].strip('()')}`", _LITERAL.sub(r"`\1`", text))
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
