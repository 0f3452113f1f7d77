"""Write the texts that are generated from the options of the components: ``python -m scripts.option_docs``.

Everything about an option stands at its field (``flexmw.kit.options``). From the fields this script writes the option
tables of ``docs/``, the ``:param`` lines of the class docstrings, and, where a class takes positional arguments, the
signature that type checkers read. ``tests/kit/test_option_docs.py`` compares what is written with the fields.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from flexmw import Envelope, Idempotency, Pace, RateLimit, Retry, Tagging
from flexmw.kit.options import OptionDoc, documentation
from scripts.marked import filled

__all__ = ["COMMAND", "COMPONENTS", "ROOT", "documented_options", "generated", "literal", "main", "table"]

ROOT: Final = Path(__file__).parents[1]
COMMAND: Final = "python -m scripts.option_docs"
WIDTH: Final = 120

COMPONENTS: Final[dict[type[Any], str | None]] = {
    Tagging: None,
    Envelope: "docs/envelope.md",
    RateLimit: "docs/ratelimit.md",
    Idempotency: "docs/idempotency.md",
    Pace: "docs/ratelimit.md",
    Retry: "docs/retry.md",
}
"""Each component, with the page that holds its option table. ``scripts/telemetry_page.py`` writes the whole page of
Tagging."""

# A plugin whose page is in this repository. It is read from its folder, because it need not be installed.
sys.path.append(str(ROOT / "plugins" / "flexmw-fallback" / "src"))
COMPONENTS[import_module("flexmw_fallback").Fallback] = "docs/fallback.md"


def main() -> int:
    """Write every file whose generated text has changed, and name it."""
    for path, text in generated().items():
        if path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            sys.stdout.write(f"written: {path.relative_to(ROOT)}\n")
    return 0


def generated() -> dict[Path, str]:
    """The whole text of each file that holds something generated, as it should be."""
    texts: dict[Path, str] = {}
    for cls, page in COMPONENTS.items():
        source = Path(inspect.getfile(cls))
        texts[source] = _with_signature(cls, _with_params(cls, _read(source, texts)))
        if page is not None:
            texts[ROOT / page] = _with_table(cls, _read(ROOT / page, texts))
    return texts


def _read(path: Path, texts: dict[Path, str]) -> str:
    return texts.get(path) or path.read_text("utf-8")


def documented_options(cls: type[Any]) -> list[OptionDoc]:
    """The options that users set. A hidden option without documentation, such as a clock, is for tests.

    :raises ValueError: an option that is not hidden has no documentation.
    """
    options = documentation(cls)
    if undocumented := [each.name for each in options if not (each.doc or each.hidden)]:
        raise ValueError(f"{cls.__name__}: option(..., doc=...) is missing for {', '.join(undocumented)}")
    return [each for each in options if each.doc]


def table(cls: type[Any]) -> str:
    """The options of a component as a Markdown table."""
    rows = [("option", "value", "default", "meaning")]
    rows += [
        (f"`{each.name}`", each.value or "", f"`{literal(each.default)}`", each.doc) for each in documented_options(cls)
    ]
    head, *body = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join((head, "|---" * len(rows[0]) + "|", *body))


def _cell(text: str) -> str:
    """Markdown outside of code takes ``<name>`` for HTML, and ``|`` ends a cell everywhere."""
    parts = re.split(r"(`[^`]*`)", text.replace("|", r"\|"))
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def literal(value: object) -> str:
    """A default as a Python literal; ``...`` for objects that have none."""
    if value is MISSING:
        return "required"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' * (len(value) == 1)})"
    return repr(value) if value is None or isinstance(value, (bool, int, float)) else "..."


def _with_table(cls: type[Any], page: str) -> str:
    begin, end = f"<!-- Options of {cls.__name__}, written by {COMMAND} -->", "<!-- End of options -->"
    return filled(page, begin, end, table(cls), name=f"the page of {cls.__name__}")


def _with_params(cls: type[Any], source: str) -> str:
    """Replace the ``:param`` lines of the class docstring."""
    lines = source.split("\n")
    docstring = _class(cls, source).body[0]
    place = range(docstring.lineno - 1, docstring.end_lineno or 0)
    first = next((number for number in place if lines[number].startswith("    :param ")), None)
    if first is None:
        raise ValueError(f"the docstring of {cls.__name__} has no :param line to replace")
    last = first
    while lines[last + 1].startswith(("    :param ", "        ")):
        last += 1
    return "\n".join([*lines[:first], *_params(cls), *lines[last + 1 :]])


def _params(cls: type[Any]) -> Iterator[str]:
    for each in documented_options(cls):
        text = f":param {each.name}: {each.description} Default: `{literal(each.default)}`."
        yield from textwrap.wrap(
            text.replace("`", "``"),
            WIDTH,
            initial_indent="    ",
            subsequent_indent="        ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def _with_signature(cls: type[Any], source: str) -> str:
    """Replace the ``__init__`` under ``if TYPE_CHECKING``, if the class has one. Tuples accept any sequence."""
    node = next((each for each in _class(cls, source).body if _is_signature(each)), None)
    if not isinstance(node, ast.If):
        return source
    function, lines = node.body[0], source.split("\n")
    collected = next(each for each in inspect.signature(cls).parameters.values() if each.kind is each.VAR_POSITIONAL)
    signature = [
        "        def __init__(",
        "            self,",
        f"            *{collected.name}: Any,",
        *(f"            {each.name}: {_accepted(each)}," for each in fields(cls) if each.init),
        "        ) -> None: ...",
    ]
    return "\n".join([*lines[: function.lineno - 1], *signature, *lines[function.end_lineno :]])


def _accepted(option: Field[Any]) -> str:
    """Type and default of a parameter. A list is accepted where the field keeps a tuple."""
    kind = re.sub(r"\btuple\[(.+?), \.\.\.\]", r"Sequence[\1]", str(option.type))
    return kind if option.default is MISSING else f"{kind} = {literal(option.default)}"


def _is_signature(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _class(cls: type[Any], source: str) -> ast.ClassDef:
    return next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == cls.__name__)


if __name__ == "__main__":
    sys.exit(main())
