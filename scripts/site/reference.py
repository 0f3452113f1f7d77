"""Write the reference pages of the site from the signatures and docstrings of the public names."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from types import ModuleType
from typing import Any, Final

import flexmw
from scripts import option_docs
from scripts.plugins_page import packages
from scripts.site.docstrings import markdown, summary

__all__ = ["reference_pages"]

_WIDTH: Final = 88
_COMPONENT_PAGES: Final[dict[type[Any], str]] = {
    cls: f"../{PurePosixPath(page or 'docs/telemetry.md').name}"
    for cls, page in option_docs.COMPONENTS.items()
    if cls.__module__.startswith("flexmw.")
}


def _is_component(_name: str, value: object) -> bool:
    return isinstance(value, type) and value in _COMPONENT_PAGES


def _is_error(name: str, value: object) -> bool:
    return name == "error_from" or (isinstance(value, type) and issubclass(value, Exception))


def _is_of_flows(_name: str, value: object) -> bool:
    module = str(getattr(value, "__module__", ""))
    return module.startswith(("flexmw.kit.effects", "flexmw.kit.built")) or not module.startswith("flexmw")


_PAGES: Final[Mapping[str, tuple[str, Callable[[str, object], bool]]]] = {
    "components": ("Components", _is_component),
    "errors": ("Errors", _is_error),
    "flows": ("Flows: the client side of a component", _is_of_flows),
    "functions": ("Wrapping, calls and plugins", lambda _name, _value: True),
}
"""Each page of names of ``flexmw``: its title, and what belongs on it. The first page that takes a name has it."""


def reference_pages() -> dict[str, str]:
    """The reference: path in the site to Markdown."""
    names: dict[str, list[str]] = {page: [] for page in _PAGES}
    for name in flexmw.__all__:
        value = getattr(flexmw, name)
        if not isinstance(value, ModuleType):
            names[next(page for page, (_, takes) in _PAGES.items() if takes(name, value))].append(name)
    pages = {
        f"reference/{page}.md": "\n\n".join(
            [f"# {title}", *(_entry(name, getattr(flexmw, name)) for name in names[page])]
        )
        for page, (title, _) in _PAGES.items()
    }
    pages["reference/modules.md"] = "\n\n".join(["# Other public modules", *_modules()])
    pages["reference/index.md"] = "\n\n".join(_overview(names))
    return pages


def _overview(names: Mapping[str, list[str]]) -> Iterator[str]:
    yield "# Reference"
    yield "Every public name, from its docstring. Other names may change in any version: see [Plugins](../plugins.md)."
    for page, (title, _) in _PAGES.items():
        yield f"## {title}"
        rows = (f"| [`{name}`]({page}.md#{name.lower()}) | {_summary(getattr(flexmw, name))} |" for name in names[page])
        yield "\n".join(["| name | what it is |", "|---|---|", *rows])
    yield "## Other public modules"
    yield "[Modules](modules.md) lists what can be imported from `flexmw.testing`, `flexmw.contract` and the rest."


def _modules() -> Iterator[str]:
    for package in packages().values():
        modules: list[str] = [package.name] if package.names else []
        for module in dict.fromkeys(modules + list(package.modules)):
            if module == "flexmw":
                continue
            loaded = importlib.import_module(module)
            own = [name for name in sorted(loaded.__all__) if not isinstance(getattr(loaded, name), ModuleType)]
            yield f"## {module}"
            yield summary(loaded.__doc__ or "")
            rows = (f"| `{name}{_brief(getattr(loaded, name))}` | {_summary(getattr(loaded, name))} |" for name in own)
            yield "\n".join(["| name | what it is |", "|---|---|", *rows])


def _entry(name: str, value: Any) -> str:
    """One name of ``flexmw``: its signature, its docstring, and the methods of a class."""
    page = _COMPONENT_PAGES.get(value, "") if isinstance(value, type) else ""
    parts = [f"## {name}"]
    if page:
        parts += [markdown(_doc(value), page, params=False), _beside(option_docs.table(value), page)]
    else:
        parts += [f"```python\n{_signature(name, value)}\n```" if callable(value) else "", markdown(_doc(value))]
    if isinstance(value, type) and not issubclass(value, Exception):
        for method, function in vars(value).items():
            is_own = inspect.isfunction(function) or isinstance(function, classmethod)
            if is_own and not method.startswith("_") and (doc := inspect.getdoc(getattr(value, method))):
                signature = _signature(method, getattr(value, method))
                parts += [f"### {name}.{method}", f"```python\n{signature}\n```", markdown(doc, page)]
    return "\n\n".join(filter(None, parts))


def _beside(text: str, page: str) -> str:
    """A text of a page in ``docs/``, with its links as they are in ``reference/``."""
    return re.sub(r"\]\((?=[\w-]+\.md)", "](../", text.replace("](#", f"]({page}#"))


def _doc(value: object) -> str:
    """The docstring of a function or a class; aliases of types have none of their own."""
    is_alias = not (inspect.isroutine(value) or isinstance(value, type) or hasattr(value, "__wrapped__"))
    return "" if is_alias else (inspect.getdoc(value) or "")


def _summary(value: object) -> str:
    if doc := _doc(value):
        return _cell(summary(doc))
    text = repr(value)
    return f"a {type(value).__name__}" if len(text) > _WIDTH else f"`{_cell(text)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _signature(name: str, value: Any) -> str:
    """A call as it is written, one parameter a line where it is long."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return name
    kept = [parameter for parameter in signature.parameters.values() if parameter.name not in {"self", "cls"}]
    if isinstance(value, type):
        signature = signature.replace(return_annotation=inspect.Signature.empty)
    text = _unquoted(str(signature.replace(parameters=kept)))
    if len(name) + len(text) <= _WIDTH or not kept:
        return f"{name}{text}"
    returned = text.rpartition(") -> ")[2] if ") -> " in text else ""
    lines = [
        _unquoted(str(signature.replace(parameters=[each], return_annotation=inspect.Signature.empty)))[1:-1]
        for each in kept
    ]
    if any(each.kind is each.KEYWORD_ONLY for each in kept) and not any(
        each.kind is each.VAR_POSITIONAL for each in kept
    ):
        first = next(number for number, each in enumerate(kept) if each.kind is each.KEYWORD_ONLY)
        lines = [*lines[:first], "*", *(line.removeprefix("*, ") for line in lines[first:])]
    lines = [line.removeprefix("*, ") if line != "*" else line for line in lines]
    body = "".join(f"    {line},\n" for line in lines)
    return f"{name}(\n{body}){f' -> {returned}' if returned else ''}"


def _unquoted(text: str) -> str:
    """Annotations without the quotes that postponed evaluation gives them."""
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _brief(value: object) -> str:
    return "()" if inspect.isroutine(value) else ""
