"""Semantic conventions of flexmw: tables of every attribute, log event and metric that it writes.

Names of OpenTelemetry's stable HTTP conventions are used as they are; all other names begin with ``flexmw.``. A closed
attribute lists its values. An open attribute states how many distinct values it may take on metrics in one process, so
that the number of time series stays bounded. ``python -m scripts.telemetry_page`` writes ``docs/telemetry.md`` from the
tables, and :func:`flexmw.testing.assert_semconv` compares exported telemetry with them.

>>> ATTRIBUTES["flexmw.retry.safety"].values
('safe_method', 'idempotency_key', 'not_sent', 'refused', 'opt_in', 'none')
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
    "RATIO_BUCKETS",
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
"""The value that stands for every value outside a closed set, as in the semantic conventions."""

SERIES: Final = 500
"""Attribute sets per instrument; beyond that number, it drops its open attributes. The limit of the SDK is 2000."""

RATIO_BUCKETS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Bucket boundaries of relative errors: 0.1 is ten percent."""

DURATION_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Bucket boundaries in seconds that the semantic conventions advise for durations of HTTP requests."""

Kind: TypeAlias = Literal["string", "int", "double"]
Place: TypeAlias = Literal["server span", "client span", "call span", "event", "metric"]


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of spans, log events or metrics.

    :param places: what the attribute is written on.
    :param values: all values of a closed attribute; empty for an open one.
    :param bound: how many distinct values an open attribute may take on metrics; ``None`` keeps it off metrics.
    """

    name: str
    kind: Kind
    meaning: str
    places: tuple[Place, ...]
    values: tuple[str, ...] = ()
    bound: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A log record with an event name.

    :param severity: OpenTelemetry's severity number.
    :param quiet: a lower severity number, for a failure that this process did not cause: the client has disconnected,
        or only the method forbids a retry.
    """

    name: str
    severity: int
    meaning: str
    attributes: tuple[str, ...]
    quiet: int | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric instrument.

    :param kind: the instrument; a ``gauge`` is observed when metrics are collected.
    :param unit: a UCUM unit, such as ``s``, ``1`` (a ratio) or ``{request}``.
    :param attributes: the names of its attributes, in the order in which Tagging gives their values.
    """

    name: str
    kind: Literal["counter", "histogram", "updowncounter", "gauge"]
    unit: str
    meaning: str
    attributes: tuple[str, ...]


_CONTRACT: Final = (*PAGE.values(), *STATUS.values())
_IDEMPOTENCY_CODES: Final = (
    "idempotency_answer_not_kept",
    "idempotency_ended",
    "idempotency_in_progress",
    "idempotency_key_invalid",
    "idempotency_key_required",
    "idempotency_key_reused",
    "idempotency_stream_changed",
    "idempotency_stream_gone",
    "idempotency_stream_invalid",
    "idempotency_unknown",
)
_ENVELOPE_CODES: Final = ("invalid_json", "unknown_url")

TYPES: Final = tuple(sorted({*(row.type for row in _CONTRACT), OTHER}))
"""The values of ``flexmw.error.type``."""

CODES: Final = tuple(sorted({*(row.code for row in _CONTRACT), *_IDEMPOTENCY_CODES, *_ENVELOPE_CODES, OTHER}))
"""The values of ``flexmw.error.code``: the contract's, and those that Idempotency and Envelope add. This module cannot
import the two, so ``tests/kit/test_semconv.py`` compares the lists with their code."""

_METHODS: Final = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE", OTHER)
_LIMIT_RESULTS: Final = (
    "acquired",
    "rejected",
    "shadow_rejected",
    "bypassed",
    "storage_error_allowed",
    "storage_error_rejected",
)
_S: Final[tuple[Place, ...]] = ("server span",)
_SM: Final[tuple[Place, ...]] = ("server span", "metric")
_GEN_AI: Final[tuple[Place, ...]] = ("server span", "client span", "call span")
_GEN_AI_RESPONSE: Final[tuple[Place, ...]] = ("server span", "call span")
_EVERYWHERE: Final[tuple[Place, ...]] = ("server span", "client span", "call span", "event", "metric")

