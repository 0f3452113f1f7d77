"""Path patterns: the texts by which options name paths, such as ``"POST /v1/videos/{id}"`` or ``"/static/*"``.

>>> PathPattern("/static/*", "exempt").limits("GET", "/static/logo.png")
True
>>> PathPattern("/users/<id>", "RateLimit(limit=...)")
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: RateLimit(limit=...) = '/users/<id>': expected one segment as '{name}': '<' and '>' match \
nothing
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, cast

from flexmw.errors import ConfigError

__all__ = ["ABSOLUTE", "PATH_FORMS", "PathPattern", "path_patterns"]

PATH_FORMS: Final = (
    "a path ('/health', '/users/{id}', '/static/*', 'OPTIONS *', 'GET /metrics'), a list of them, or a function of "
    "the scope"
)
"""What an option takes that names requests; for the message of a ``ConfigError``."""

_METHOD: Final = re.compile(r"[A-Z][A-Z0-9_-]*")
_NO_METHODS: Final = {
    **dict.fromkeys(("ALL", "ANY"), "the path alone for all methods"),
    **dict.fromkeys(("WEBSOCKET", "WS", "WSS"), "'GET', the method of a websocket's handshake"),
}
"""What routers accept in the place of a method, and what to write instead."""

_PARAMETER: Final = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
_FOREIGN_PARAMETER: Final = re.compile(r"/(?::[A-Za-z_]|\[[^/]*\](?=/|$))")
ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?://[^/]*)?")
"""The scheme and the authority at the beginning of an absolute URL."""


class PathPattern:
    """``"/path"``, ``"/prefix*"``, ``"METHOD /path"`` or ``"METHOD *"``, with ``{name}`` for one segment and, at the
    end, ``{name:path}`` for the rest of the path.

    ``GET`` includes ``HEAD`` and the handshake of a websocket. Slashes at the end do not count.

    :param text: the pattern.
    :param option: the option's name for error messages.
    :param is_prefix: the pattern also matches every path that begins with it.
    :ivar name: the pattern in one spelling: a store key may hold it.
    :ivar shape: equal for two patterns that match the same requests.
    :ivar specificity: a sort key; the more specific pattern has the larger one.
    :raises ConfigError: for a pattern that no request can match.
    """

    __slots__ = ("_exempts", "_limits", "_method", "name", "shape", "specificity")

    def __init__(self, text: object, option: str, *, is_prefix: bool = False) -> None:
        if not isinstance(text, str):
            raise ConfigError(option, text, PATH_FORMS)
        first, space, rest = text.strip().partition(" ")
        method, path = (first, rest.strip()) if space and not first.startswith("/") else ("", text.strip())
        expected = _method_fault(method) or _path_fault(path)
        if expected is not None:
            raise ConfigError(option, text, expected)
        literal, star, _ = path.partition("*")
        whole_rest = re.search(r"\{[^{}:]*:path\}$", literal)
        if whole_rest is not None and not star:
            literal, star = literal[: whole_rest.start()], "*"
        elif is_prefix:
            star = "*"
        elif len(literal) > 1 and not star:
            literal = literal.rstrip("/") or "/"
        self._method = method
        self.name = f"{method} {literal}{star}".strip()
        self.shape = (method, _PARAMETER.sub("{}", literal).casefold(), bool(star))
        bare = _PARAMETER.sub("", literal)
        self.specificity = (len(bare), not star, bare == literal, bool(method))
        folded = literal.casefold()
        self._exempts = {False: _test(literal, bool(star)), True: _test(folded, bool(star))}
        self._limits = _test(folded, bool(star), bare=True)

    def limits(self, method: str, path: str) -> bool:
        """Whether the pattern matches one reading of a request, for an option that limits.

        :param method: the method in capitals; see :func:`request_method`.
        :param path: the reading in folded case.
        """
        return self._serves(method) and self._limits(path)

    def exempts(self, method: str, path: str, *, ignores_case: bool = False) -> bool:
        """Whether the pattern matches one reading of a request, for an option that exempts.

        :param method: the method in capitals; see :func:`request_method`.
        :param path: the reading, in folded case with ``ignores_case``.
        """
        return self._serves(method) and self._exempts[ignores_case](path)

    def _serves(self, method: str) -> bool:
        own = self._method
        return not own or own == method or (own == "GET" and method == "HEAD")


def path_patterns(values: object, option: str, *, is_prefix: bool = False) -> tuple[PathPattern, ...]:
    """The patterns of an option that takes a path or a list of paths.

    :raises ConfigError: for another value, and for a pattern that no request can match.
    """
    if not isinstance(values, (str, list, tuple)):
        raise ConfigError(option, values, PATH_FORMS)
    texts = [values] if isinstance(values, str) else cast("Sequence[object]", values)
    return tuple(PathPattern(text, option, is_prefix=is_prefix) for text in texts)


def _test(literal: str, star: bool, *, bare: bool = False) -> Callable[[str], bool]:
    """The test of one reading.

    :param bare: ``/static/*`` matches ``/static`` too.
    """
    below = star and literal.endswith("/") and literal != "/"
    if "{" not in literal:
        if not star:
            return lambda path: (path.rstrip("/") or "/") == literal
        if below and bare:
            return lambda path: path.startswith(literal) or path == literal[:-1]
        return lambda path: path.startswith(literal)
    end = "(?:/.*)?" if below and bare else "/.*" if below else ".*" if star else "/*"
    parts = _PARAMETER.split(literal[:-1] if below else literal)[::3]
    expression = re.compile("[^/]*".join(map(re.escape, parts)) + end, re.DOTALL)
    if not star:
        return lambda path: expression.fullmatch(path.rstrip("/")) is not None
    return lambda path: expression.fullmatch(path) is not None


def _method_fault(method: str) -> str | None:
    """What is expected instead of a method; ``None`` for a method and for none."""
    if not method or _METHOD.fullmatch(method):
        return _NO_METHODS.get(method)
    if _METHOD.fullmatch(method.upper()):
        return f"the method in capitals: {method.upper()!r}"
    return "one method in capitals and a path, such as 'GET /metrics'; name each method in a pattern of its own"


def _path_fault(path: str) -> str | None:
    """What is expected instead of a path; ``None`` for a path that a request can have."""
    return next((expected for is_wrong, expected in _PATH_FAULTS if is_wrong(path)), None)


_PATH_FAULTS: Final[tuple[tuple[Callable[[str], bool], str], ...]] = (
    (lambda path: ABSOLUTE.match(path) is not None, "a path alone, without scheme and host"),
    (
        lambda path: not path.startswith("/") and path != "*",
        "a path that begins with '/', such as '/health', '/users/{id}', '/static/*' or 'GET /metrics'",
    ),
    (lambda path: "?" in path or "#" in path, "a path without query and fragment, which are not compared"),
    (lambda path: "<" in path or ">" in path, "one segment as '{name}': '<' and '>' match nothing"),
    (
        lambda path: _FOREIGN_PARAMETER.search(path) is not None,
        "one segment as '{name}', such as '/users/{id}': ':name' and '[name]' match nothing",
    ),
    (
        lambda path: path.endswith((".*", ".+", "$")),
        "no regular expression: '{name}' is one segment, and '*' at the end is the rest of the path",
    ),
    (
        lambda path: "*" in path[:-1],
        "a path with '*' at the end alone; one segment is '{name}', such as '/users/{id}/export'",
    ),
    (lambda path: re.search("%[0-9A-Fa-f]{2}", path) is not None, "the path decoded: servers decode it"),
    (lambda path: "//" in path, "single slashes: the path of a request is compared with them"),
    (lambda path: any(part in (".", "..") for part in path.split("/")), "a path without '.' and '..' segments"),
    (lambda path: any(ord(char) < 32 or char == "\\" for char in path), "a path of printable characters"),
    (lambda path: re.search("[{}]", _PARAMETER.sub("", path)) is not None, "'{name}' with both braces"),
    (lambda path: any(not match[1] for match in _PARAMETER.finditer(path)), "a name in the braces: '{name}'"),
    (
        lambda path: any(match[2] == "path" and match.end() < len(path) for match in _PARAMETER.finditer(path)),
        "'{name:path}' at the end alone: it matches the rest of the path",
    ),
)
"""What no path of a request can be, and what to write instead."""
