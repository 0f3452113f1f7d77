"""What is known of one line of the logs."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

__all__ = ["EACH", "ONCE", "LogLine"]


class LogLine(NamedTuple):
    """One line.

    :param logger: the names of the loggers.
    :param level: the level, or the levels.
    :param event: what has happened, for operators.
    :param bound: how often the line is written.
    :param module: the module that writes it.
    :param text: a part of the text.
    """

    logger: str
    level: Literal["ERROR", "WARNING", "WARNING or DEBUG", "INFO", "DEBUG"]
    event: str
    bound: str
    module: str
    text: str


ONCE: Final = "once in a process"
EACH: Final = "each time"
"""How often many of the lines are written."""
