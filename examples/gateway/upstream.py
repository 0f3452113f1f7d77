"""The way to the model backends: one wrapped httpx2 client, and what each of its failures means to a caller.

The client's Retry repeats what provably did no work (a refused connection, 429, 503 with Retry-After) and nothing
else; it says in `exc.flexmw` how a call ended. With a second backend, Fallback sends it such a call at once; a call
whose response is lost goes to nobody else. What is left is turned into the contract's words here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import httpx2

import flexmw
from examples.gateway.faults import HEADER as FAULT_HEADER

__all__ = ["Upstream", "broken"]


class Upstream:
    """`urls` are base URLs of servers with the same models: a call begins at the first one. `key` is for that one."""

    def __init__(self, urls: Sequence[str], *, key: str | None = None, timeout: float = 30.0) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        first, *others = urls

        def client(*components: Any) -> httpx2.AsyncClient:
            plain = httpx2.AsyncClient(base_url=first, headers=headers, timeout=timeout)
            return flexmw.wrap_client(plain, flexmw.Tagging(), *components, flexmw.Retry())

        self.pinned = client()
        """For what only the first one knows: a video job is polled where it was begun."""
        self.client = client(fallback(first, others)) if others else self.pinned

    async def get(self, path: str, said: str, lost: Callable[[], flexmw.APIError] | None = None) -> Any:
        """The JSON at `path`. What the upstream does not have is raised as `lost`."""
        response = await self._send(self.pinned, self.pinned.build_request("GET", path), said, lost=lost)
        with suppress(ValueError):
            return response.json()
        return None

    async def post(
        self, path: str, said: str, *, stream: bool = False, pinned: bool = False, **content: Any
    ) -> httpx2.Response:
        """Send the work on and give the response of a backend that did it; everything else is raised.

        `said` is what to call the subsystem in an error. With `stream`, the body is still to be read. With `pinned`,
        the first backend does it or nobody.
        """
        client = self.pinned if pinned else self.client
        return await self._send(client, client.build_request("POST", path, **content), said, stream=stream)

    async def close(self) -> None:
        await self.client.aclose()
        await self.pinned.aclose()

    async def _send(
        self,
        client: httpx2.AsyncClient,
        request: httpx2.Request,
        said: str,
        *,
        stream: bool = False,
        lost: Callable[[], flexmw.APIError] | None = None,
    ) -> httpx2.Response:
        try:
            response = await client.send(request, stream=stream)
            if not response.is_success:
                await response.aread()
        except httpx2.TransportError as exc:
            raise broken(exc, said) from exc
        if response.status_code == 404 and lost is not None:
            raise lost()
        if not response.is_success:
            raise refused(response, said)
        return response


def fallback(first: str, others: Sequence[str]) -> Any:
    """Ask the others what the first one has provably not done. Raises ConfigError without the plugin."""
    try:
        from flexmw_fallback import Fallback
        from flexmw_fallback import Upstream as Server
    except ImportError:
        expected = "flexmw-fallback beside it (pip install ./plugins/flexmw-fallback), or one upstream"
        raise flexmw.ConfigError("upstreams", [first, *others], expected) from None
    # A fault is ordered from the first one alone.
    return Fallback(Server(first), *(Server(url, headers={FAULT_HEADER: None}) for url in others))


def broken(exc: httpx2.TransportError, said: str) -> flexmw.APIError:
    """No response. If it is certain that nothing was sent, nothing was done: that is 503, and safe to try again."""
    ending = getattr(exc, "flexmw", None)
    if ending is not None and ending.outcome == "unsent":
        return flexmw.SubsystemOffline(said, retry_after=1)
    if isinstance(exc, httpx2.TimeoutException):
        return flexmw.UpstreamTimeout()
    return flexmw.APIError("The model backend broke off; it may have done the work.", status=500)


def refused(response: httpx2.Response, said: str) -> flexmw.APIError:
    """A response that is an error: the caller's fault is passed on, the backend's is not blamed on the caller."""
    status = response.status_code
    if status in (400, 413, 422):
        error = _error(response)
        fields = {"code": error["code"]} if isinstance(error.get("code"), str) else {}
        return flexmw.InvalidRequest(error.get("message"), error.get("param"), **fields)
    wait = response.headers.get("retry-after", "")
    if status == 429 or (status == 503 and wait):  # a refusal; a 503 without Retry-After may have worked first
        return flexmw.SubsystemOffline(said, retry_after=float(wait) if wait.isdecimal() else None)
    if status in (401, 403):
        return flexmw.APIError("The model backend does not accept the gateway's own key.", status=500)
    if status == 404:
        path = response.request.url.path
        return flexmw.SubsystemOffline(path, message=f"{path} is not served by this gateway's model backend.")
    return flexmw.APIError("The model backend failed; it may have done the work.", status=500)


def _error(response: httpx2.Response) -> dict[str, Any]:
    with suppress(ValueError, KeyError, TypeError):
        return dict(response.json()["error"])
    return {}
