"""The registry of components: names to classes, for built-in components and for the entry points of distributions.

Listing entry points imports no plugin. A plugin is imported when the application names it.

>>> component("retry", attempts=2).attempts
2
>>> [item.name for item in sort([component("envelope"), component("tagging")])]
['tagging', 'envelope']
"""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final, cast

from flexmw.contract import redact
from flexmw.errors import ConfigError, PluginError, UnknownComponent
from flexmw.kit.checking import UNKNOWN, check_values, is_checking
from flexmw.kit.component import API, OLDEST_API, Component, Order
from flexmw.kit.entry_points import Plugin, claim, declared, fault, load, load_target

__all__ = [
    "BUILT_IN",
    "DIALECTS",
    "GROUP",
    "Plugin",
    "check_order",
    "component",
    "dialects",
    "installed",
    "misnamed",
    "resolve",
    "sort",
    "unknown_in_order",
]

_log: Final = logging.getLogger("flexmw.plugins")

GROUP: Final = "flexmw.components"
DIALECTS: Final = "flexmw.dialects"

BUILT_IN: Final = {
    "tagging": "flexmw.tagging:Tagging",
    "envelope": "flexmw.envelope:Envelope",
    "ratelimit": "flexmw.ratelimit:RateLimit",
    "idempotency": "flexmw.idempotency:Idempotency",
    "pace": "flexmw.pace:Pace",
    "retry": "flexmw.retry:Retry",
}
"""Names that need no scan of entry points. An entry point of the same name is ignored."""

_reported: Final[set[tuple[str, str]]] = set()
"""The components whose unknown names in ``order`` were logged, and the names."""


@lru_cache(maxsize=1)
def installed() -> tuple[Plugin, ...]:
    """Return all entry points of the group ``flexmw.components``, sorted by name.

    The entry points are scanned once per process, and none of them is imported.
    """
    return declared(GROUP)


@lru_cache(maxsize=1)
def dialects() -> tuple[Plugin, ...]:
    """Return all entry points of the group ``flexmw.dialects``, the error formats of Envelope; see
    :func:`installed`."""
    return declared(DIALECTS)


def resolve(name: str) -> type[Component]:
    """Return the component class of a name, and import its module.

    :param name: a built-in name, or the name of an entry point.
    :raises UnknownComponent: nothing provides the name (a :class:`PluginError` and a :class:`ConfigError`).
    :raises PluginError: two distributions claim the name, its module does not import, or its target is not a component
        of a supported API version.
    """
    if name in BUILT_IN:
        return cast("type[Component]", load_target(BUILT_IN[name]))
    plugin = claim(installed(), name)
    if plugin is None:
        raise UnknownComponent(name, [*BUILT_IN, *(plugin.name for plugin in installed())])
    loaded = load(plugin)
    faults = _faults(loaded)
    if faults:
        problem, fix = faults
        raise fault(plugin, problem, fix=fix)
    return cast("type[Component]", loaded)


def _faults(loaded: Any) -> tuple[str, str] | None:
    """Return why an object is not a component class, and a fix for its author; ``None`` for a component class."""
    if not isinstance(loaded, type):
        return "is no class", "Its author should let the entry point name the component's class"
    api = getattr(loaded, "api", None)
    if not isinstance(api, int):
        return f"has no `api` version (api = {api!r})", f"Its author should declare `api: ClassVar[int] = {API}`"
    if api > API:
        return f"needs component API {api}; this flexmw speaks {OLDEST_API} to {API}", "Upgrade flexmw"
    if api < OLDEST_API:
        return f"speaks component API {api}; this flexmw needs at least {OLDEST_API}", "Upgrade the plugin"
    if not isinstance(getattr(loaded, "name", None), str):
        return "has no `name`", "Its author should declare `name: ClassVar[str]`"
    if not isinstance(getattr(loaded, "order", Order()), Order):
        return "has an `order` that is none", "Its author should declare `order: ClassVar[flexmw.Order]`"
    if not (callable(getattr(loaded, "asgi", None)) or callable(getattr(loaded, "flow", None))):
        return "has neither side", "Its author should give it an `asgi` or a `flow` method"
    return None


def misnamed(plugin: Plugin, loaded: Any) -> PluginError | None:
    """Return the error of a plugin whose name applications cannot use; ``None`` for a valid name.

    :param plugin: the entry point of a component.
    :param loaded: the class of the entry point.
    """
    author = "Its author should"
    if plugin.name in BUILT_IN:
        return fault(plugin, "has the name of a built-in component and is ignored", fix=f"{author} call it 'vendor.x'")
    if "." not in plugin.name:
        return fault(plugin, "has a name without a dot, and those are flexmw's own", fix=f"{author} call it 'vendor.x'")
    if loaded.name != plugin.name:
        problem = f"names a component that calls itself {loaded.name!r}: files, `order` and messages would not agree"
        return fault(plugin, problem, fix=f"{author} give both one name")
    if unknown := unknown_in_order(loaded):
        return fault(plugin, "; ".join(unknown), fix=f"{author} correct the name, or upgrade flexmw")
    return None


