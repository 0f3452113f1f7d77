"""What does not work on a framework or a server, and whose limit it is. The page in the docs lists these rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests_hosts.checks import MCP_HOSTS

__all__ = ["LIMITS", "Limit", "limits_of"]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Checks that fail on some cells, for one reason.

    :param checks: the names of the checks.
    :param hosts: the frameworks; all of them where it is empty.
    :param servers: the servers; all of them where it is empty.
    :param reason: why, in one sentence with the version that was tried.
    :param tried: the checks are run, and must fail. Otherwise they cannot be asked for at all.
    """

    checks: tuple[str, ...]
    hosts: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    reason: str
    tried: bool = True


_SOCKETS: Final = ("websockets", "refused websockets")

LIMITS: Final[tuple[Limit, ...]] = (
    Limit(
        checks=("requests",),
        hosts=("quart", "django", "sanic"),
        servers=("trio",),
        reason="Quart 0.22, Django 5.2 and Sanic 25.12 run on asyncio alone.",
    ),
    Limit(
        checks=("requests",),
        hosts=("blacksheep", "sanic", "mcp"),
        servers=("lambda",),
        reason="Mangum 0.22 starts and ends the lifespan with each invocation, and an app of BlackSheep 2.6, "
        "Sanic 25.12 and MCP 2.3 can start only once.",
    ),
    Limit(
        checks=("streams",),
        servers=("lambda",),
        reason="Mangum 0.22 sends a response when it is complete.",
        tried=False,
    ),
    Limit(checks=_SOCKETS, servers=("lambda",), reason="Mangum 0.22 passes no websockets on.", tried=False),
    Limit(
        checks=_SOCKETS,
        servers=("http2",),
        reason="no client of websockets over HTTP/2 (RFC 8441) exists here to try them.",
        tried=False,
    ),
    Limit(
        checks=("refused websockets",),
        servers=("gunicorn",),
        reason="gunicorn 27.0 has no extension `websocket.http.response`: a refusal is a 403 without a body.",
    ),
    Limit(
        checks=("lifespan",),
        hosts=("django",),
        reason="Django 5.2 has no lifespan of its own. Servers go on without it.",
    ),
    Limit(checks=_SOCKETS, hosts=("django",), reason="Django 5.2 serves no websockets by itself."),
    Limit(
        checks=_SOCKETS,
        hosts=("falcon",),
        servers=("trio",),
        reason="Falcon 4.4 runs websockets on asyncio alone.",
    ),
    Limit(
        checks=("405",),
        hosts=("blacksheep",),
        reason="BlackSheep 2.6 responds to a wrong method with 404, which gets the format of the Envelope.",
    ),
    Limit(
        checks=("refused websockets",),
        hosts=("sanic",),
        reason="Sanic 25.12 accepts a websocket before it calls the handler.",
    ),
    Limit(checks=_SOCKETS, hosts=MCP_HOSTS, reason="the protocol has no websockets.", tried=False),
)


def limits_of(host: str, server: str) -> tuple[Limit, ...]:
    """The limits that hold for a cell. Where requests fail there are no others."""
    limits = [
        limit
        for limit in LIMITS
        if (not limit.hosts or host in limit.hosts) and (not limit.servers or server in limit.servers)
    ]
    return tuple(limit for limit in limits if "requests" in limit.checks) or tuple(limits)
