"""The command line: one module per command.

::

    flexmw run module:app                 serve an unchanged app inside the components of flexmw.toml
    flexmw check https://api.example.com  judge an OpenAI-compatible endpoint by the error contract
    flexmw explain                        show the resolved components, and what becomes of each status
    flexmw plugins                        list what installed distributions provide
    flexmw keys --config flexmw.toml      list the idempotency keys of a store, and settle unknown ones
    flexmw schema                         print a JSON Schema of flexmw.toml, for editors
    flexmw --version                      print the versions of flexmw and of Python

Without a command, ``flexmw`` prints its help. Exit codes: 0, the command is done and nothing that it judged is broken;
1, something is broken; 2, the command could not be carried out; 141, the reader of the output has closed the pipe.

>>> main(["plugins", "--json", "--dialects"]) in (0, 1, 2)
[]
True

Public: the names in ``__all__``. The modules of this package are private.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence

from flexmw import __version__
from flexmw.cli import check, explain, keys, plugins, run, schema
from flexmw.cli.output import OutputError, exit_code_of, guarded
from flexmw.errors import ConfigError, PluginError

__all__ = ["main"]

_COMMANDS = (run, check, explain, plugins, keys, schema)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Show the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


# Tried: typer 0.29 and cyclopts 5.5 in place of argparse. The arguments of all commands are about a hundred lines here,
# one for each option, and would be as many there. Two commands took 680 ms and 320 ms of CPU to start, and 23 ms with
# argparse. And `keys`, `explain` and `plugins` would need an extra, where an operator may not be able to install one.
def parser() -> argparse.ArgumentParser:
    """The argument parser of all commands."""
    top = argparse.ArgumentParser(prog="flexmw", description="One error contract for APIs and their clients.")
    version = f"flexmw {__version__} (Python {platform.python_version()})"
    top.add_argument("-V", "--version", action="version", version=version, help="print the versions and exit")
    commands = top.add_subparsers(metavar="command")
    for module in _COMMANDS:
        command = commands.add_parser(
            module.__name__.rpartition(".")[2],
            help=module.HELP,
            description=module.HELP,
            formatter_class=_Help,
        )
        module.arguments(command)
        command.set_defaults(command=module.command)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    :param argv: the arguments; those of the process if ``None``.
    :return: the exit code.
    """
    commands = parser()
    arguments = commands.parse_args(argv)
    if not hasattr(arguments, "command"):
        commands.print_help(sys.stdout)
        return 0
    output = guarded(sys.stdout)
    try:
        code: int = arguments.command(arguments, output)
        output.flush()
    except (ConfigError, PluginError) as error:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        sys.stderr.write(f"flexmw: {error}{notes}\n")
        return 2
    except OutputError as error:
        return exit_code_of(error, sys.stdout, sys.stderr)
    return code
