"""The lines of the components of clients."""

from __future__ import annotations

from typing import Final

from flexmw.kit.log_lines.line import EACH, LogLine

__all__ = ["CLIENT_LINES"]

CLIENT_LINES: Final = (
    LogLine(
        "flexmw.retry",
        "INFO",
        "Another attempt will be made: why, after how long, and who named the wait.",
        EACH,
        "retry.log",
        "attempt %d in",
    ),
    LogLine(
        "flexmw.retry",
        "WARNING or DEBUG",
        "A call is given back. WARNING: it is ambiguous, the work may have been done. DEBUG: every other reason.",
        "WARNING: 100 at once, then ten a second, with the number of those left out",
        "retry.log",
        "%s %s: %s: %s",
    ),
    LogLine(
        "flexmw.retry",
        "INFO",
        "The body of a response was cut: after how many bytes, and by what.",
        EACH,
        "retry.log",
        "the response was cut after",
    ),
    LogLine(
        "flexmw.retry",
        "INFO",
        "A body that was cut goes on: in which request, at which byte, after how long.",
        EACH,
        "retry.log",
        "continues the response at byte",
    ),
    LogLine(
        "flexmw.retry",
        "INFO",
        "A live stream has ended well, but the server does not confirm that this is its end.",
        EACH,
        "retry.resume",
        "the end of the stream is not confirmed",
    ),
    LogLine(
        "flexmw.retry",
        "WARNING",
        "An SDK repeats calls above flexmw.",
        "once for each client",
        "retry.call",
        "retries above flexmw",
    ),
    LogLine(
        "flexmw.retry",
        "WARNING",
        "A transport inside Retry sends requests again by itself. One that may have been executed was kept back.",
        "once for each client",
        "retry.log",
        "a transport inside flexmw sends requests again by itself",
    ),
    LogLine(
        "flexmw.retry",
        "WARNING",
        "A transport or an authentication between the client and Retry, or a method of the client's class, sends "
        "requests again by itself. One that may have been executed was not sent.",
        "once for each Retry",
        "retry.log",
        "a transport, an authentication or a method of the client above flexmw",
    ),
    LogLine(
        "flexmw.retry",
        "DEBUG",
        "The body of an error response cannot be decoded.",
        EACH,
        "retry.response",
        "cannot be decoded",
    ),
    LogLine(
        "flexmw.pace",
        "INFO",
        "A call waits for its turn for more than a second: how long, and in which bucket.",
        EACH,
        "pace.flow",
        "waits %.1f seconds",
    ),
    LogLine(
        "flexmw.pace",
        "DEBUG",
        "A response has no rate-limit headers that Pace knows.",
        "once for each origin",
        "pace.flow",
        "no limit headers",
    ),
)