ATTRIBUTES: Final = {
    row.name: row
    for row in (
        Attribute(
            "flexmw.error.type",
            "string",
            "The error object's `type`: a value of the contract or a declared one.",
            _EVERYWHERE,
            TYPES,
        ),
        Attribute(
            "flexmw.error.code",
            "string",
            "The error object's `code`: a value of the contract, a declared one or `http_NNN`.",
            _EVERYWHERE,
            CODES,
        ),
        Attribute(
            "flexmw.error.source",
            "string",
            "What decided on an error response.",
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
            "What the limiter decided. `shadow_rejected`: `RateLimit(shadow=True)` would have refused the request.",
            ("server span", "event", "metric"),
            (*_LIMIT_RESULTS, OTHER),
        ),
        Attribute(
            "flexmw.rate_limiting.policy",
            "string",
            "The policy that decided.",
            ("server span", "event", "metric"),
            bound=20,
        ),
        Attribute(
            "flexmw.rate_limiting.limit",
            "int",
            "What the policy allows in its window: requests, tokens, or millionths of a unit such as `usd`.",
            _S,
        ),
        Attribute("flexmw.rate_limiting.remaining", "int", "What is left of it.", _S),
        Attribute("flexmw.rate_limiting.retry_after", "double", "Seconds until a rejected caller may return.", _S),
        Attribute(
            "flexmw.rate_limiting.key_hash",
            "string",
            "Keyed hash of the caller, 16 characters; with `Tagging(key_hash=True)`, on metrics with `hot_callers`.",
            _SM,
            bound=500,
        ),
        Attribute(
            "flexmw.rate_limiting.settlement",
            "string",
            "On what `RateLimit(usage=...)` has based the charge of a request. `usage`: the response has reported it; "
            "`reported`: the app has called `settle`; `counted`: a stream without usage, by its events; `estimate`: "
            "nothing is known, the estimate stands; `replayed`, `failed`: nothing is charged.",
            _SM,
            ("usage", "reported", "counted", "estimate", "replayed", "failed", OTHER),
        ),
        Attribute(
            "flexmw.rate_limiting.estimate.direction",
            "string",
            "Whether the estimate was above or below what was used.",
            ("metric",),
            ("above", "below", "exact"),
        ),
        Attribute(
            "flexmw.response.outcome",
            "string",
            "How a streamed response ended. On a call: `cancelled` where its task was, `abandoned` where the caller "
            "closed the body before its end; on metrics these two alone, and only where a response has begun.",
            ("server span", "call span", "metric"),
            ("complete", "failed", "client_disconnected", "cancelled", "abandoned"),
        ),
        Attribute(
            "flexmw.request.retry_count", "int", "Retries before this request, as the SDK states them, 0 to 100.", _S
        ),
        Attribute(
            "flexmw.idempotency.result",
            "string",
            "What the idempotency key led to.",
            _SM,
            (
                "stored",
                "replayed",
                "attached",
                "released",
                "conflict",
                "in_progress",
                "unknown",
                "required",
                "invalid",
                "unauthenticated",
                "overloaded",
                "store_error",
                OTHER,
            ),
        ),
        Attribute(
            "flexmw.idempotency.credential",
            "string",
            "`changed`: another credential of the same address has had this key and request executed.",
            _S,
            ("changed",),
        ),
        Attribute(
            "flexmw.retry.safety",
            "string",
            "Why a retry cannot do the work twice: `refused` where the server has refused the attempt (429), "
            "`not_sent` where nothing has left; `none` where it could.",
            ("client span", "call span", "event", "metric"),
            ("safe_method", "idempotency_key", "not_sent", "refused", "opt_in", "none"),
        ),
        Attribute("flexmw.retry.delay", "double", "Seconds until the next attempt.", ("event",)),
        Attribute(
            "flexmw.retry.delay_source",
            "string",
            "Where the delay comes from.",
            ("event", "metric"),
            ("retry_after", "backoff", OTHER),
        ),
        Attribute(
            "flexmw.retry.stop_reason",
            "string",
            "Why a failed call was not retried, or a streamed response not continued.",
            ("call span", "event", "metric"),
            (
                "unsafe_method",
                "status",
                "attempts_exhausted",
                "deadline",
                "retry_after_too_long",
                "body_not_replayable",
                "signature_used",
                "insufficient_quota",
                "key_not_honoured",
                "budget",
                "local_error",
                "cancelled",
                "handed_back",
                "body_broken",
                "client_closed",
                "given_back_before",
                "stream_lost",
                "stream_gone",
                "stream_changed",
                "stream_differs",
                "stream_too_large",
                "resume_exhausted",
                OTHER,
            ),
        ),
        Attribute(
            "flexmw.retry.attempts", "int", "Attempts of a call; 0 where nothing was sent this time.", ("call span",)
        ),
        Attribute(
            "flexmw.fallback.upstream",
            "string",
            "Scheme, host and port of the upstream that a call was sent to after another one, with the plugin "
            "flexmw-fallback; on a call the upstream that the caller has the response or the error of.",
            ("client span", "call span", "event"),
        ),
        Attribute(
            "flexmw.fallback.from",
            "string",
            "The upstream that the call was sent to, or meant for, before.",
            ("event",),
        ),
        Attribute(
            "flexmw.fallback.reason",
            "string",
            "Why the call goes to another upstream: a status, the class of an error, or `cooling`.",
            ("event",),
        ),
        Attribute(
            "flexmw.call.outcome",
            "string",
            "What is known of the work of a call. `ambiguous`: it may have been done, and paid for, although the call "
            "has failed. `given_back_before`: an SDK has repeated an ambiguous call, and nothing was sent. "
            "`cancelled`: the caller has left.",
            ("metric",),
            ("answered", "refused", "unsent", "ambiguous", "given_back_before", "cancelled", OTHER),
        ),
        Attribute("flexmw.wait.component", "string", "What has delayed a call.", ("metric",), ("retry", "pace", OTHER)),
        Attribute(
            "flexmw.wait.reason",
            "string",
            "Why a call was delayed. Retry: `retry_after`, the server named the wait; `backoff`. Pace: `limit`, until "
            "the server admits more; `first_response`, until the limit is known.",
            ("metric",),
            ("retry_after", "backoff", "limit", "first_response", OTHER),
        ),
        Attribute(
            "flexmw.store.component",
            "string",
            "The component whose store was asked.",
            ("metric",),
            ("ratelimit", "idempotency", "pace", OTHER),
        ),
        Attribute(
            "flexmw.store.operation",
            "string",
            "What the store was asked for.",
            ("metric",),
            ("decide", "refund", "renew", "release", "load", "swap", "extend", "drop", "append", "read", OTHER),
        ),
        Attribute(
            "error.type",
            "string",
            "Status as text, exception class, `incomplete_response` or `client_disconnected`.",
            _EVERYWHERE,
            bound=60,
        ),
        Attribute(
            "gen_ai.operation.name", "string", "The operation, such as `chat`; with `Tagging(gen_ai=True)`.", _GEN_AI
        ),
        Attribute("gen_ai.provider.name", "string", "The provider by the host, else by the form of the API.", _GEN_AI),
        Attribute("gen_ai.request.model", "string", "The model that was asked for.", _GEN_AI),
        Attribute("gen_ai.response.model", "string", "The model that has responded.", _GEN_AI_RESPONSE),
        Attribute("gen_ai.usage.input_tokens", "int", "Input tokens, cached ones included.", _GEN_AI_RESPONSE),
        Attribute("gen_ai.usage.output_tokens", "int", "Output tokens.", _GEN_AI_RESPONSE),
        Attribute("exception.type", "string", "The exception's class.", ("event",)),
        Attribute("exception.message", "string", "The exception's message, secrets removed.", ("event",)),
        Attribute("exception.stacktrace", "string", "The exception's stack, secrets removed.", ("event",)),
        Attribute("http.request.method", "string", "The method.", ("server span", "event", "metric"), _METHODS),
        Attribute("http.request.method_original", "string", "A method that the semantic conventions do not list.", _S),
        Attribute(
            "http.request.resend_count",
            "int",
            "Resends before and including this attempt: 1, 2, ...; not on the first attempt.",
            ("client span", "event"),
        ),
        Attribute(
            "http.response.status_code",
            "int",
            "The status, if one was sent or received.",
            ("server span", "metric"),
            bound=60,
        ),
        Attribute("http.route", "string", "The matched route.", ("server span", "event", "metric"), bound=200),
        Attribute("server.address", "string", "The called host.", ("server span", "event", "metric"), bound=100),
        Attribute("server.port", "int", "The port of the host.", _S),
        Attribute("url.scheme", "string", "The scheme.", _SM, ("http", "https", "ws", "wss", OTHER)),
        Attribute("url.path", "string", "The path.", _S),
        Attribute("url.query", "string", "The query, secrets removed.", _S),
        Attribute("client.address", "string", "The peer's address.", _S),
        Attribute("user_agent.original", "string", "The user agent.", _S),
        Attribute("network.protocol.name", "string", "Of a websocket.", _S, ("websocket",)),
        Attribute("network.protocol.version", "string", "Such as `1.1`.", _SM, bound=5),
    )
}

