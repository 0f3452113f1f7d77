"""The option ``--config``: find and load the configuration file of a command."""

from __future__ import annotations

import argparse
from pathlib import Path

from flexmw.stack import Stack

__all__ = ["config_argument", "find", "load"]

DEFAULT = "flexmw.toml"


def config_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help=f"a flexmw.toml or pyproject.toml; by default ./{DEFAULT} if it exists"
    )


def find(config: str | None) -> str | None:
    """The file to read: the given one, else ``flexmw.toml`` in the working directory, else ``None``."""
    return config or (DEFAULT if Path(DEFAULT).is_file() else None)


def load(config: str | None) -> Stack | None:
    """The stack of the configuration file; ``None`` without a file.

    :raises ConfigError: as :meth:`flexmw.Stack.load`.
    :raises PluginError: as :meth:`flexmw.Stack.load`.
    """
    path = find(config)
    return None if path is None else Stack.load(path)
