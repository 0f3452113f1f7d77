"""Standard output that tells its own errors from those of a command."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, TextIO, cast

__all__ = ["CLOSED_PIPE", "OutputError", "exit_code_of", "guarded"]

CLOSED_PIPE: Final = 128 + 13
"""The exit code that shells report for a command that SIGPIPE has ended."""


class OutputError(Exception):
    """Standard output cannot be written. ``__cause__`` is the error of the operating system."""


class _Output:
    """A text stream that raises :class:`OutputError` in place of ``OSError``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        written: int = self._guarded(lambda: self._stream.write(text))
        return written

    def flush(self) -> None:
        self._guarded(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _guarded(self, write: Callable[[], Any]) -> Any:
        try:
            return write()
        except OSError as error:
            raise OutputError(error.strerror) from error


def guarded(stream: TextIO) -> TextIO:
    """The same stream, whose errors are :class:`OutputError`."""
    return cast(TextIO, _Output(stream))


def exit_code_of(error: OutputError, stream: TextIO, errors: TextIO) -> int:
    """Say why standard output cannot be written, where somebody wants to know; return the exit code.

    What is left of the output goes nowhere: the interpreter flushes it once more when it ends.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    if isinstance(error.__cause__, BrokenPipeError):  # the reader has enough, as ``head`` does
        return CLOSED_PIPE
    errors.write(f"flexmw: standard output cannot be written: {error}\n")
    return 2
