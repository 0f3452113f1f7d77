"""Conformance of an HTTP API in your own test suite: the probes of ``flexmw check`` as assertions and as test cases.

>>> from starlette.applications import Starlette
>>> import flexmw
>>> check_api(flexmw.wrap_app(Starlette()), groups=["ids"])

An API is a URL, or an ASGI app, which uvicorn serves on a free loopback port as long as a block runs. Every probe is
described in ``docs/check.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from starlette.types import ASGIApp

from flexmw.conformance.check import Check, Settings, select
from flexmw.conformance.values import COSTS, Cost, Probe, Row
from flexmw.errors import ConfigError

if TYPE_CHECKING:
    import pytest
    import uvicorn

__all__ = ["Api", "check_api", "each_probe", "open_api"]

_START_SECONDS: Final = 60.0
_CHECK_SECONDS: Final = 30.0


class Api:
    """An API that is judged probe by probe; made by :func:`open_api`.

    :param check: the check that sends the requests.
    """

    def __init__(self, check: Check) -> None:
        self._check = check

    @property
    def url(self) -> str:
        """What is judged, for output: the base URL, with ``***`` for each value of its query."""
        return self._check.url

    def judge(self, probe: Probe) -> None:
        """Run one probe: fail the test where the probe fails, skip the test where the probe is skipped.

        :raises AssertionError: the API does not pass; the message names what is wrong, what was sent and the source.
        """
        import pytest

        row = self._check.judge(probe)
        if row.state == "skipped":
            pytest.skip(f"{probe.id}: {'; '.join(row.notes)}")
        if row.state == "failed":
            raise AssertionError(_report(row))


def _report(row: Row) -> str:
    lines = (*row.notes, f"sent: {', '.join(row.exchanges) or 'one request'}")
    return "\n".join((f"{row.probe.id}: {row.probe.asks} [{row.probe.source}]", *lines))


def check_api(
    api: ASGIApp | str,
    *,
    groups: Sequence[str] = (),
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    route: str | None = None,
    burst: bool = False,
    paid: bool = False,
    model: str | None = None,
    body: Mapping[str, Any] | None = None,
    origin: str | None = None,
    timeout: float = _CHECK_SECONDS,
    patience: float = 180.0,
) -> None:
    """Run the probes of some groups against an API, and name every fault in one error.

    :param api: an ASGI app, or a base URL; ``/v1`` is added to a URL without a path.
    :param groups: the groups of probes; empty for all.
    :param key: an API key, sent as a bearer token.
    :param headers: further headers of each request.
    :param route: method and path, below the base URL, of a route that reads a JSON object; ``None`` for
        ``POST /chat/completions``.
    :param burst: send requests until the rate limiter refuses one, and wait as long as it says.
    :param paid: send valid calls, which do work.
    :param model: the model of paid calls to chat completions.
    :param body: the JSON body of paid calls to another route.
    :param origin: the browser origin that the API admits, for the group ``cors``.
    :param timeout: seconds for each response.
    :param patience: longest time in seconds that all probes together wait for the API's rate limiter.
    :raises AssertionError: a probe failed, or all of them were skipped.
    :raises ConfigError: an option cannot work or has no effect, or nothing responds.
    """
    with open_api(
        api,
        groups=groups,
        key=key,
        headers=headers,
        route=route,
        burst=burst,
        paid=paid,
        model=model,
        body=body,
        origin=origin,
        timeout=timeout,
        patience=patience,
    ) as opened:
        check = opened._check
        rows = list(check.rows())
    failed = [row for row in rows if row.state == "failed"]
    where = f"at {check.url}, route {check.route}"
    lines = [f"{row.probe.id}: {'; '.join(row.notes)}" for row in failed]
    if failed:
        raise AssertionError("\n".join((f"{len(failed)} of {len(rows)} probes failed {where}", *lines)))
    if not any(row.state == "passed" for row in rows):
        reasons = (f"{row.probe.id}: {'; '.join(row.notes)}" for row in rows)
        raise AssertionError("\n".join((f"nothing was judged {where}", *reasons)))


@contextlib.contextmanager
def open_api(
    api: ASGIApp | str,
    *,
    groups: Sequence[str] = (),
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    route: str | None = None,
    burst: bool = False,
    paid: bool = False,
    model: str | None = None,
    body: Mapping[str, Any] | None = None,
    origin: str | None = None,
    timeout: float = _CHECK_SECONDS,
    patience: float = 180.0,
) -> Generator[Api]:
    """Serve an app, or name a URL, for as long as a block runs; its :meth:`Api.judge` runs one probe.

    The parameters are those of :func:`check_api`; the block decides which probes run.

    :raises ConfigError: an option cannot work, or uvicorn is missing.
    """
    with contextlib.ExitStack() as stack:
        url = api if isinstance(api, str) else stack.enter_context(_served(api))
        settings = Settings(
            url=url,
            key=key,
            headers=[f"{name}: {value}" for name, value in (headers or {}).items()],
            route=route,
            groups=groups,
            burst=burst,
            paid=paid,
            model=model,
            body=body,
            origin=origin,
            timeout=timeout,
            patience=patience,
        )
        yield Api(Check(settings))


def each_probe(*groups: str, burst: bool = False, paid: bool = False) -> pytest.MarkDecorator:
    """Parametrize a pytest test by ``probe``, one test case for each.

    :param groups: the groups of probes; none for all.
    :param burst: also those that send requests until the rate limiter refuses one.
    :param paid: also those that send valid calls.
    :raises ConfigError: a name is not a group.
    """
    import pytest

    chosen = {"harmless": True, "burst": burst, "paid": paid}
    costs: list[Cost] = [cost for cost in COSTS if chosen[cost]]
    return pytest.mark.parametrize("probe", select(groups, costs), ids=_id)


def _id(probe: Probe) -> str:
    return probe.id


@contextlib.contextmanager
def _served(app: ASGIApp) -> Generator[str]:
    """Serve an app in a thread; the value is its URL."""
    try:
        import uvicorn
    except ImportError as error:
        raise ConfigError("check_api(api)", app, "a URL, or an app and uvicorn: pip install 'flexmw[cli]'") from error
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        started = threading.Event()
        thread = threading.Thread(target=_run, args=(server, listener, started), name="flexmw-check-server")
        thread.start()
        try:
            if not started.wait(_START_SECONDS) or not server.started:
                raise ConfigError("check_api(api)", app, "an app that starts: its lifespan failed, see the log")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(_START_SECONDS)


def _run(server: uvicorn.Server, listener: socket.socket, started: threading.Event) -> None:
    """Run a server, and say when it listens or has failed to start."""
    startup = server.startup

    async def starting(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets=sockets)
        started.set()

    server.startup = starting  # type: ignore[method-assign]  # uvicorn has no other way to tell
    try:
        with contextlib.suppress(SystemExit):  # uvicorn's way to say that the lifespan failed
            asyncio.run(server.serve(sockets=[listener]))
    finally:
        started.set()
