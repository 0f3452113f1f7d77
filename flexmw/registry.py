"""Components by name: the built-in ones, and those that installed distributions declare as entry points.

An entry point is a name, nothing more: listing imports no plugin, and only what the application names is loaded.

>>> component("retry", attempts=2).attempts
2
>>> [each.name for each in sort([component("envelope"), component("tagging")])]
['tagging', 'envelope']
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final, cast

from flexmw.contract import redact
from flexmw.errors import ConfigError, UnknownComponent
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
    "resolve",
    "sort",
]

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
"""Resolved without a scan, and never shadowed by an entry point."""


@lru_cache(maxsize=1)
def installed() -> tuple[Plugin, ...]:
    """All entry points of the group ``flexmw.components``, sorted by name. Imports none of them; scans once."""
    return declared(GROUP)


@lru_cache(maxsize=1)
def dialects() -> tuple[Plugin, ...]:
    """The same of the group ``flexmw.dialects``: shapes of errors, for the Envelope."""
    return declared(DIALECTS)


def resolve(name: str) -> type[Component]:
    """The class behind a name.

    :raises UnknownComponent: nothing provides it (a :class:`PluginError` and a :class:`ConfigError`).
    :raises PluginError: two distributions claim it, it does not import, or it is no component of a supported version.
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
    """What keeps an object from being a component class, and what its author should do."""
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
        return "has neither face", "Its author should give it an `asgi` or a `flow` method"
    return None


def component(name: str, /, **options: Any) -> Component:
    """The component of that name with those options: ``component("acme.quota", limit=5)``.

    :raises ConfigError: an option that it does not have, or a value that it does not take.
    :raises PluginError: as :func:`resolve`.
    """
    cls = resolve(name)
    parameters = inspect.signature(cls).parameters.values()
    valid = [each.name for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)]
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)
    for option in options:
        if option not in valid and not open_ended:
            choices = f"one of {', '.join(sorted(valid))}" if valid else "no options"
            raise ConfigError(f"{name}: option", option, choices)
    try:
        return cls(**options)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        shown = {option: "***" if option in _secrets(cls) else value for option, value in options.items()}
        raise ConfigError(f"{name}(...)", shown, f"options that {cls.__name__} takes ({redact(str(error))})") from error


def _secrets(cls: Any) -> set[str]:
    return {each.name for each in fields(cls) if each.metadata.get("secret")} if is_dataclass(cls) else set()


def check_order(components: Sequence[Component]) -> None:
    """Hold the components' order, outermost first, against what each asks for.

    :raises ConfigError: naming the two that are the wrong way round and the order that would be right.
    """
    places = {_name(each): place for place, each in reversed(list(enumerate(components)))}
    for outer, inner in _constraints(components):
        if places[outer] > places[inner]:
            right = ", ".join(_name(each) for each in sort(components))
            given = ", ".join(_name(each) for each in components)
            raise ConfigError(
                "order of components (outermost first)", given, f"{outer!r} outside {inner!r}; right is: {right}"
            )


def sort(components: Iterable[Component]) -> list[Component]:
    """The same components, outermost first, in an order that satisfies each one's ``order``; otherwise unchanged.

    :raises ConfigError: they ask for a cycle, which is named.
    """
    given = list(components)
    names = [_name(each) for each in given]
    sorter = TopologicalSorter({place: set[int]() for place in range(len(given))})
    for outer, inner in _constraints(given):
        for place, name in enumerate(names):
            if name == inner:
                sorter.add(place, names.index(outer))
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = " outside ".join(names[place] for place in error.args[1])
        raise ConfigError("order of components", cycle, "no cycle: change the `order` of one of them") from None
    ready, places = list(sorter.get_ready()), list[int]()
    while ready:
        place = min(ready)
        ready.remove(place)
        places.append(place)
        sorter.done(place)
        ready.extend(sorter.get_ready())
    return [given[place] for place in places]


def _constraints(components: Sequence[Component]) -> list[tuple[str, str]]:
    """Pairs (outer, inner) that are both there."""
    there = {_name(each) for each in components}
    pairs: list[tuple[str, str]] = []
    for each in components:
        order: Order = getattr(each, "order", Order())
        pairs += [(outer, _name(each)) for outer in order.after if outer in there]
        pairs += [(_name(each), inner) for inner in order.before if inner in there]
    return [(outer, inner) for outer, inner in pairs if outer != inner]


def _name(each: Component) -> str:
    return getattr(each, "name", type(each).__name__)
