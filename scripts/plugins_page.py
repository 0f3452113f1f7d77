"""Write the tables of ``docs/plugins.md``, public names and events: ``python -m scripts.plugins_page``.

Each package of flexmw says in the last sentences of its docstring which of its names are public, and this script reads
them there. ``tests/test_public_modules.py`` compares the table with the packages, and searches the examples, the
plugins and the code blocks of the docs for imports of anything else. Events are rows of :mod:`flexmw.kit.events`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, get_type_hints

import flexmw
from flexmw.kit.events import EVENTS
from scripts.marked import filled

__all__ = ["COMMAND", "PAGE", "Package", "generated", "main", "packages"]

COMMAND: Final = "python -m scripts.plugins_page"
PAGE: Final = Path(__file__).parents[1] / "docs" / "plugins.md"

_FORMS: Final = (
    re.compile(r"Public: (?P<names>the names in ``__all__``)(?:, and the modules? (?P<modules>[^.]+))?\. The"),
    re.compile(r"Public: the modules? (?P<modules>[^.]+)\. The"),
    re.compile(r"Private: "),
)


@dataclass(frozen=True, slots=True)
class Package:
    """What a package says about itself.

    :param name: the full name of a package or of a public module.
    :param names: the public names in it.
    :param modules: the full names of its public modules.
    """

    name: str
    names: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


def packages() -> dict[str, Package]:
    """Every package of flexmw by its name.

    :raises ValueError: a package does not say which of its names are public.
    """
    names = [info.name for info in pkgutil.walk_packages(flexmw.__path__, "flexmw.") if info.ispkg]
    return {name: _package(name) for name in ("flexmw", *names)}


def _package(name: str) -> Package:
    package = importlib.import_module(name)
    last_paragraph = " ".join((package.__doc__ or "").strip().rpartition("\n\n")[2].split())
    match = next(filter(None, (form.match(last_paragraph) for form in _FORMS)), None)
    if match is None:
        raise ValueError(f"{name}: its docstring must end with 'Public: ...' or 'Private: ...', see CONTRIBUTING.md")
    forms = match.groupdict()
    modules = [f"{name}.{module}" for module in re.findall(r"``(\w+)``", forms.get("modules") or "")]
    public = tuple(package.__all__) if forms.get("names") else ()
    modules += [f"{name}.{attribute}" for attribute in public if isinstance(getattr(package, attribute), ModuleType)]
    return Package(name, public, tuple(modules))


def _public_names() -> Iterator[str]:
    yield "| import from | public names |"
    yield "|---|---|"
    for package in packages().values():
        if package.name == "flexmw":
            yield "| `flexmw` | every name in `flexmw.__all__` |"  # the other pages describe them
        elif package.names:
            yield _names_row(package.name, package.names)
        for module in package.modules:
            yield _names_row(module, importlib.import_module(module).__all__)


def _names_row(name: str, names: Sequence[str]) -> str:
    return f"| `{name}` | {', '.join(f'`{public_name}`' for public_name in sorted(names))} |"


def _events() -> Iterator[str]:
    yield "| event | emitted when | details |"
    yield "|---|---|---|"
    for event in EVENTS.values():
        details = [_detail(key, hint) for key, hint in get_type_hints(event.details, include_extras=True).items()]
        yield f"| `{event.name}` | {inspect.cleandoc(event.details.__doc__ or '')} | {'<br>'.join(details) or 'none'} |"


def _detail(key: str, hint: Any) -> str:
    meaning, *_ = hint.__metadata__
    return f"`{key}`: {meaning}"


_TABLES: Final[Mapping[str, Callable[[], Iterator[str]]]] = {"public names": _public_names, "events": _events}


def generated() -> str:
    """The whole page, with each table as the code says.

    :raises ValueError: the page lacks the place of a table.
    """
    text = PAGE.read_text("utf-8")
    for title, rows in _TABLES.items():
        begin, end = f"<!-- {title.capitalize()}, written by {COMMAND} -->", f"<!-- End of {title} -->"
        text = filled(text, begin, end, "\n".join(rows()), name=PAGE.name)
    return text


def main() -> int:
    """Write the page if the table has changed."""
    if (text := generated()) != PAGE.read_text("utf-8"):
        PAGE.write_text(text, "utf-8")
        sys.stdout.write(f"written: {PAGE.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
