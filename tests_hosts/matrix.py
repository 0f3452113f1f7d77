"""One cell of the matrix: a framework on a server, and what became of every check."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from tests_hosts.apps import HOSTS
from tests_hosts.checks import CHECKS, MCP_HOSTS, Site
from tests_hosts.limits import limits_of
from tests_hosts.servers import SERVERS

__all__ = ["ALL_CHECKS", "CELLS", "Results", "failures", "untried"]

ALL_CHECKS: Final = (*CHECKS, "lifespan")
CELLS: Final = tuple(
    (host, server) for host in HOSTS for server, entry in SERVERS.items() if not entry.hosts or host in entry.hosts
)
"""The name of the framework and of the server."""

Results = Mapping[str, str]
"""The failed checks of a cell, each with what went wrong."""


def untried(host: str, server: str) -> frozenset[str]:
    """The checks that cannot be asked for on a cell: all others where requests fail."""
    limits = limits_of(host, server)
    if any("requests" in limit.checks for limit in limits):
        return frozenset(ALL_CHECKS) - {"requests"}
    foreign = () if host in MCP_HOSTS else ("MCP tools",)
    return frozenset(foreign).union(*(limit.checks for limit in limits if not limit.tried))


def failures(host: str, server: str, folder: Path, *, checks: Iterable[str], bare: bool = False) -> Results:
    """Serve a framework on a server, run checks, and return those that fail.

    :param folder: an empty folder.
    :param bare: without the components: what fails here too is a limit of the framework or of the server.
    """
    entry, chosen = SERVERS[server], set(checks) - untried(host, server)
    failed: dict[str, str] = {}
    try:
        with entry.run(host, HOSTS[host], folder, bare=bare) as url:
            failed.update(_failed(Site(host, url, entry.http2, bare), chosen))
            started = (folder / "started").exists()
    except RuntimeError as error:
        return dict.fromkeys(chosen, f"the server did not start: {error.__cause__!r}")
    if "lifespan" in chosen and not (started and (folder / "stopped").exists()):
        failed["lifespan"] = f"startup {'has' if started else 'has not'} run, shutdown has not"
    return failed


def _failed(site: Site, checks: set[str]) -> Iterator[tuple[str, str]]:
    for name, check in CHECKS.items():
        if name in checks:
            try:
                check(site)
            except Exception as error:
                cause: BaseException = error
                while isinstance(cause, ExceptionGroup):
                    cause = cause.exceptions[0]
                yield name, f"{type(cause).__name__}: {cause}"
