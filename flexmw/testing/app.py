"""Conformance check for the server side of a component: :func:`check_app`, for any test runner.

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

One ``AssertionError`` names every fault. The check uses neither a server nor a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Thread
from typing import Any, Final

import anyio

from flexmw.errors import ConfigError
from flexmw.testing.checks import PATIENCE, Check, Headers, Wrap
from flexmw.testing.declared import blocking_calls, declaration, report, require_side
from flexmw.testing.response_checks import header_forms, latency, plain, raise_after, raise_before, streaming
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


def check_app(
    component: Any,
    *,
    headers: Mapping[str, str] | Iterable[tuple[str, str] | tuple[bytes, bytes]] = (),
    backend: str = "asyncio",
) -> None:
    """Check a component against what an ASGI app and its server rely on.

    The function may be called inside a running event loop.

    :param component: with options that let some dozens of plain requests pass.
    :param headers: sent with each request, for a component that needs credentials: a mapping, or pairs of name and
        value as texts or, as in an ASGI scope, as bytes.
    :param backend: ``"asyncio"`` or ``"trio"``.
    :raises AssertionError: the component has faults; the message names each one.
    :raises ConfigError: the component has no server side, or ``headers`` are neither a mapping nor pairs.
    """
    require_side(component, "asgi", "server")
    sent = _raw(headers)
    faults = list(declaration(component))

    def run() -> None:
        with blocking_calls() as blocking:
            anyio.run(_all, component.asgi, sent, faults, backend=backend)
        if "time.sleep" in blocking:
            faults.append("blocks: it calls time.sleep in the event loop; use `await anyio.sleep()`")

    thread = Thread(target=run, name="flexmw.check_app")
    thread.start()
    thread.join()
    report(component, faults)


def _raw(headers: Any) -> Headers:
    """The headers as an ASGI scope has them."""
    items = getattr(headers, "multi_items", None) or getattr(headers, "items", None)
    try:
        pairs = [(name, value) for name, value in (items() if items is not None else headers or ())]
        return [(_bytes(name).lower(), _bytes(value)) for name, value in pairs]
    except (AttributeError, TypeError, ValueError):
        expected = 'a mapping {"authorization": "Bearer x"}, or pairs [("authorization", "Bearer x")]'
        raise ConfigError("check_app(headers=...)", headers, expected) from None


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


async def _all(wrap: Wrap, headers: Headers, faults: list[str]) -> None:
    for name, check in APP_CHECKS.items():
        try:
            with anyio.fail_after(PATIENCE):
                faults += [f"{name}: {fault}" for fault in await check(wrap, headers)]
        except TimeoutError:
            faults.append(f"{name}: nothing happened for {PATIENCE:g} s")
        except Exception as error:
            faults.append(f"{name}: {type(error).__name__}: {error}")
        if check is plain and any(fault.startswith(name) for fault in faults):
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
"""The checks. The messages of its faults begin with the name of a check."""