_EXCEPTION: Final = ("exception.type", "exception.message", "exception.stacktrace")
DEBUG, INFO, WARN, ERROR = 5, 9, 13, 17

EVENTS: Final = {
    row.name: row
    for row in (
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
            "A call has failed; once, after all its attempts.",
            (*_EXCEPTION, "server.address", "http.request.method"),
        ),
        Event(
            "flexmw.retry.scheduled",
            DEBUG,
            "An attempt has failed and another one will be made.",
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
            "An attempt has failed and none will follow. INFO where only the method forbids a retry.",
            ("flexmw.retry.stop_reason", "flexmw.retry.safety", "error.type"),
            quiet=INFO,
        ),
        Event(
            "flexmw.fallback.switched",
            WARN,
            "A call goes to another upstream, with the plugin flexmw-fallback.",
            ("flexmw.fallback.from", "flexmw.fallback.upstream", "flexmw.fallback.reason"),
        ),
        Event(
            "flexmw.rate_limiting.storage_failed",
            WARN,
            "The limiter's store did not respond.",
            (*_EXCEPTION, "flexmw.rate_limiting.policy", "flexmw.rate_limiting.result"),
        ),
        Event("flexmw.idempotency.store_failed", WARN, "The store of idempotency keys did not respond.", _EXCEPTION),
    )
}

