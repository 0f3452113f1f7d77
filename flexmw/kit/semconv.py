"""Every attribute, event and metric that flexmw writes: one table, from which the documentation is made.

Stable HTTP conventions are used as they are; everything else lives under ``flexmw.``. A closed attribute lists its
values; an open one says how many distinct values it may take in one process, so that no metric can grow without end.

>>> ATTRIBUTES["flexmw.retry.safety"].values
('safe_method', 'idempotency_key', 'not_sent', 'opt_in', 'none')
>>> METRICS["flexmw.client.operation.duration"].unit
's'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from flexmw.contract import PAGE, STATUS

__all__ = [
    "ATTRIBUTES",
    "CODES",
    "DURATION_BUCKETS",
    "EVENTS",
    "METRICS",
    "OTHER",
    "SCHEMA_URL",
    "SCOPE",
    "SERIES",
    "TYPES",
    "Attribute",
    "Event",
    "Metric",
    "Place",
]

SCOPE: Final = "flexmw"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
OTHER: Final = "_OTHER"
"""What a value outside a closed set becomes (the semantic conventions' own word)."""

SERIES: Final = 500
"""The attribute sets after which an instrument drops its open attributes; the SDK's own limit is 2000."""

DURATION_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The conventions' advice for HTTP durations, in seconds."""

Kind: TypeAlias = Literal["string", "int", "double"]
Place: TypeAlias = Literal["server span", "client span", "call span", "event", "metric"]


@dataclass(frozen=True, slots=True)
class Attribute:
    """``values``: all it can be, when closed. ``bound``: how many distinct values it may take when it is open and goes
    on metrics; ``None`` keeps it off metrics."""

    name: str
    kind: Kind
    meaning: str
    places: tuple[Place, ...]
    values: tuple[str, ...] = ()
    bound: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A log record with an event name. ``severity`` is OpenTelemetry's number; ``quiet`` the one it has when the other
    side, not this one, ended the work."""

    name: str
    severity: int
    meaning: str
    attributes: tuple[str, ...]
    quiet: int | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """An instrument."""

    name: str
    kind: Literal["counter", "histogram"]
    unit: str
    meaning: str
    attributes: tuple[str, ...]


TYPES: Final = tuple(sorted({row.type for row in (*PAGE.values(), *STATUS.values())} | {OTHER}))
CODES: Final = tuple(
    sorted(
        {row.code for row in (*PAGE.values(), *STATUS.values())}
        | {"idempotency_answer_not_kept", "idempotency_in_progress", "idempotency_key_invalid"}
        | {"idempotency_key_required", "idempotency_key_reused", "idempotency_unknown"}
        | {"invalid_json", "unknown_url"}
        | {OTHER}
    )
)
_METHODS: Final = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE", OTHER)
_LIMITED: Final = ("acquired", "rejected", "bypassed", "storage_error_allowed", "storage_error_rejected")
_S: Final[tuple[Place, ...]] = ("server span",)
_SM: Final[tuple[Place, ...]] = ("server span", "metric")
_EVERYWHERE: Final[tuple[Place, ...]] = ("server span", "client span", "call span", "event", "metric")

ATTRIBUTES: Final = {
    each.name: each
    for each in (
        Attribute(
            "flexmw.error.type",
            "string",
            "The envelope's `type`: the contract's and declared ones.",
            _EVERYWHERE,
            TYPES,
        ),
        Attribute(
            "flexmw.error.code",
            "string",
            "The envelope's `code`; declared ones and `http_NNN` beside the contract's.",
            _EVERYWHERE,
            CODES,
        ),
        Attribute(
            "flexmw.error.source",
            "string",
            "Who decided on an error answer.",
            ("server span", "event", "metric"),
            (
                "passthrough",
                "http_exception",
                "unhandled_exception",
                "validation",
                "foreign_body",
                "rate_limiting",
                "idempotency",
                OTHER,
            ),
        ),
        Attribute(
            "flexmw.rate_limiting.result",
            "string",
            "What the limiter decided.",
            ("server span", "event", "metric"),
            (*_LIMITED, OTHER),
        ),
        Attribute(
            "flexmw.rate_limiting.policy",
            "string",
            "The policy that decided.",
            ("server span", "event", "metric"),
            bound=20,
        ),
        Attribute("flexmw.rate_limiting.limit", "int", "Requests the policy allows in its window.", _S),
        Attribute("flexmw.rate_limiting.remaining", "int", "Requests left in the window.", _S),
        Attribute("flexmw.rate_limiting.retry_after", "double", "Seconds until a rejected caller may return.", _S),
        Attribute("flexmw.rate_limiting.key_hash", "string", "Keyed hash of the caller; only when asked for.", _S),
        Attribute(
            "flexmw.response.outcome",
            "string",
            "How a streamed response ended.",
            _S,
            ("complete", "failed", "client_disconnected", "cancelled"),
        ),
        Attribute("flexmw.request.retry_count", "int", "The attempt an SDK says this is, 0 to 100.", _S),
        Attribute(
            "flexmw.idempotency.result",
            "string",
            "What the idempotency key led to.",
            _SM,
            (
                "stored",
                "replayed",
                "released",
                "conflict",
                "in_progress",
                "unknown",
                "required",
                "invalid",
                "store_error",
                OTHER,
            ),
        ),
        Attribute(
            "flexmw.retry.safety",
            "string",
            "Why sending again cannot do the work twice.",
            ("client span", "call span", "event", "metric"),
            ("safe_method", "idempotency_key", "not_sent", "opt_in", "none"),
        ),
        Attribute("flexmw.retry.delay", "double", "Seconds until the next attempt.", ("event",)),
        Attribute(
            "flexmw.retry.delay_source",
            "string",
            "Who chose the delay.",
            ("event", "metric"),
            ("retry_after", "backoff", OTHER),
        ),
        Attribute(
            "flexmw.retry.stop_reason",
            "string",
            "Why a failed call was not sent again.",
            ("call span", "event", "metric"),
            (
                "unsafe_method",
                "status",
                "attempts_exhausted",
                "deadline",
                "retry_after_too_long",
                "body_not_replayable",
                "budget",
                "local_error",
                OTHER,
            ),
        ),
        Attribute("flexmw.retry.attempts", "int", "Times a logical call was sent.", ("call span",)),
        Attribute(
            "error.type",
            "string",
            "Status as text, exception class, `incomplete_response` or `client_disconnected`.",
            _EVERYWHERE,
            bound=60,
        ),
        Attribute("exception.type", "string", "The exception's class.", ("event",)),
        Attribute("exception.message", "string", "Its text, secrets taken out.", ("event",)),
        Attribute("exception.stacktrace", "string", "Its stack, secrets taken out.", ("event",)),
        Attribute("http.request.method", "string", "The method.", ("server span", "event", "metric"), _METHODS),
        Attribute("http.request.method_original", "string", "A method the conventions do not know.", _S),
        Attribute("http.request.resend_count", "int", "1, 2, ... on resends only.", ("client span", "event")),
        Attribute(
            "http.response.status_code",
            "int",
            "The status, if one was sent or received.",
            ("server span", "metric"),
            bound=60,
        ),
        Attribute("http.route", "string", "The matched route.", ("server span", "event", "metric"), bound=200),
        Attribute("server.address", "string", "The host called.", ("server span", "event", "metric"), bound=100),
        Attribute("server.port", "int", "The port of the host.", _S),
        Attribute("url.scheme", "string", "`http` or `https`.", _SM, ("http", "https", OTHER)),
        Attribute("url.path", "string", "The path.", _S),
        Attribute("url.query", "string", "The query, secrets taken out.", _S),
        Attribute("client.address", "string", "The peer's address.", _S),
        Attribute("user_agent.original", "string", "The user agent.", _S),
        Attribute("network.protocol.version", "string", "Such as `1.1`.", _SM, bound=5),
    )
}

_EXCEPTION: Final = ("exception.type", "exception.message", "exception.stacktrace")
DEBUG, INFO, WARN, ERROR = 5, 9, 13, 17

EVENTS: Final = {
    each.name: each
    for each in (
        Event(
            "http.server.request.exception",
            ERROR,
            "An exception that no outer instrument records.",
            (*_EXCEPTION, "http.route", "flexmw.error.type", "flexmw.error.code", "flexmw.error.source"),
            quiet=DEBUG,
        ),
        Event(
            "http.client.request.exception",
            WARN,
            "A logical call failed for good; once, after all its attempts.",
            (*_EXCEPTION, "server.address", "http.request.method"),
        ),
        Event(
            "flexmw.retry.scheduled",
            DEBUG,
            "An attempt failed and another will be made.",
            (
                "http.request.resend_count",
                "error.type",
                "flexmw.retry.delay",
                "flexmw.retry.delay_source",
                "flexmw.retry.safety",
            ),
        ),
        Event(
            "flexmw.retry.stopped",
            WARN,
            "An attempt failed and none will follow. INFO when only the method forbids it.",
            ("flexmw.retry.stop_reason", "flexmw.retry.safety", "error.type"),
            quiet=INFO,
        ),
        Event(
            "flexmw.rate_limiting.storage_failed",
            WARN,
            "The limiter's store did not answer.",
            (*_EXCEPTION, "flexmw.rate_limiting.policy", "flexmw.rate_limiting.result"),
        ),
        Event("flexmw.idempotency.store_failed", WARN, "The store of idempotency keys did not answer.", _EXCEPTION),
    )
}

METRICS: Final = {
    each.name: each
    for each in (
        Metric(
            "flexmw.rate_limiting.requests",
            "counter",
            "{request}",
            "Requests that a limiter decided on.",
            ("flexmw.rate_limiting.result", "flexmw.rate_limiting.policy", "http.route"),
        ),
        Metric(
            "flexmw.rate_limiting.check.duration",
            "histogram",
            "s",
            "Time a limiter's decision took.",
            ("flexmw.rate_limiting.policy", "error.type"),
        ),
        Metric(
            "flexmw.server.error_responses",
            "counter",
            "{response}",
            "Error answers, by envelope.",
            (
                "flexmw.error.type",
                "flexmw.error.code",
                "flexmw.error.source",
                "http.response.status_code",
                "http.route",
            ),
        ),
        Metric(
            "flexmw.idempotency.requests",
            "counter",
            "{request}",
            "Requests that carried an idempotency key.",
            ("flexmw.idempotency.result",),
        ),
        Metric(
            "flexmw.client.operation.duration",
            "histogram",
            "s",
            "A logical call, all attempts, waits and the body included.",
            ("http.request.method", "server.address", "http.response.status_code", "error.type"),
        ),
        Metric(
            "flexmw.client.retries",
            "counter",
            "{retry}",
            "Attempts after the first.",
            ("flexmw.retry.delay_source", "error.type"),
        ),
        Metric(
            "flexmw.client.retry_stops",
            "counter",
            "{operation}",
            "Failed calls that were not sent again.",
            ("flexmw.retry.stop_reason", "flexmw.retry.safety"),
        ),
        Metric(
            "http.server.request.duration",
            "histogram",
            "s",
            "Only where flexmw owns the server span.",
            (
                "http.request.method",
                "url.scheme",
                "http.response.status_code",
                "error.type",
                "http.route",
                "network.protocol.version",
            ),
        ),
    )
}
