"""``flexmw run module:app``: serve an unchanged ASGI app inside the components of a configuration file."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from importlib import import_module
from typing import Any, Final, TextIO

from flexmw.cli.source import config_argument, find
from flexmw.errors import ConfigError
from flexmw.stack import Stack, wrap_app

__all__ = ["HELP", "application", "arguments", "command", "imported"]

HELP = "serve an ASGI app inside the components of flexmw.toml (Tagging and Envelope without a file)"
_APP: Final = "FLEXMW_RUN_APP"
_CONFIG: Final = "FLEXMW_RUN_CONFIG"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("app", help="module:attribute of an app, or of a function without parameters that makes one")
    config_argument(parser)
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
    os.environ.pop(_CONFIG, None)
    if config := find(arguments.config):
        os.environ[_CONFIG] = config
    application()
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


def application() -> Any:
    """Make the app that the environment names, inside its components. Each server process calls this function.

    :raises ConfigError: the app cannot be imported, is not an app, or its configuration file cannot be used.
    """
    app = imported(os.environ[_APP])
    config = os.environ.get(_CONFIG)
    return wrap_app(app) if config is None else Stack.load(config).wrap_app(app)


def imported(target: str) -> Any:
    """Import the app at ``module:attribute``. The working directory is searched first, as with ``python -m``.

    :param target: the name of an app, or of a function without parameters that makes one.
    :raises ConfigError: the module or the attribute is missing, or the attribute is not callable. An exception of the
        module itself is not caught.
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
            raise ConfigError("app", target, f"an attribute of {module} ({part!r} is none)")
        app = getattr(app, part)
    return app() if _is_factory(app) else app


def _is_factory(app: Any) -> bool:
    """Whether the object can be called without arguments; an ASGI app cannot.

    :raises ConfigError: the object is not callable.
    """
    if not callable(app):
        raise ConfigError("app", app, "an ASGI app, or a function that makes one")
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return False
    return not any(each.default is each.empty for each in parameters)
