"""What the routes of every framework do: count executions, stream events that wait for the client, mark a lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import anyio

from tests.waiting import LONGEST_WAIT

__all__ = ["SECRET", "Work"]

SECRET: Final = "sk-canary-0123456789abcdef"


class Work:
    """The state of one app.

    :param folder: the folder of the marks ``started``, ``stopped`` and ``rung``. A server may run the app in another
        process, which shares nothing else with the test.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.executions = 0

    def started(self) -> None:
        """The framework's startup has run."""
        (self.folder / "started").touch()

    def stopped(self) -> None:
        """The framework's shutdown has run."""
        (self.folder / "stopped").touch()

    def execute(self, n: int) -> dict[str, int]:
        """The work of a POST. The response says the how many-th execution it was."""
        self.executions += 1
        return {"n": n, "execution": self.executions}

    def ring(self) -> str:
        """Let :meth:`events` go on."""
        (self.folder / "rung").touch()
        return "rung"

    async def events(self) -> AsyncIterator[bytes]:
        """An event, and a second one after the client has asked for ``/ring``."""
        yield b"data: one\n\n"
        with anyio.fail_after(LONGEST_WAIT):
            while not (self.folder / "rung").exists():  # noqa: ASYNC110  # the other request may run in another thread
                await anyio.sleep(0.01)
        yield b"data: two\n\n"

    async def broken(self) -> AsyncIterator[bytes]:
        """An event, then a failure."""
        yield b"data: one\n\n"
        raise ValueError(SECRET)
