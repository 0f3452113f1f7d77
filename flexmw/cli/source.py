"""The options ``--config``, ``--profile`` and ``--set``: find and read the configuration of a command."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from flexmw.config import PROFILE_VARIABLE, Configuration
from flexmw.config import load as load_configuration
from flexmw.registry import component

__all__ = ["Source", "source_arguments"]

DEFAULT: Final = "flexmw.toml"


def source_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help=f"a flexmw.toml or pyproject.toml; by default ./{DEFAULT} if it exists"
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help=f"lay the tables [profile.NAME.component] over those of the file; by default that of {PROFILE_VARIABLE}",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="NAME.OPTION=VALUE",
        action="append",
        default=[],
        help="replace an option of the file, such as ratelimit.rates=10/minute; NAME=false leaves a component out; "
        "NAME.0 is the first of several tables [[NAME]]. The value is TOML, or a text",
    )


class Source(NamedTuple):
    """Where a command reads its configuration.

    :param config: the file; ``None`` without one.
    :param profile: the name of a profile.
    :param overrides: the values of ``--set``.
    """

    config: str | None = None
    profile: str | None = None
    overrides: Sequence[str] = ()

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Self:
        """What the arguments say; without ``--config``, ``flexmw.toml`` in the working directory if it exists."""
        config = arguments.config or (DEFAULT if Path(DEFAULT).is_file() else None)
        return cls(config, arguments.profile, tuple(arguments.overrides))

    @classmethod
    def decode(cls, text: str) -> Self:
        """The source that :meth:`encode` has written."""
        return cls(*json.loads(text))

    def encode(self) -> str:
        """The source as a text, for the processes of a server."""
        return json.dumps(self)

    def load(self, *defaults: str) -> Configuration:
        """Read the configuration.

        :param defaults: the names of the components without a file.
        :raises ConfigError: as :meth:`flexmw.Stack.load`.
        :raises PluginError: as :meth:`flexmw.Stack.load`.
        """
        return load_configuration(
            self.config, component, profile=self.profile, overrides=self.overrides, defaults=defaults
        )
