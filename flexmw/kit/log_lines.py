"""The lines that flexmw writes to the standard library's loggers, with or without an OpenTelemetry SDK.

Every line of INFO and above is here; of DEBUG, those that an operator may look for.

``python -m scripts.telemetry_page`` writes the table into ``docs/telemetry.md``. ``tests/kit/test_log_lines.py`` reads
all calls of loggers in the package: each one writes a line of the table, and each line of the table is written.

>>> LINES[0].logger, LINES[0].level
('flexmw.ratelimit, flexmw.idempotency, flexmw.pace', 'WARNING')
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

__all__ = ["LINES", "LogLine"]


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


_STORES: Final = "flexmw.ratelimit, flexmw.idempotency, flexmw.pace"
_CALLERS: Final = "flexmw.ratelimit, flexmw.idempotency"
_ONCE: Final = "once in a process"
_EACH: Final = "each time"

LINES: Final = (
    LogLine(
        _STORES,
        "WARNING",
        "A store is lost: the store without its secrets, the class and the text of the error, and what happens to "
        "requests now.",
        "once in an outage; once more where the store then refuses the client",
        "kit.store_log",
        "fails: ",
    ),
    LogLine(
        _STORES,
        "INFO",
        "The store is back: after how long, and how many requests were decided without it.",
        "once in an outage",
        "kit.store_log",
        "responds again",
    ),
    LogLine(
        _STORES,
        "WARNING",
        "The store cannot be used when the app starts, and `on_store_failure`, or `Pace`, lets it start.",
        "once for each component",
        "kit.store_url",
        "cannot be used at start",
    ),
    LogLine(
        _CALLERS,
        "WARNING",
        "`memory://` in one of several processes of a server: each one counts, or remembers, for itself.",
        _ONCE,
        "kit.workers",
        "belongs to one process",
    ),
    LogLine(
        _CALLERS,
        "WARNING",
        'A caller\'s name was never there, such as that of `key="user"` or `key="state:tenant"`: all callers behind '
        "one address count as one.",
        "once for each component",
        "kit.caller_names",
        "This is logged once.",
    ),
    LogLine(
        _CALLERS,
        "WARNING",
        "`trusted_proxies` holds every address, so that a client may invent its own.",
        _ONCE,
        "kit.forwarded",
        "holds every address",
    ),
    LogLine(
        _CALLERS,
        "WARNING",
        "The first hundred requests with `X-Forwarded-For` came from few peers that `trusted_proxies` does not hold, "
        "or it is not set (`flexmw.ratelimit`): all clients behind a proxy count as one address.",
        "once for each component",
        "kit.forwarded_check",
        "so all clients behind it count as one",
    ),
    LogLine(
        "flexmw.ratelimit",
        "WARNING",
        "A client address brings more new keys than `new_keys_per_address`.",
        "once for each component",
        "ratelimit.callers",
        "new_keys_per_address=",
    ),
    LogLine(
        "flexmw.ratelimit",
        "WARNING",
        "`RateLimit(usage=...)` meets a compressed response, whose usage it cannot read.",
        "once for each app",
        "ratelimit.usage_observer",
        "cannot read responses with content-encoding",
    ),
    LogLine(
        "flexmw.ratelimit",
        "WARNING",
        "A reader of usage, or the function `price`, has raised; the estimate of the request stands.",
        "5 at once, then one a minute, with the number of those left out",
        "ratelimit.usage_observer",
        "cannot settle a request",
    ),
    LogLine(
        "flexmw.ratelimit",
        "WARNING",
        "`Ledger.balance`, or a function `budget`, has not said in five seconds what a caller has left: 503.",
        "5 at once, then one a minute, with the number of those left out",
        "ratelimit.usage_observer",
        "seconds for the credit of a caller",
    ),
    LogLine(
        "flexmw.ratelimit",
        "WARNING",
        "`Ledger.charge` takes longer than `store_timeout`: the response went on, and so does the charge.",
        "5 at once, then one a minute, with the number of those left out",
        "ratelimit.usage_observer",
        "has not taken a charge within",
    ),
    LogLine(
        "flexmw.ratelimit",
        "WARNING",
        "The end of the app has cut a `Ledger.charge` off: the amount, the unit and the digest of the caller.",
        "each time",
        "ratelimit.usage_observer",
        "was cut off by the end of the app",
    ),
    LogLine(
        "flexmw.idempotency",
        "WARNING",
        "A credential has changed between two attempts of one call, and both were executed.",
        "once for each app",
        "idempotency.renewed",
        "two different credentials",
    ),
    LogLine(
        "flexmw.idempotency",
        "WARNING",
        "`sdk_retries=True` has met a retry of a caller who shows no credential; it was executed.",
        "once for each app",
        "idempotency.renewed",
        "shows no credential",
    ),
    LogLine(
        "flexmw.idempotency",
        "WARNING",
        "A sqlite file is full, and deletes responses before they expire.",
        "once for each store",
        "idempotency.stores.sqlite_store",
        "is full (",
    ),
    LogLine(
        "flexmw.idempotency",
        "WARNING",
        "`capacity` or `capacity_bytes` is set, and the store is bounded by its server.",
        "once for each app",
        "idempotency.options",
        "has no effect on this storage",
    ),
    LogLine(
        "flexmw.idempotency",
        "WARNING",
        "The redis deletes keys when it is full (`maxmemory-policy`): a repetition can run again.",
        "once for each app",
        "idempotency.stores.redis",
        "has the maxmemory-policy",
    ),
    LogLine(
        "flexmw.idempotency",
        "WARNING",
        "The file of a sqlite store was removed or replaced while it was in use.",
        _EACH,
        "idempotency.stores.sqlite_store",
        "was removed or replaced",
    ),
    LogLine(
        "flexmw.idempotency",
        "WARNING",
        "The write-ahead log of a sqlite file, or its index, was removed while it was in use.",
        _EACH,
        "idempotency.stores.sqlite_store",
        "the keys that it alone held",
    ),
    LogLine(
        "flexmw.idempotency",
        "INFO",
        "A sqlite store begins a new file: its whole path.",
        "once for each file",
        "idempotency.stores.sqlite_store",
        "the keys are kept in a new file",
    ),
    LogLine(
        "flexmw.idempotency",
        "INFO",
        "The app receives a disconnect, because nobody reads the response of its execution any more.",
        _EACH,
        "idempotency.execute",
        "receives a disconnect",
    ),
    LogLine(
        "flexmw.idempotency",
        "WARNING",
        "The leases of running keys have run out before their heartbeat: the event loop was blocked, or the process "
        "stood still. Other processes take the keys for unknown.",
        "once in ten seconds",
        "idempotency.heartbeats",
        "running keys have run out",
    ),
    LogLine(
        "flexmw.idempotency",
        "WARNING",
        "The outcome of an execution is lost: the store did not take it for the time of a lease, and its key becomes "
        "unknown.",
        "5 at once, then one a minute, with the number of those left out",
        "idempotency.late_outcomes",
        "The outcome of an execution is lost",
    ),
    LogLine(
        "flexmw.idempotency",
        "WARNING",
        "The outcome of an execution is not stored, because the app or the event loop has ended before the store took "
        "it: the next request writes it, or the key becomes unknown.",
        "together with the line above",
        "idempotency.late_outcomes",
        "The outcome of an execution is not stored",
    ),
    LogLine(
        "flexmw.idempotency",
        "WARNING",
        "The app ends while executions with idempotency keys run: they are cancelled, and their keys are unknown.",
        _EACH,
        "idempotency.app_end",
        "The app ends while",
    ),
    LogLine(
        "flexmw.idempotency",
        "WARNING",
        "`flexmw keys` does not list keys that an earlier version has stored.",
        _EACH,
        "idempotency.known_keys",
        "of an earlier version",
    ),
    LogLine(
        "flexmw.retry",
        "INFO",
        "Another attempt will be made: why, after how long, and who named the wait.",
        _EACH,
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
        _EACH,
        "retry.log",
        "the response was cut after",
    ),
    LogLine(
        "flexmw.retry",
        "INFO",
        "A body that was cut goes on: in which request, at which byte, after how long.",
        _EACH,
        "retry.log",
        "continues the response at byte",
    ),
    LogLine(
        "flexmw.retry",
        "INFO",
        "A live stream has ended well, but the server does not confirm that this is its end.",
        _EACH,
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
        "A transport or an authentication between the client and Retry sends requests again by itself. One that may "
        "have been executed was not sent.",
        "once for each Retry",
        "retry.log",
        "a transport or an authentication above flexmw",
    ),
    LogLine(
        "flexmw.retry",
        "DEBUG",
        "The body of an error response cannot be decoded.",
        _EACH,
        "retry.response",
        "cannot be decoded",
    ),
    LogLine(
        "flexmw.pace",
        "INFO",
        "A call waits for its turn for more than a second: how long, and in which bucket.",
        _EACH,
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
    LogLine(
        "flexmw.envelope",
        "ERROR",
        "The app has responded to a crash without raising or logging it, with the traceback. A crash that the app "
        "raises is left to the server, and one that its framework logs to the framework.",
        "10 at once, then one a second, with the number of those left out",
        "envelope.crash_log",
        "responded to a crash",
    ),
    LogLine(
        "flexmw.envelope",
        "ERROR",
        "The app has returned without a response.",
        "together with the line above",
        "envelope.crash_log",
        "has sent no response",
    ),
    LogLine(
        "flexmw.envelope",
        "ERROR",
        "The app has returned in the middle of a stream, without its last body.",
        "together with the line above",
        "envelope.crash_log",
        "without the end of its stream",
    ),
    LogLine(
        "flexmw.envelope",
        "ERROR",
        "The app has begun a second response within a stream: the error that a framework makes of a failure.",
        "together with the line above",
        "envelope.crash_log",
        "has begun a second response",
    ),
    LogLine(
        "flexmw.envelope",
        "ERROR",
        "The app has begun an error within a response that is no event stream: the server cuts the connection.",
        "together with the line above",
        "envelope.crash_log",
        "has begun an error, a %d, within its response",
    ),
    LogLine(
        "flexmw.envelope",
        "WARNING",
        "The app has sent a second `http.response.start`, which is dropped: the client gets the first response.",
        "once for each request, within the bound of the line above",
        "envelope.crash_log",
        "has sent http.response.start twice",
    ),
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
        _EACH,
        "config.profiles",
        "which is not chosen: ",
    ),
)
"""Every line."""
