"""Video jobs: each belongs to one account, and is kept for 24 hours after its completion.

The clock is handed in, so that a test, or an administrator, can let a day pass at once.
"""

from __future__ import annotations

import json
import time
from typing import Any

from examples.gateway.store import Store

__all__ = ["KEPT", "Clock", "Jobs"]

KEPT = 24 * 3600  # seconds after completion
KIND = "video"


class Clock:
    """Seconds since 1970, and as many more as it was moved on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def move(self, seconds: float) -> None:
        self.ahead += seconds


class Jobs:
    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock

    async def open(self, owner: str, job: dict[str, Any]) -> dict[str, Any]:
        """Keep a job that the backend has accepted, and let go of those whose time is over."""
        for known in await self.store.ids(KIND):
            await self._unless_expired(known)
        job = {**job, "created_at": int(self.clock())}
        await self.store.write(KIND, job["id"], {"owner": owner, "job": json.dumps(job)})
        return job

    async def get(self, owner: str, id: str) -> dict[str, Any] | None:
        """The job as it was last seen; None if it is unknown, another account's, or expired."""
        record = await self._unless_expired(id)
        return json.loads(record["job"]) if record.get("owner") == owner else None

    async def update(self, id: str, job: dict[str, Any]) -> dict[str, Any]:
        """Keep the backend's newer word on the job; with the word "completed" its 24 hours begin."""
        record = await self.store.read(KIND, id)
        job = {**job, "created_at": json.loads(record["job"])["created_at"]}
        fields = {}
        if job["status"] == "completed":
            until = self.clock() + KEPT
            job |= {"completed_at": int(until - KEPT), "expires_at": int(until)}
            fields["until"] = str(until)
        await self.store.write(KIND, id, {"job": json.dumps(job), **fields})
        return job

    async def _unless_expired(self, id: str) -> dict[str, str]:
        record = await self.store.read(KIND, id)
        if "until" in record and self.clock() >= float(record["until"]):
            await self.store.delete(KIND, id)
            return {}
        return record
