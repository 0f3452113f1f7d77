"""Response log: the bytes of one response body, kept while its execution goes on, for any number of readers.

Readers pull by absolute offset. A second reader is another offset, and a slow reader delays nobody. A notification only
says that it is worth looking again, so no byte can fall between a look and a wait.

>>> log = ResponseLog("g0123456789abcde", max_body=100)
>>> log.append(b"data: 1\\n\\n")
>>> log.append(b"data: 2\\n\\n")
>>> log.read(6, 5), log.size, log.is_ended
(b'1\\n\\nda', 18, False)
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Final

import anyio

__all__ = ["ResponseLog", "RunningLogs"]

_MAX_FOLLOWERS: Final = 8


class ResponseLog:
    """The response of one execution, as far as the app has sent it.

    All methods belong to the event loop of the execution.

    :param generation: the id of the claim that the execution runs under.
    :param status: the HTTP status of the response.
    :param headers: the headers that belong to the result, with lower-case names.
    :param max_body: bytes that are kept at most. A longer body is dropped: nobody can follow it any more.
    :param max_followers: readers beside the first one at most.
    :param clock: the monotonic time in seconds.
    :ivar chunks: those bytes, as the app has sent them. They, ``size`` and ``changed`` are public for the delivery,
        which adds a chunk for each message of the app; everybody else calls :meth:`append`.
    :ivar changed: the event that readers wait for; ``None`` while none waits.
    :ivar size: bytes that readers can read. An incomplete event at the end of a stream is not among them.
    :ivar is_ended: no byte comes after ``size``.
    :ivar is_broken: the app broke the response off. Its readers must not see a clean end.
    :ivar is_continuable: False once the body was longer than ``max_body``.
    :ivar followers: readers beside the first one.
    :ivar wanted_at: monotonic time of the last interest of a reader other than the first one.
    """

    __slots__ = (
        "_clock",
        "_ends",
        "_max_followers",
        "changed",
        "chunks",
        "followers",
        "generation",
        "headers",
        "is_broken",
        "is_continuable",
        "is_ended",
        "max_body",
        "size",
        "status",
        "wanted_at",
    )

    def __init__(
        self,
        generation: str,
        *,
        status: int = 200,
        headers: tuple[tuple[str, str], ...] = (),
        max_body: int,
        max_followers: int = _MAX_FOLLOWERS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.generation, self.status, self.headers = generation, status, headers
        self.max_body, self._max_followers, self._clock = max_body, max_followers, clock
        self.chunks: list[bytes] = []
        self._ends: list[int] = []
        self.changed: anyio.Event | None = None
        self.size = self.followers = 0
        self.is_ended = self.is_broken = False
        self.is_continuable = True
        self.wanted_at = clock()

    def append(self, data: bytes) -> None:
        """Add bytes that all readers may have now."""
        if not data:
            return
        self.size += len(data)
        if self.size > self.max_body:
            self.discard()
        elif self.is_continuable:
            self.chunks.append(data)
            if self.changed is not None:
                self.wake()

    def end(self, broken: bool = False) -> None:
        """End the log.

        :param broken: the app has not completed the response.
        """
        self.is_ended, self.is_broken = True, broken
        self.wake()

    def discard(self) -> None:
        """Drop the bytes: the response is too long to be kept."""
        self.is_continuable = False
        self.chunks.clear()
        self._ends.clear()
        self.wake()

    def read(self, start: int, limit: int) -> bytes:
        """At most ``limit`` bytes from the offset ``start``; ``b""`` where the log has none yet."""
        return b"".join(self._pieces(start, start + limit))

    def digest(self, size: int) -> bytes:
        """The SHA-256 of the first ``size`` bytes."""
        digest = hashlib.sha256()
        for piece in self._pieces(0, size):
            digest.update(piece)
        return digest.digest()

    async def wait_beyond(self, size: int) -> None:
        """Wait until the log has more than ``size`` bytes, has ended, or is not kept any more."""
        while self.size <= size and not self.is_ended and self.is_continuable:
            if self.changed is None:
                self.changed = anyio.Event()
            await self.changed.wait()

    def attach(self) -> bool:
        """Count one more follower. Returns False, and counts none, if there are ``max_followers``."""
        if self.followers >= self._max_followers:
            return False
        self.followers += 1
        self.want()
        return True

    def detach(self) -> None:
        """A follower that :meth:`attach` has counted has left."""
        self.followers -= 1
        self.want()

    def want(self) -> None:
        """Note the interest of a reader: one of another process, for example."""
        self.wanted_at = self._clock()

    def _pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes between two offsets, chunk by chunk."""
        ends = self._ends
        for chunk in self.chunks[len(ends) :]:
            ends.append((ends[-1] if ends else 0) + len(chunk))
        for index in range(bisect_right(ends, start), len(ends)):
            begin = ends[index] - len(self.chunks[index])
            if begin >= end:
                return
            yield self.chunks[index][max(0, start - begin) : end - begin]

    def wake(self) -> None:
        """Wake the readers that wait."""
        changed, self.changed = self.changed, None
        if changed is not None:
            changed.set()


class RunningLogs:
    """The logs of the executions that run in this process, by store key and generation.

    >>> logs = RunningLogs()
    >>> logs.add("a:k:1", log := ResponseLog("g0123456789abcde", max_body=0))
    >>> logs.find("a:k:1", "g0123456789abcde") is log, logs.find("a:k:1", "another") is None
    (True, True)
    >>> logs.remove("a:k:1", log)
    >>> len(logs)
    0
    """

    __slots__ = ("_logs",)

    def __init__(self) -> None:
        self._logs: dict[str, ResponseLog] = {}

    def __len__(self) -> int:
        return len(self._logs)

    def add(self, name: str, log: ResponseLog) -> None:
        """Register the log of an execution that has begun to respond. A key has one execution at a time."""
        self._logs[name] = log

    def find(self, name: str, generation: str | None = None) -> ResponseLog | None:
        """The log of a key.

        :param name: the store key.
        :param generation: only the log of this claim; ``None``: of any.
        """
        log = self._logs.get(name)
        return log if log is not None and generation in (None, log.generation) else None

    def remove(self, name: str, log: ResponseLog) -> None:
        """Forget a log whose execution is over. Another execution's log under the key stays."""
        if self._logs.get(name) is log:
            del self._logs[name]
