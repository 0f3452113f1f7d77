"""Where a command gets its components from: a file, or the defaults."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexmw.stack import Stack

__all__ = ["config_argument", "find", "load"]

DEFAULT = "flexmw.toml"


def config_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help=f"a flexmw.toml or pyproject.toml; without it ./{DEFAULT} if there is one"
    )


def find(config: str | None) -> str | None:
    """The file to read; ``None`` where there is none and none was asked for."""
    return config or (DEFAULT if Path(DEFAULT).is_file() else None)


def load(config: str | None) -> Stack | None:
    """The stack of the file that was found.

    :raises ConfigError: as :meth:`flexmw.Stack.load`. :raises PluginError: likewise.
    """
    path = find(config)
    return None if path is None else Stack.load(path)
