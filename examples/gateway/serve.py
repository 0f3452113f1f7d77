"""The gateway and its backend for as long as a block runs: for tests, for a tour, for a try in a shell.

    with backend() as models, gateway(models.url, storage="redis://localhost:6379") as running:
        key, account = running.admin.create_key(tier="paid")
        OpenAI(base_url=f"{running.url}/v1", api_key=key).models.list()
        print(models.work(), running.admin.account(account))

Both listen on free loopback ports and are ready when the block begins. The backend has a process of its own; the
gateway runs in a thread of this one, so that its spans can be read here.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from examples.gateway.accounts import DOLLAR
from examples.gateway.app import Gateway, Settings, build
from examples.gateway.processes import START_SECONDS, child, in_thread

__all__ = ["AdminClient", "Backend", "Running", "backend", "gateway"]


class Backend:
    """The model backend, seen from outside."""

    def __init__(self, url: str, client: httpx2.Client) -> None:
        self.url, self.client = url, client

    def work(self) -> dict[str, int]:
        """How often each route did its work since the last `forget`."""
        return dict(self.client.get("/work").json())

    def forget(self) -> None:
        self.client.delete("/work")


class AdminClient:
    """The admin API as methods. Amounts are in millionths of a dollar; an unhappy response raises httpx2's error."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client

    def create_key(self, *, tier: str = "paid", credit: int = DOLLAR) -> tuple[str, str]:
        """A new key and the id of its account."""
        made = self._call("POST", "/admin/keys", json={"tier": tier, "credit": credit})
        return made["key"], made["id"]

    def account(self, id: str) -> dict[str, Any]:
        return self._call("GET", f"/admin/accounts/{id}")

    def top_up(self, id: str, amount: int) -> None:
        self._call("POST", f"/admin/accounts/{id}/credit", json={"amount": amount})

    def revoke(self, id: str) -> None:
        self._call("DELETE", f"/admin/accounts/{id}")

    @contextmanager
    def offline(self, subsystem: str) -> Generator[None]:
        """A model, or "playground", offline for as long as the block runs."""
        self._call("PUT", f"/admin/offline/{subsystem}")
        try:
            yield
        finally:
            self._call("DELETE", f"/admin/offline/{subsystem}")

    def move_clock(self, seconds: int) -> None:
        self._call("POST", "/admin/clock", json={"seconds": seconds})

    def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        return dict(self.client.request(method, path, **content).raise_for_status().json())


@dataclass(frozen=True)
class Running:
    url: str
    admin: AdminClient


@contextmanager
def backend() -> Generator[Backend]:
    with child("examples.gateway.backend") as url, httpx2.Client(base_url=url, timeout=START_SECONDS) as client:
        yield Backend(url, client)


@contextmanager
def gateway(
    upstream: str, *others: str, key: str | None = None, storage: str | None = None, timeout: float = 30.0
) -> Generator[Running]:
    """A gateway before `upstream`, which may ask for a `key`, and `others` that have the same models; its state is in a
    temporary file unless given."""
    token = secrets.token_urlsafe()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        settings = Settings(
            upstream=upstream,
            others=others,
            upstream_key=key,
            storage=storage or f"sqlite:///{folder}/gateway.db",
            timeout=timeout,
            admin_token=token,
            faults=True,
        )
        url = stack.enter_context(in_thread(build(Gateway(settings))))
        headers = {"authorization": f"Bearer {token}"}
        yield Running(
            url, AdminClient(stack.enter_context(httpx2.Client(base_url=url, headers=headers, timeout=START_SECONDS)))
        )
