"""Transport comparison: the same calls on every real transport must have the same result, and the same effect."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from threading import Thread
from typing import Any, Final

import anyio

from flexmw.kit.clock import Clock
from flexmw.testing.clock import FakeClock
from flexmw.testing.hostile import HostileServer
from flexmw.testing.played import fresh
from flexmw.testing.unread import misuse

__all__ = ["SCRIPTS", "compare"]

SCRIPTS: Final[tuple[tuple[str, list[str], int], ...]] = (
    ("POST", ["ok"], 1),
    ("GET", ["ok", "ok"], 2),
    ("GET", ["429:seconds=2", "ok"], 1),
    ("GET", ["503", "ok"], 1),
    ("POST", ["rst"], 1),
    ("POST", ["500"], 1),
)
"""Each call's method, the faults of the server, and the number of equal calls that one client makes."""

_BODY: Final = {"stream": True, "n": 1}
_SECONDS: Final = 10.0

Seen = tuple[object, ...]


def compare(component: Any, libraries: Sequence[Any]) -> list[str]:
    """Return the faults: transports that differ, and bodies that do not arrive as they were sent."""
    kinds = [(library, asynchronous) for library in libraries for asynchronous in (False, True)]
    kinds = [(library, asynchronous) for library, asynchronous in kinds if _takes(component, library, asynchronous)]
    faults: list[str] = []
    for method, script, calls in SCRIPTS:
        seen: dict[str, Seen] = {}
        for library, asynchronous in kinds:
            label = f"{library.__name__}.{'AsyncClient' if asynchronous else 'Client'}"
            with HostileServer(script, then="500") as server:
                seen[label] = _call(component, library, asynchronous, method, server, calls)
                bodies = {request.body for request in server.executed}
                if method == "POST" and len(bodies) > 1:
                    faults.append(f"{label}: the body of one POST arrived in {len(bodies)} forms")
                if method == "POST" and server.executions > 1:
                    faults.append(f"{label}: one POST was executed {server.executions} times on {script[0]}")
        if len(set(seen.values())) > 1:
            results = "; ".join(f"{label} {result}" for label, result in seen.items())
            faults.append(f"{method} with the responses {', '.join(script)} ends differently: {results}")
        if set(script) == {"ok"}:
            faults += [
                f"{label}: a {method} with a good response ends with {result}"
                for label, results in seen.items()
                for result in results[:calls]
                if isinstance(result, str)
            ]
    return faults


def _takes(component: Any, library: Any, asynchronous: bool) -> bool:
    """True if the component runs on the transport. A flow runs on all; an adopted transport only on its own kind."""
    if not hasattr(component, "around"):
        return True
    try:
        _transport(component, library, asynchronous, FakeClock())
    except ValueError:
        return False
    return True


def _transport(component: Any, library: Any, asynchronous: bool, clock: Clock) -> Any:
    binding = import_module(f"flexmw.{library.__name__}")
    return (binding.AsyncTransport if asynchronous else binding.Transport)(fresh(component, clock), clock=clock)


def _call(component: Any, library: Any, asynchronous: bool, method: str, server: HostileServer, calls: int) -> Seen:
    """Make equal calls. Return of each its status and whether its body was whole, or its error; then the number of
    executions and of sleeps."""
    clock = FakeClock()
    transport = _transport(component, library, asynchronous, clock)
    arguments: dict[str, Any] = {"json": _BODY} if method == "POST" else {}
    url = f"{server.url}/v1/chat/completions"
    results: list[object] = []

    def blocking() -> None:
        with library.Client(transport=transport, timeout=_SECONDS) as client:
            for _ in range(calls):
                try:
                    response = client.request(method, url, **arguments)
                except Exception as error:
                    results.append(_shown(error))
                else:
                    results.append((response.status_code, len(response.content) > 0))

    async def waiting() -> None:
        async with library.AsyncClient(transport=transport, timeout=_SECONDS) as client:
            for _ in range(calls):
                try:
                    response = await client.request(method, url, **arguments)
                except Exception as error:
                    results.append(_shown(error))
                else:
                    results.append((response.status_code, len(response.content) > 0))

    thread = Thread(target=(lambda: anyio.run(waiting)) if asynchronous else blocking, name="flexmw.check_flow")
    thread.start()
    thread.join()
    missing = ["no result"] * (calls - len(results))
    return (*results, *missing, f"{server.executions} executed", f"{len(clock.slept)} sleeps")


def _shown(error: Exception) -> str:
    fault = misuse((), error)
    return type(error).__name__ + (f": {fault}" if fault else "")
