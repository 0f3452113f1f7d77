"""Read the response of one execution by offset, wherever it lies: in this process, in the log of the store, or stored.

A reader asks for the bytes at an offset, and asks again later. It is not subscribed to anything, so no byte can fall
between a first part and what follows it, and a reader that is slow delays nobody.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from flexmw.idempotency.claim import Claims
from flexmw.idempotency.core import Record, StoredResponse
from flexmw.idempotency.log import ResponseLog, RunningLogs
from flexmw.idempotency.log_head import LogHead
from flexmw.idempotency.stores import Held, LogStore
from flexmw.idempotency.stores.guarded import guarded

__all__ = ["LogReader", "Look", "State"]

State: TypeAlias = Literal["running", "elsewhere", "whole", "too_large", "lost", "changed", "gone"]
"""What a reader knows of the execution: it runs; it runs in another process, and the store has no logs; its response
is whole; its response was too long to be kept; its process has died; another execution has the key; the key is not
known."""

_FIRST_PAUSE: Final = 0.025
_LONGEST_PAUSE: Final = 0.1
"""Seconds between two reads of a log in the store. They grow from the first to the longest while nothing comes."""


class Look(NamedTuple):
    """What a reader has found at an offset.

    :param data: the bytes from there on; empty where there are none yet, and at the end.
    :param size: length of what there is of the response, in bytes.
    :param state: the state of the execution. Where it is not ``running``, no byte comes after ``size``.
    """

    data: bytes
    size: int
    state: State


class LogReader:
    """Reads the response of one execution.

    :param claims: the claims in the store.
    :param logs: the logs of this process.
    :param name: the store key.
    :param generation: the generation of the execution.
    :ivar head: the head of the response; ``None`` while it is not known.
    """

    __slots__ = ("_claims", "_generation", "_kept", "_log", "_logs", "_name", "_pause", "head")

    def __init__(self, claims: Claims, logs: RunningLogs, name: str, generation: str) -> None:
        self._claims, self._logs, self._name, self._generation = claims, logs, name, generation
        self._log: ResponseLog | None = None
        self._kept: StoredResponse | None = None
        self._pause = _FIRST_PAUSE
        self.head: LogHead | None = None

    @property
    def log(self) -> ResponseLog | None:
        """The log in this process, if the response is read from there."""
        return self._log

    async def look(self, start: int, limit: int) -> Look:
        """Look for the bytes from ``start`` on.

        Raises what the store raises.

        :param limit: length of the bytes at most.
        """
        if self._kept is None and self._log is None:
            self._log = self._logs.find(self._name, self._generation)
        if self._kept is not None:
            return self._from_kept(self._kept, start, limit)
        if self._log is not None:
            return self._from_log(self._log, start, limit)
        with guarded(self._claims.store):
            return await self._from_store(start, limit)

    async def wait(self, start: int) -> None:
        """Wait until it is worth to look for bytes from ``start`` on again."""
        if self._log is not None:
            await self._log.wait_beyond(start)
            return
        await self._claims.clock.asleep(self._pause)
        self._pause = min(self._pause * 1.5, _LONGEST_PAUSE)

    def consider(self, held: Held | None) -> Look:
        """What the record of the key says of the execution.

        :param held: what the store holds under the key.
        """
        if held is None:
            return Look(b"", 0, "gone")
        try:
            record = Record.decode(held.entry)
        except ValueError:
            return Look(b"", 0, "lost")
        if record.generation != self._generation:
            return Look(b"", 0, "changed")
        if record.phase == "done" and record.response is not None:
            kept = self._kept = record.response
            if self.head is None:
                self.head = LogHead(kept.status, kept.headers)
            return self._from_kept(kept, 0, 0)
        return Look(b"", 0, "running" if record.phase == "running" and held.lease > 0 else "lost")

    def _from_kept(self, response: StoredResponse, start: int, limit: int) -> Look:
        if response.body is None:
            return Look(b"", response.size, "too_large")
        is_other = self.head is not None and self.head.status != response.status
        if is_other or response.size != len(response.body):
            # The app broke the response off, and an error is stored in its place. The bytes of the error do not follow
            # those that were sent.
            return Look(b"", response.size, "too_large" if response.size > len(response.body) else "lost")
        return Look(response.body[start : start + limit], len(response.body), "whole")

    def _from_log(self, log: ResponseLog, start: int, limit: int) -> Look:
        self.head = LogHead(log.status, log.headers)
        if not log.is_continuable:
            return Look(b"", log.size, "too_large")
        data = log.read(start, limit)
        if not log.is_ended:
            return Look(data, log.size, "running")
        return Look(data, log.size, "lost" if log.is_broken else "whole")

    async def _from_store(self, start: int, limit: int) -> Look:
        store = self._claims.store
        piece = await store.read(self._name, self._generation, start, limit) if isinstance(store, LogStore) else None
        if piece is not None:
            self.head = LogHead.decode(piece.head)
            if piece.data:
                self._pause = _FIRST_PAUSE
            if piece.data or (piece.lease > 0 and not (piece.ended and start >= piece.size)):
                return Look(piece.data, piece.size, "running")
        found = self.consider(await store.load(self._name))
        if self._kept is not None:
            return self._from_kept(self._kept, start, limit)
        if piece is not None:
            # The log of an execution that runs is only closed where the response has become too long.
            return Look(b"", piece.size, "too_large" if found.state == "running" and piece.ended else found.state)
        if found.state == "running" and not isinstance(store, LogStore):
            return found._replace(state="elsewhere")
        return found
