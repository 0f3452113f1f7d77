"""The gateway in a process of its own, its metrics as Prometheus would scrape them, and a load of all that happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
import yaml

from examples.gateway.processes import ROOT
from examples.gateway.serve import AdminClient
from tests.servers import Child
from tests.waiting import LONGEST_WAIT

__all__ = ["EXPRESSIONS", "HERE", "Watched", "load", "watched"]

HERE = ROOT / "examples" / "observability"
ADMIN = "admin-token-of-a-test"
CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "alice-3gram", "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 3}
FAULTS = 36
"""Of each kind that an alert counts: more than 0.1 a second, if none has come in the five minutes before."""


def _expressions() -> Iterator[tuple[str, str]]:
    for panel in json.loads((HERE / "dashboard.json").read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for group in yaml.safe_load((HERE / "alerts.yml").read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


EXPRESSIONS = dict(_expressions())
"""Every query of the dashboard and of the alerts, by its title."""


@dataclass(frozen=True)
class Watched:
    """A gateway that runs: where it answers, and where its metrics are."""

    url: str
    metrics: str
    redis: Child


@contextmanager
def watched(redis: Child) -> Iterator[Watched]:
    """``python -m examples.observability`` with its state in redis, for as long as the block runs."""
    assert redis.ask(b"FLUSHALL") == b"+OK"
    options = ("--metrics-port", "0", "--port", "0", "--timeout", "15", "--storage", redis.url, "--admin-token", ADMIN)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.observability", "--child", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                metrics, url = (process.stdout.readline().split()[-1] for _ in range(2))
                yield Watched(url, metrics, redis)
            finally:
                process.stdin.close()
                try:
                    process.wait(LONGEST_WAIT)
                except subprocess.TimeoutExpired:
                    process.kill()


async def load(gateway: Watched) -> None:
    """A wave of what a provider's day is made of: good answers, callers' faults, refusals, and a backend that fails."""
    with httpx2.Client(
        base_url=gateway.url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=LONGEST_WAIT
    ) as client:
        free, *paid = [AdminClient(client).create_key(tier=tier)[0] for tier in ("free", *["paid"] * 8)]
    await _load(gateway, free, paid)


async def held_back(client: httpx2.AsyncClient, gateway: Watched) -> float:
    """Calls that were not sent again because the budget for retries was spent."""
    shown = (await client.get(gateway.metrics)).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in shown.splitlines() if '"budget"' in line)


async def _load(gateway: Watched, free: str, paid: Sequence[str]) -> None:
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:

        async def chat(key: str, fault: str = "", **more: Any) -> int:
            headers = {"authorization": f"Bearer {key}", **({"x-backend-fault": fault} if fault else {})}
            headers |= more.pop("headers", {})
            return (await client.post(CHAT, json={**ASK, **more}, headers=headers)).status_code

        async def models(key: str) -> int:
            return (await client.get("/v1/models", headers={"authorization": f"Bearer {key}"})).status_code

        async def hang_up() -> None:
            headers = {"authorization": f"Bearer {paid[0]}", "x-backend-fault": "slow"}
            async with client.stream(
                "POST", CHAT, json={**ASK, "max_tokens": 99, "stream": True}, headers=headers
            ) as got:
                async for _ in got.aiter_raw():
                    return

        async def until(wanted: int, call: Callable[..., Awaitable[int]], *arguments: Any, **options: Any) -> None:
            """On a busy machine a limiter or a store may be late: what is wanted comes all the same."""
            seen = set[int]()
            for _ in range(40):
                seen.add(await call(*arguments, **options))
                if wanted in seen:
                    return
            raise AssertionError(f"{sorted(seen)} and never {wanted}")

        for _ in range(5):
            await until(200, chat, paid[0])
        keyed = {"idempotency-key": f"key-{paid[0]}"}
        for _ in range(2):
            await until(200, chat, paid[0], headers=keyed)
        await until(422, chat, paid[0], headers=keyed, max_tokens=4)
        await until(400, chat, paid[0], model="no-such-model")
        await until(401, models, "sk-nobody")
        await until(429, models, free)
        await until(200, chat, paid[0], f"503; once={paid[0]}")
        await until(500, chat, paid[0], "lost")
        await hang_up()
        async with anyio.create_task_group() as tasks:
            for _ in range(FAULTS):
                tasks.start_soon(chat, paid[1], "500")
        before = await held_back(client, gateway)
        for key in paid[2:]:  # on a busy machine the budget grows back as fast as it is spent
            async with anyio.create_task_group() as tasks:
                for _ in range(90):
                    tasks.start_soon(chat, key, "429")  # a wait that the server names would cost no budget
            if await held_back(client, gateway) > before:
                break
        else:
            raise AssertionError("the budget for retries was never spent")
        assert gateway.redis.ask(b"CLIENT PAUSE 9000 WRITE") == b"+OK"
        for _ in range(4):  # the limiter decides without its store
            await until(200, models, paid[0])
        await until(503, chat, paid[0], headers={"idempotency-key": f"lost-{paid[0]}"})
        assert gateway.redis.ask(b"CLIENT UNPAUSE") == b"+OK"
