"""Write the table of ``docs/hosts.md`` by running every cell: ``python -m tests_hosts.page`` (two minutes)."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from scripts.marked import filled
from tests_hosts.apps import HOSTS
from tests_hosts.limits import LIMITS, Limit, limits_of
from tests_hosts.matrix import ALL_CHECKS, CELLS, Results, failures, untried
from tests_hosts.servers import SERVERS

__all__ = ["COMMAND", "PAGE", "limits_left", "surprises", "table", "written"]

COMMAND: Final = "python -m tests_hosts.page"
PAGE: Final = Path(__file__).parents[1] / "docs" / "hosts.md"
_BEGIN: Final = f"<!-- Frameworks and servers, written by {COMMAND} -->"
_END: Final = "<!-- End of frameworks and servers -->"


def surprises(host: str, server: str, failed: Results) -> list[str]:
    """What differs from :data:`LIMITS`: a check that fails and should not, or that passes and has a limit."""
    expected = {check for limit in limits_of(host, server) if limit.tried for check in limit.checks}
    expected -= untried(host, server)
    fails = [f"{check} fails: {failed[check]}" for check in failed if check not in expected]
    return fails + [f"{check} passes: its limit is gone" for check in sorted(expected - set(failed))]


def limits_left(results: Mapping[tuple[str, str], Results]) -> Iterator[str]:
    """The cells whose results differ from :data:`LIMITS`."""
    for cell, failed in results.items():
        for surprise in surprises(*cell, failed):
            yield f"{' x '.join(cell)}: {surprise}"


def table() -> str:
    """The table of all cells, and the list of the limits that it names."""
    lines = ["| | " + " | ".join(server.title for server in SERVERS.values()) + " |", "|---" * (len(SERVERS) + 1) + "|"]
    for name, host in HOSTS.items():
        cells = " | ".join(_cell(name, server) if (name, server) in CELLS else "" for server in SERVERS)
        lines.append(f"| {host.title} | {cells} |")
    lines.append("")
    lines.extend(f"{number}. {_sentence(limit)}" for number, limit in enumerate(LIMITS, 1))
    return "\n".join(lines)


def _cell(host: str, server: str) -> str:
    limits = [(number, limit) for number, limit in enumerate(LIMITS, 1) if limit in set(limits_of(host, server))]
    word = "no" if any("requests" in limit.checks for _, limit in limits) else "yes"
    return " ".join((word, *(f"({number})" for number, _ in limits)))


def _sentence(limit: Limit) -> str:
    return f"*{', '.join(limit.checks)}*: {limit.reason}"


def written(page: str) -> str:
    """The page with the table of today."""
    return filled(page, _BEGIN, _END, table(), name=PAGE.name)


def _main() -> None:
    logging.disable()
    warnings.simplefilter("ignore")
    results: dict[tuple[str, str], Results] = {}
    for cell in CELLS:
        with TemporaryDirectory() as folder:
            results[cell] = failures(*cell, Path(folder), checks=ALL_CHECKS)
    if left := list(limits_left(results)):
        sys.exit("\n".join(("The results differ from tests_hosts/limits.py:", *left)))
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    _main()