METRICS: Final = {
    row.name: row
    for row in (
        Metric(
            "flexmw.rate_limiting.requests",
            "counter",
            "{request}",
            "Requests that a limiter has decided on.",
            ("flexmw.rate_limiting.result", "flexmw.rate_limiting.policy", "http.route"),
        ),
        Metric(
            "flexmw.rate_limiting.check.duration",
            "histogram",
            "s",
            "Duration of a limiter's decision.",
            ("flexmw.rate_limiting.policy", "error.type"),
        ),
        Metric(
            "flexmw.rate_limiting.settlements",
            "counter",
            "{request}",
            "Requests whose charge `RateLimit(usage=...)` has settled.",
            ("flexmw.rate_limiting.settlement", "flexmw.rate_limiting.policy"),
        ),
        Metric(
            "flexmw.rate_limiting.estimate.error",
            "histogram",
            "1",
            "Relative error of the estimates of `RateLimit(token_cost=...)`: the distance from what was used, divided "
            "by it.",
            ("flexmw.rate_limiting.estimate.direction", "flexmw.rate_limiting.policy"),
        ),
        Metric(
            "flexmw.server.error_responses",
            "counter",
            "{response}",
            "Error responses, by their error object.",
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
            ("flexmw.idempotency.result", "http.route"),
        ),
        Metric(
            "flexmw.idempotency.changed_credentials",
            "counter",
            "{request}",
            "Executed requests whose key and body another credential of the same address has used.",
            ("flexmw.idempotency.result",),
        ),
        Metric(
            "flexmw.client.operation.duration",
            "histogram",
            "s",
            "Duration of a call, with all attempts, waits and the body.",
            (
                "http.request.method",
                "server.address",
                "http.response.status_code",
                "error.type",
                "flexmw.response.outcome",
            ),
        ),
        Metric(
            "flexmw.client.retries",
            "counter",
            "{retry}",
            "Attempts after the first.",
            ("flexmw.retry.delay_source", "error.type", "server.address"),
        ),
        Metric(
            "flexmw.client.retry_stops",
            "counter",
            "{operation}",
            "Failed calls that were not retried.",
            ("flexmw.retry.stop_reason", "flexmw.retry.safety", "server.address"),
        ),
        Metric(
            "flexmw.client.outcomes",
            "counter",
            "{operation}",
            "Calls, by what is known of their work.",
            ("flexmw.call.outcome", "flexmw.retry.stop_reason", "server.address"),
        ),
        Metric(
            "flexmw.client.requests",
            "counter",
            "{request}",
            "Requests that were sent: each attempt of a call whose head has left.",
            ("http.request.method", "server.address"),
        ),
        Metric(
            "flexmw.client.wait.duration",
            "histogram",
            "s",
            "Time for which a component has delayed a call, in total.",
            ("flexmw.wait.component", "flexmw.wait.reason", "server.address"),
        ),
        Metric(
            "flexmw.client.stream_cuts",
            "counter",
            "{cut}",
            "Cuts of a streamed response that Retry has tried to continue.",
            ("error.type", "server.address"),
        ),
        Metric(
            "flexmw.client.stream_gap.duration",
            "histogram",
            "s",
            "Time from a cut until the streamed response goes on; its count is the number of resumptions.",
            ("server.address",),
        ),
        Metric(
            "flexmw.client.stream_losses",
            "counter",
            "{stream}",
            "Streamed responses that were cut and could not be continued.",
            ("flexmw.retry.stop_reason", "server.address"),
        ),
        Metric(
            "flexmw.store.operation.duration",
            "histogram",
            "s",
            "Duration of an operation on a store over a network or in a file, as its component has waited for it.",
            ("flexmw.store.component", "flexmw.store.operation", "error.type"),
        ),
        Metric(
            "flexmw.rate_limiting.slots",
            "updowncounter",
            "{slot}",
            "Slots of `RateLimit(concurrency=...)` that are in use, by requests of this process.",
            ("flexmw.rate_limiting.policy",),
        ),
        Metric(
            "flexmw.rate_limiting.hot_callers",
            "gauge",
            "{request}",
            "Requests of the callers with the most requests in the last minute, with `Tagging(hot_callers=...)`.",
            ("flexmw.rate_limiting.key_hash",),
        ),
        Metric(
            "flexmw.server.requests",
            "counter",
            "{request}",
            "Requests that the app has finished: the total for ratios.",
            ("http.response.status_code", "http.route"),
        ),
        Metric(
            "http.server.request.duration",
            "histogram",
            "s",
            "Duration of a request; only where flexmw has opened the server span.",
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
