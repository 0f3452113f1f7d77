"""Write the table of public names in ``docs/plugins.md``: ``python -m scripts.public_names``.

Each package of flexmw says in the last sentences of its docstring which of its names are public. This script reads them
there. ``tests/test_public_modules.py`` compares the table with the packages, and searches the examples, the plugins and
the code blocks of the docs for imports of anything else.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

import flexmw

__all__ = ["COMMAND", "PAGE", "Package", "generated", "main", "packages"]

COMMAND: Final = "python -m scripts.public_names"
PAGE: Final = Path(__file__).parents[1] / "docs" / "plugins.md"

_BEGIN: Final = f"<!-- Public names, written by {COMMAND} -->"
_END: Final = "<!-- End of public names -->"

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


def _rows() -> Iterator[str]:
    yield "| import from | public names |"
    yield "|---|---|"
    for package in packages().values():
        if package.name == "flexmw":
            yield "| `flexmw` | every name in `flexmw.__all__` |"  # the other pages describe them
        elif package.names:
            yield _row(package.name, package.names)
        for module in package.modules:
            yield _row(module, importlib.import_module(module).__all__)


def _row(name: str, names: tuple[str, ...] | list[str]) -> str:
    return f"| `{name}` | {', '.join(f'`{public_name}`' for public_name in sorted(names))} |"


def generated() -> str:
    """The whole page, with the table as the packages say."""
    before, begin, rest = PAGE.read_text("utf-8").partition(_BEGIN)
    if not begin or _END not in rest:
        raise ValueError(f"{PAGE.name} lacks the lines {_BEGIN!r} and {_END!r}")
    return f"{before}{_BEGIN}\n\n{chr(10).join(_rows())}\n\n{_END}{rest.partition(_END)[2]}"


def main() -> int:
    """Write the page if the table has changed."""
    if (text := generated()) != PAGE.read_text("utf-8"):
        PAGE.write_text(text, "utf-8")
        sys.stdout.write(f"written: {PAGE.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
