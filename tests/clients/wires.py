"""The client kinds that a flow runs on, behind one calling convention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import anyio
import httpx
import httpx2

import flexmw
from flexmw.kit.clock import SYSTEM, Clock

__all__ = ["WIRES", "Wire"]


@dataclass(frozen=True)
class Wire:
    """One library in one colour."""

    name: str
    library: ModuleType
    backend: str | None

    def call(
        self,
        method: str,
        url: str,
        *components: Any,
        clock: Clock = SYSTEM,
        client: dict[str, Any] | None = None,
        times: int = 1,
        read: float = 20.0,
        **request: Any,
    ) -> list[Any]:
        """Make the same call ``times`` times with one wrapped client; answers and exceptions alike are returned.

        ``read`` is the read timeout in seconds; the others are long, so that a busy machine changes nothing.
        """

        def body() -> dict[str, Any]:
            return {key: value() if isinstance(value, Callable) else value for key, value in request.items()}  # type: ignore[arg-type]

        timeout = self.library.Timeout(20.0, read=read)
        options = {"timeout": timeout, "trust_env": False, **(client or {})}
        if self.backend is None:
            with flexmw.wrap_client(self.library.Client(**options), *components, clock=clock) as sync_client:
                return [_kept(lambda: sync_client.request(method, url, **body())) for _ in range(times)]

        async def run() -> list[Any]:
            wrapped = flexmw.wrap_client(self.library.AsyncClient(**options), *components, clock=clock)
            results: list[Any] = []
            async with wrapped as async_client:
                for _ in range(times):
                    try:
                        results.append(await async_client.request(method, url, **body()))
                    except Exception as error:
                        results.append(error)
            return results

        return anyio.run(run, backend=self.backend)

    def __str__(self) -> str:
        return self.name


def _kept(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error


WIRES = [
    Wire("httpx-sync", httpx, None),
    Wire("httpx-asyncio", httpx, "asyncio"),
    Wire("httpx-trio", httpx, "trio"),
    Wire("httpx2-sync", httpx2, None),
    Wire("httpx2-asyncio", httpx2, "asyncio"),
    Wire("httpx2-trio", httpx2, "trio"),
]
