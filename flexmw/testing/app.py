"""Does a component behave around an ASGI app? One plain function, for any test runner.

>>> from dataclasses import dataclass
>>> from typing import ClassVar
>>> import flexmw
>>> @dataclass(frozen=True, kw_only=True)
... class Nothing:
...     name: ClassVar[str] = "acme.nothing"
...     api: ClassVar[int] = 1
...     order: ClassVar[flexmw.Order] = flexmw.Order()
...     def asgi(self, app):
...         return app
>>> check_app(Nothing())

Every fault that is found is named in one AssertionError. No server and no network take part.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Thread
from typing import Any, Final

import anyio

from flexmw.testing.answer_checks import header_forms, latency, plain, raise_after, raise_before, streaming
from flexmw.testing.checks import PATIENCE, Check, Headers, Wrap
from flexmw.testing.declared import declaration, face, report, watch
from flexmw.testing.scope_checks import (
    cancelled,
    disconnect,
    interleaved,
    lifespan,
    other_scopes,
    request_body,
    same_scope,
    two_apps,
    websocket,
)

__all__ = ["APP_CHECKS", "check_app"]


def check_app(component: Any, *, headers: Mapping[str, str] | None = None, backend: str = "asyncio") -> None:
    """Hold a component's server face against what an ASGI app and its server may rely on.

    Give it options that let some dozens of plain requests through; ``headers`` are sent with each of them, for a
    component that wants credentials. ``backend`` is ``"asyncio"`` or ``"trio"``. It may be called from anywhere, also
    from a running event loop.

    :raises AssertionError: naming every fault.
    :raises ConfigError: the component has no server face.
    """
    face(component, "asgi", "server")
    sent = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    faults = list(declaration(component))

    def run() -> None:
        with watch() as blocking:
            anyio.run(_all, component.asgi, sent, faults, backend=backend)
        if "time.sleep" in blocking:
            faults.append("blocks: it calls time.sleep in the event loop; use `await anyio.sleep()`")

    thread = Thread(target=run, name="flexmw.check_app")
    thread.start()
    thread.join()
    report(component, faults)


async def _all(wrap: Wrap, headers: Headers, faults: list[str]) -> None:
    for what, check in APP_CHECKS.items():
        try:
            with anyio.fail_after(PATIENCE):
                faults += [f"{what}: {fault}" for fault in await check(wrap, headers)]
        except TimeoutError:
            faults.append(f"{what}: nothing happened for {PATIENCE:g} s")
        except Exception as error:
            faults.append(f"{what}: {type(error).__name__}: {error}")
        if check is plain and any(fault.startswith(what) for fault in faults):
            faults.append("the other checks have to wait until that works")
            return


APP_CHECKS: Final[Mapping[str, Check]] = {
    "plain request": plain,
    "headers": header_forms,
    "scope": same_scope,
    "request body": request_body,
    "streaming": streaming,
    "exception before the start": raise_before,
    "exception after the start": raise_after,
    "interleaved requests": interleaved,
    "two apps": two_apps,
    "cancellation": cancelled,
    "disconnect": disconnect,
    "lifespan": lifespan,
    "websocket": websocket,
    "other scopes": other_scopes,
    "latency": latency,
}
"""Each check by the name that its faults carry."""
