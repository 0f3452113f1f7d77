"""Paths of requests: which requests an option names by path patterns, whatever the spelling of the path.

RateLimit's tables, ``exempt``, ``required`` and ``passthrough`` all compare paths here. Frameworks serve one route
under several spellings: Litestar and Quart collapse ``//``, BlackSheep ignores case and splits the path before it
decodes it, Falcon lets a segment be empty, Starlette's patterns end before a line feed, and a server may pass on a
lower-case method or an absolute URL. A request therefore has *readings*: the paths under which a framework may route
it. A pattern that limits requests applies if any reading matches. A pattern that exempts requests applies only if all
readings match, so that no spelling of a route is taken for another, exempt route.

>>> limited = (PathPattern("POST /login", "RateLimit(limit=...)"),)
>>> matched_patterns(limited, {"type": "http", "method": "post", "path": "//Login/"})[0].name
'POST /login'
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from inspect import isasyncgenfunction, isgeneratorfunction
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast
from urllib.parse import unquote

from flexmw.errors import ConfigError
from flexmw.kit.path_patterns import ABSOLUTE, PathPattern, path_patterns

__all__ = [
    "PLAIN",
    "RequestPredicate",
    "Routing",
    "all_readings",
    "check_returns",
    "matched_patterns",
    "remembered",
    "request_method",
    "request_predicate",
    "routing_of",
    "wrapped_apps",
]

_Scope: TypeAlias = MutableMapping[str, Any]
ResultT = TypeVar("ResultT")
RequestPredicate: TypeAlias = Callable[[_Scope], bool | Awaitable[bool]]

_SLASHES: Final = re.compile(r"/{2,}")
_ESCAPED_SLASH: Final = re.compile(rb"%(?=2[Ff])")
_MAX_REMEMBERED: Final = 4096
_MAX_REMEMBERED_PATH: Final = 256
_EMPTY_SEGMENT: Final = "\0"
_MAX_LAYERS: Final = 32


class Routing(NamedTuple):
    """What an app does with paths that the scope does not say.

    :param root_path: the app's own ``root_path``, such as ``FastAPI(root_path="/api")``: it is removed from the paths
        that begin with it.
    :param ignores_case: the app finds a route in any case.
    :param fills_segments: the app lets the last parameter of a route be empty.
    """

    root_path: str = ""
    ignores_case: bool = False
    fills_segments: bool = False


PLAIN: Final = Routing()
"""The routing of an app about which nothing is known."""


def request_predicate(value: Any, option: str, *, exempts: bool, app: object = None) -> RequestPredicate | None:
    """The predicate behind an option that names requests by paths or by a function of the scope.

    :param value: a path, a list of paths, a function of the scope (plain or async), or ``None``.
    :param exempts: the option takes requests out of a rule, so all readings of a path have to match; else one reading
        is enough.
    :param app: the wrapped app, whose own root path and way with case count.
    :return: ``None`` for ``None``, else a function of the scope, whose result may be awaitable.
    :raises ConfigError: for another value, for a generator function, and for a pattern that no request can match.
    """
    check_returns(value, option)
    if value is None or callable(value):
        return cast("RequestPredicate | None", value)
    patterns, routing = path_patterns(value, option), routing_of(app)
    if exempts:
        return remembered(lambda scope: all_readings(patterns, scope, routing))
    return remembered(lambda scope: bool(matched_patterns(patterns, scope, routing)))


def check_returns(value: Any, option: str) -> None:
    """Check that a function which decides about requests returns. What a function with ``yield`` returns is always
    true: every request would be exempt, or authenticated.

    :raises ConfigError: for a generator function, plain or async.
    """
    if isgeneratorfunction(value) or isasyncgenfunction(value):
        expected = "a function that returns whether the option applies; a function that yields would always be true"
        raise ConfigError(option, value, expected)


def remembered(decide: Callable[[_Scope], ResultT]) -> Callable[[_Scope], ResultT]:
    """A function of the scope that looks at method and path alone, with its results remembered: a table of patterns
    costs a request one lookup. Paths of more than 256 characters are decided anew each time."""
    results: dict[tuple[Any, ...], ResultT] = {}

    def remembering(scope: _Scope) -> ResultT:
        get, path = scope.get, scope["path"]
        key = (get("method"), path, get("root_path"), get("raw_path"))
        if key in results:
            return results[key]
        result = decide(scope)
        if len(path) <= _MAX_REMEMBERED_PATH:
            if len(results) >= _MAX_REMEMBERED:
                results.clear()
            results[key] = result
        return result

    return remembering


def matched_patterns(
    patterns: Sequence[PathPattern], scope: _Scope, routing: Routing = PLAIN, path: str | None = None
) -> tuple[PathPattern | None, ...]:
    """For each reading of a request the first pattern that matches it, in any case; ``None`` for a reading without one.
    Empty if no reading has a pattern.

    Case does not count whatever the app: that a path in another case has the same limit harms nobody, and frameworks
    do not tell whether they ignore case.

    :param path: the path, where the scope does not have it.
    """
    method = request_method(scope)
    for group in _readings(scope, routing, path):
        found: list[PathPattern | None] = []
        for reading in group:
            folded = reading.casefold()
            for pattern in patterns:
                if pattern.limits(method, folded):
                    found.append(pattern)
                    break
            else:
                found.append(None)
        if any(found):
            return tuple(dict.fromkeys(found))
    return ()


def all_readings(
    patterns: Sequence[PathPattern], scope: _Scope, routing: Routing = PLAIN, path: str | None = None
) -> bool:
    """Whether every reading of a request is matched by one of the patterns. Case counts unless the app ignores it."""
    method, folds = request_method(scope), routing.ignores_case
    for group in _readings(scope, routing, path):
        if all(
            any(
                pattern.exempts(method, reading.casefold() if folds else reading, ignores_case=folds)
                for pattern in patterns
            )
            for reading in group
        ):
            return True
    return False


def request_method(scope: _Scope) -> str:
    """The method of a request in capitals. The handshake of a websocket is a GET."""
    method: str = scope.get("method") or "GET"
    return method if method.isupper() else method.upper()


def routing_of(app: object) -> Routing:
    """What a wrapped app does with paths, as far as its attributes tell."""
    root_path, packages = "", set[str]()
    for layer in wrapped_apps(app):
        own = getattr(layer, "root_path", "")
        if isinstance(own, str) and own.startswith("/") and not root_path and hasattr(layer, "openapi"):
            root_path = own.rstrip("/")
        packages.add(type(layer).__module__.partition(".")[0])
    return Routing(root_path, "blacksheep" in packages, "falcon" in packages)


def wrapped_apps(app: object) -> Iterator[object]:
    """An app and every app that it wraps, as far as their attributes lead: ``app``, or the object of a bound method.

    Inside the components that are installed in an app, the app itself comes first, then what it calls.
    """
    layer: object = app
    for _ in range(_MAX_LAYERS):
        if layer is None:
            return
        yield layer
        if (framework := getattr(layer, "installed_in", None)) is not None:
            yield framework
        layer = getattr(layer, "__self__", None) or getattr(layer, "app", None)


def _readings(scope: _Scope, routing: Routing, path: str | None) -> list[tuple[str, ...]]:
    """The readings of a request: one group for the path without the root path, and one for the whole path.

    :param path: the path, where the scope does not have it.
    """
    whole: str = scope["path"] if path is None else path
    raw = _raw_reading(scope.get("raw_path"))
    roots = [root for root in ((scope.get("root_path") or "").rstrip("/"), routing.root_path) if root]
    if not roots and raw is None and whole[:1] == "/" and "//" not in whole and whole[-1] not in "/\n":
        return [(whole,)]
    texts = [_rooted(whole)] if raw is None else [_rooted(whole), _rooted(raw)]
    bases = [[_without(root, text) for text in texts] for root in roots]
    groups = [_spellings(base, routing) for base in (*bases, texts)]
    return [group for position, group in enumerate(groups) if group not in groups[:position]]


def _raw_reading(raw_path: object) -> str | None:
    """The path decoded except for its escaped slashes, as seen by frameworks that split the path before they decode it.
    ``None`` if no slash is escaped."""
    if not isinstance(raw_path, bytes) or b"%2" not in raw_path or not _ESCAPED_SLASH.search(raw_path):
        return None
    return unquote(_ESCAPED_SLASH.sub(b"%25", raw_path.partition(b"?")[0]).decode("latin-1"))


def _rooted(path: str) -> str:
    """A path as it is compared: without scheme and authority, with one slash in front and no line feed at the end."""
    if path[:1] != "/":
        path = ABSOLUTE.sub("", path, count=1)
    return "/" + path.removesuffix("\n").lstrip("/")


def _without(root: str, path: str) -> str:
    """A path without the root path in front, or as it is."""
    if path == root:
        return "/"
    return "/" + path[len(root) :].lstrip("/") if path.startswith(root + "/") else path


def _spellings(paths: Iterable[str], routing: Routing) -> tuple[str, ...]:
    """Paths with and without their double slashes, and with a last segment where the app lets it be empty."""
    spellings: dict[str, None] = {}
    for path in paths:
        spellings[_SLASHES.sub("/", path)] = None
        spellings[path] = None
        if routing.fills_segments and path[-1] == "/":
            spellings[path + _EMPTY_SEGMENT] = None
    return tuple(spellings)
