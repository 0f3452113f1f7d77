"""Programs of the tests that run in processes of their own, and exchange lines with the test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from threading import Timer

from tests.servers import ROOT
from tests.waiting import LONGEST_WAIT

__all__ = ["Program", "programs"]


class Program:
    """One ``python -m module`` with a line of text for each direction."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._input, self._output = process.stdin, process.stdout

    def send(self, line: str) -> None:
        self._input.write(line + "\n")
        self._input.flush()

    def receive(self) -> str:
        """The next line of the program. Fails where the program ends or writes nothing."""
        timer = Timer(LONGEST_WAIT, self._process.kill)
        timer.start()
        try:
            line = self._output.readline()
        finally:
            timer.cancel()
            timer.join()
        assert line, f"{self._process.args!r} has ended"
        return line.strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def programs(module: str, *arguments: str, number: int) -> Generator[list[Program]]:
    """So many processes of one module, which are killed when the block ends."""
    command = [sys.executable, "-m", module, *arguments]
    with ExitStack() as stack:
        started: list[Program] = []
        for _ in range(number):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
            started.append(Program(process))
            stack.callback(started[-1].kill)
        yield started