def unknown_in_order(component: Any) -> list[str]:
    """Return a sentence for each name in a component's ``order`` that no component can have, with a similar name.

    Names without a dot are flexmw's own, so one that no built-in component has is misspelt, or belongs to another
    version of flexmw.
    """
    order: Order = getattr(component, "order", Order())
    unknown: list[str] = []
    for side in ("after", "before", "needs"):
        for name in getattr(order, side):
            if "." not in name and name not in BUILT_IN:
                close = difflib.get_close_matches(name, BUILT_IN, n=1)
                guess = f": did you mean {close[0]!r}?" if close else f"; known are {', '.join(BUILT_IN)}"
                unknown.append(f"its order has {side}=({name!r},), which no component of flexmw is called{guess}")
    return unknown


def component(name: str, /, **options: Any) -> Component:
    """Create a component by its name: ``component("acme.quota", limit=5)``.

    While options are only checked (:func:`flexmw.kit.checking.is_checking`), the options of a plugin, and those beside
    a value that is unknown, are checked one by one: the component is not made, and the class is returned in its place.

    :param name: a built-in name, or the name of an entry point.
    :param options: the options of the component.
    :raises ConfigError: the component does not have the option, or does not accept the value.
    :raises PluginError: as :func:`resolve`.
    """
    cls = resolve(name)
    parameters = inspect.signature(cls).parameters.values()
    valid = [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    accepts_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    for option in options:
        if option not in valid and not accepts_any:
            choices = f"one of {', '.join(sorted(valid))}" if valid else "no options"
            raise ConfigError(f"{name}: option", option, choices)
    if is_checking() and (name not in BUILT_IN or UNKNOWN in options.values()):
        check_values(cls, options)
        return cast("Component", cls)
    try:
        return cls(**options)
    except ConfigError:
        raise
    except SystemExit as error:
        fix = "Its author should raise an error instead"
        raise PluginError(name, f"exits when {cls.__name__} is made (code {error.code})", fix=fix) from error
    except (TypeError, ValueError) as error:
        shown = {option: "***" if option in _secrets(cls) else value for option, value in options.items()}
        raise ConfigError(f"{name}(...)", shown, f"options that {cls.__name__} takes ({redact(str(error))})") from error


def _secrets(cls: Any) -> set[str]:
    return {field.name for field in fields(cls) if field.metadata.get("secret")} if is_dataclass(cls) else set()


def check_order(components: Sequence[Component]) -> None:
    """Check the order of components against the ``order`` of each.

    :param components: outermost first.
    :raises ConfigError: a component needs another component that is missing, or two components are in the wrong order.
        The error names both, and an order that is right.
    """
    _check_needs(components)
    _log_unknown(components)
    positions = {_name(item): position for position, item in reversed(list(enumerate(components)))}
    for outer, inner in _constraints(components):
        if positions[outer] > positions[inner]:
            right = ", ".join(_name(item) for item in sort(components))
            given = ", ".join(_name(item) for item in components)
            raise ConfigError(
                "order of components (outermost first)", given, f"{outer!r} outside {inner!r}; right is: {right}"
            )


def _check_needs(components: Sequence[Component]) -> None:
    present = {_name(item) for item in components}
    for item in components:
        for needed in getattr(getattr(item, "order", None), "needs", ()):
            if needed not in present:
                given = ", ".join(_name(item) for item in components)
                raise ConfigError("components", given, f"{needed!r} too: {_name(item)!r} has no effect without it")


def _log_unknown(components: Sequence[Component]) -> None:
    """Log once that a name in an ``order`` has no effect, because no component has this name. Components of the
    application may have any name, so the names of the present components are known."""
    present = {_name(item) for item in components}
    for item in components:
        order: Order = getattr(item, "order", Order())
        names = [name for name in (*order.after, *order.before) if "." not in name and name not in present]
        for name in names:
            if name not in BUILT_IN and (_name(item), name) not in _reported:
                _reported.add((_name(item), name))
                _log.warning("component %r: %s", _name(item), "; ".join(unknown_in_order(item)))


def sort(components: Iterable[Component]) -> list[Component]:
    """Sort components so that the ``order`` of each is satisfied, and keep their order otherwise.

    :param components: in any order.
    :return: the same components, outermost first.
    :raises ConfigError: the components require a cycle, which the error names.
    """
    given = list(components)
    names = [_name(item) for item in given]
    sorter = TopologicalSorter({position: set[int]() for position in range(len(given))})
    for outer, inner in _constraints(given):
        for position, name in enumerate(names):
            if name == inner:
                sorter.add(position, names.index(outer))
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = " outside ".join(names[position] for position in error.args[1])
        raise ConfigError("order of components", cycle, "no cycle: change the `order` of one of them") from None
    ready, positions = list(sorter.get_ready()), list[int]()
    while ready:
        position = min(ready)
        ready.remove(position)
        positions.append(position)
        sorter.done(position)
        ready.extend(sorter.get_ready())
    return [given[position] for position in positions]


def _constraints(components: Sequence[Component]) -> list[tuple[str, str]]:
    """Return the required pairs (outer, inner) of the names of these components."""
    present = {_name(item) for item in components}
    pairs: list[tuple[str, str]] = []
    for item in components:
        order: Order = getattr(item, "order", Order())
        pairs += [(outer, _name(item)) for outer in order.after if outer in present]
        pairs += [(_name(item), inner) for inner in order.before if inner in present]
    return [(outer, inner) for outer, inner in pairs if outer != inner]


def _name(component: Component) -> str:
    return getattr(component, "name", type(component).__name__)
