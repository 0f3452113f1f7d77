"""``flexmw run module:app``: serve an unchanged ASGI app inside the components of a configuration file."""

from __future__ import annotations

import argparse
import difflib
import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, TextIO

from flexmw.cli.source import Source, source_arguments
from flexmw.errors import ConfigError
from flexmw.stack import Stack

__all__ = ["HELP", "application", "arguments", "command", "imported"]

HELP = "serve an ASGI app inside the components of flexmw.toml (Tagging and Envelope without a file)"
_APP: Final = "FLEXMW_RUN_APP"
_SOURCE: Final = "FLEXMW_RUN_SOURCE"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("app", help="module:attribute of an app, or of a function without parameters that makes one")
    source_arguments(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one")
    parser.add_argument("--workers", type=int, default=1, help="number of processes")
    parser.add_argument(
        "--log-level", default="info", help="the log level of uvicorn", choices=("critical", "error", "warning", "info")
    )


def command(arguments: argparse.Namespace, out: TextIO) -> int:
    try:
        import uvicorn
    except ImportError as error:
        raise ConfigError("flexmw run", arguments.app, "uvicorn to be installed: pip install 'flexmw[cli]'") from error
    if not 0 <= arguments.port <= 65535:
        raise ConfigError("--port", arguments.port, "a port from 1 to 65535, or 0 for a free one")
    if arguments.workers < 1:
        raise ConfigError("--workers", arguments.workers, "at least 1 process")
    os.environ[_APP] = arguments.app
    os.environ[_SOURCE] = Source.of(arguments).encode()
    application(workers=arguments.workers)
    try:
        uvicorn.run(
            "flexmw.cli.run:application",
            factory=True,
            host=arguments.host,
            port=arguments.port,
            workers=arguments.workers,
            log_level=arguments.log_level,
        )
    except SystemExit as end:  # uvicorn has logged why it could not start
        return 2 if end.code else 0
    return 0


def application(*, workers: int = 1) -> Any:
    """Make the app that the environment names, inside its components. Each server process calls this function.

    :param workers: number of processes that will serve the app.
    :raises ConfigError: the app cannot be imported, is not an app, or its configuration file cannot be used by so many
        processes.
    """
    app = imported(os.environ[_APP])
    stack = Stack.of(Source.decode(os.environ[_SOURCE]).load("tagging", "envelope"))
    _check_workers(stack, workers)
    return stack.wrap_app(app)


def _check_workers(stack: Stack, workers: int) -> None:
    """Refuse keys in the memory of several processes: a retry that reaches another process would run again.

    RateLimit in memory is served: it admits more than its limit, and each process logs a WARNING that says so.

    :raises ConfigError: naming the option ``--workers``.
    """
    for component in stack.components:
        if workers > 1 and component.name == "idempotency" and getattr(component, "storage", None) == "memory://":
            expected = (
                '1, or [idempotency] with a store that all processes share, such as storage = "sqlite:///keys.db": '
                "in memory://, a key that comes to another process is executed again"
            )
            raise ConfigError("--workers", workers, expected)


def imported(target: str) -> Any:
    """Import the app at ``module:attribute``. The working directory is searched first, as with ``python -m``.

    :param target: the name of an app, or of a function without parameters that makes one.
    :raises ConfigError: the module or the attribute is missing, or the attribute is not callable. The message shows
        the type of the attribute, never its value, which may hold secrets. An exception of the module itself is not
        caught.
    """
    module, colon, attribute = target.partition(":")
    if not (module and colon and attribute):
        raise ConfigError("app", target, "module:attribute, such as 'main:app'")
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        app: Any = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise
        raise ConfigError("app", target, f"a module that can be imported ({error})") from error
    for part in attribute.removesuffix("()").split("."):
        if not hasattr(app, part):
            close = difflib.get_close_matches(part, _callables(app), n=1)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError("app", target, f"an attribute of {module} ({part!r} is missing{guess})")
        app = getattr(app, part)
    if not callable(app):
        raise ConfigError("app", target, f"an ASGI app, or a function that makes one; this is {_kind(app)}")
    if not _is_factory(app):
        return app
    made = app()
    if not callable(made):
        if inspect.iscoroutine(made):
            made.close()  # without a warning that nothing has awaited it
        raise ConfigError("app", target, f"an ASGI app, or a function that makes one; it returns {_kind(made)}")
    return made


def _kind(value: object) -> str:
    """The type of a value, for a message that must not show the value."""
    return f"a value of type {type(value).__name__}"


def _callables(namespace: object) -> list[str]:
    """The names under which a module or a class holds something that can be called."""
    return [name for name, value in getattr(namespace, "__dict__", {}).items() if callable(value)]


def _is_factory(app: Callable[..., Any]) -> bool:
    """Whether the object can be called without arguments; an ASGI app cannot."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return False
    return not any(parameter.default is parameter.empty for parameter in parameters)
