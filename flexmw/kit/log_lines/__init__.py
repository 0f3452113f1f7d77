"""The lines that flexmw writes to the standard library's loggers, with or without an OpenTelemetry SDK.

Every line of INFO and above is here; of DEBUG, those that an operator may look for.

``python -m scripts.telemetry_page`` writes the table into ``docs/telemetry.md``. ``tests/kit/test_log_lines.py`` reads
all calls of loggers in the package: each one writes a line of the table, and each line of the table is written.

>>> LINES[0].logger, LINES[0].level
('flexmw.ratelimit, flexmw.idempotency, flexmw.pace', 'WARNING')

Private: the documentation and the tests read it.
"""

from __future__ import annotations

from typing import Final

from flexmw.kit.log_lines.client import CLIENT_LINES
from flexmw.kit.log_lines.line import EACH, LogLine
from flexmw.kit.log_lines.server import SERVER_LINES

__all__ = ["LINES", "LogLine"]

LINES: Final = (
    *SERVER_LINES,
    *CLIENT_LINES,
    LogLine(
        "flexmw.tagging",
        "WARNING",
        "The instrumentation of the app or of the client hides errors: what it is, and the remedy.",
        "once for each remedy and component",
        "tagging.diagnostics",
        "%s",
    ),
    LogLine(
        "flexmw.plugins",
        "WARNING",
        "The entry points of an installed distribution cannot be read; those of the others can.",
        "once for each distribution",
        "kit.entry_points",
        "cannot be read",
    ),
    LogLine(
        "flexmw.plugins",
        "WARNING",
        "The `order` of a component has a name without a dot that no built-in component has: it has no effect.",
        "once for each component and name",
        "registry",
        "component %r: ",
    ),
    LogLine(
        "flexmw.plugins",
        "INFO",
        "A profile that is not chosen names a plugin that cannot be used here: its table is not checked.",
        EACH,
        "config.profiles",
        "which is not chosen: ",
    ),
)
