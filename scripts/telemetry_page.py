"""Generate ``docs/telemetry.md`` from the tables of ``flexmw/kit/semconv.py`` and the options of ``Tagging``.

Run ``python -m scripts.telemetry_page > docs/telemetry.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final

from flexmw import Tagging
from flexmw.kit.log_lines import LINES
from flexmw.kit.semconv import ATTRIBUTES, EVENTS, METRICS, SCHEMA_URL, SCOPE, SERIES
from scripts.option_docs import table

__all__ = ["page"]

_SEVERITIES: Final = {5: "DEBUG", 9: "INFO", 13: "WARN", 17: "ERROR"}

_INTRODUCTION: Final = f"""# Telemetry

`Tagging` writes to OpenTelemetry what flexmw has decided: which limit a request has met, why a call was retried,
whether a response is a replay. It adds attributes to the spans that an app and a client have already, and writes log
events and metrics. `flexmw.install(app)`, `flexmw.wrap_app(app)` and `flexmw.wrap_client(client)` include it; in a
list of components of your own, put `flexmw.Tagging()` first.

```python
import flexmw
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.testclient import TestClient

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))

tagging = flexmw.Tagging(server_span=True, tracer_provider=provider)  # nothing else opens a span in this program
app = flexmw.install(Starlette(), tagging, flexmw.Envelope(), flexmw.RateLimit("1/hour"))
client = TestClient(app)
assert [client.get("/models").status_code for _ in range(2)] == [404, 429]

first, refused = (span.attributes for span in spans.get_finished_spans())
assert first["flexmw.rate_limiting.result"] == "acquired"
assert first["flexmw.error.code"] == "unknown_url"
assert refused["flexmw.rate_limiting.result"] == "rejected"
assert refused["flexmw.rate_limiting.policy"] == "1/hour"
assert refused["flexmw.error.code"] == "rate_limit_exceeded"
```

This page lists everything that `Tagging` writes. `python -m scripts.telemetry_page` generates it from the tables in
`flexmw/kit/semconv.py` and the options of `Tagging`; do not edit it.

## Which span

| side | span that gets the attributes |
| --- | --- |
| server | the SERVER span of the app's instrumentation, also while the app has opened spans of its own |
| server, with `server_span=True` | a span that `Tagging` opens, where no instrumentation opens a SERVER span |
| server, a refusal (429) or a replay, which reaches no instrumented app | one span, opened by `Tagging` |
| client | the CLIENT span of the client's instrumentation |
| client, with `call_span=True` | also one INTERNAL span `flexmw.call` around the attempts of a call |

Put the instrumentation of an app around `Tagging`. The order does not matter for FastAPI's built-in telemetry and for
opentelemetry-python-contrib. Starlette's `OpenTelemetryMiddleware` must be around the wrapped app;
`FastAPIInstrumentor.instrument_app(app)` takes the app before it is wrapped. Where no span is found, the logger
`flexmw.tagging` warns once and names the remedy. `opentelemetry-instrument` adds Tagging to apps and clients that are
not wrapped (`flexmw.instrument`).

Only the OpenTelemetry API is needed. Without an SDK, no span is opened and nothing is written; one request per second
checks whether an SDK has been configured since. Exporters use `suppress_instrumentation()` or
`suppress_http_instrumentation()` for their own requests; nothing is written inside of these either.

The instrumentation scope is `{SCOPE}`, the schema `{SCHEMA_URL}`.

## How many values

A value outside a closed set becomes `_OTHER`. An open attribute of a metric takes at most the stated number of values;
further values become `_OTHER`. Beyond {SERIES} attribute sets, an instrument drops its open attributes. These bounds
hold for all components of a process that record to one meter provider. `http.route` is always a template, inside of
mounts as well.

Metrics are recorded in the context of the request's span or of `flexmw.call`, so their exemplars have a trace. A
counter is an asynchronous instrument: Tagging keeps the count, and the SDK reads it when it exports. A view that
selects counters by their class selects `ObservableCounter`.

## Streams and disconnects

An event stream can fail before its first event. Its span then has the status and the error that the client got, not the
200 that the app had begun with. FastAPI's own metric and log event say what FastAPI has seen.

Where the client leaves before a streamed response ends, `flexmw.response.outcome` is `client_disconnected`, also if the
app then ends the response in order. Whether that is an error is what the app's instrumentation says, unless
`Tagging(on_disconnect=...)` decides. A server that raises nothing in `send`, and an app that never calls `receive`,
leave a disconnect unnoticed.

## Errors and secrets

A client error (4xx) leaves the status of a server span unset, and sets the status of a client span to ERROR.

An exception is recorded once: by the instrumentation of the app where it records exceptions, else by flexmw. flexmw
writes a log event, or a span event where no logger provider is set. `OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=logs` forbids
span events, `logs/dup` requests both.

Secrets are removed from messages and stacks, the credentials of the request included: each value of its cookies, user
and password of `Basic`, every header that is named like a credential, in any case and also in part. Text that a request
with more than 512 credentials causes is left out. `Tagging(exception_text=False)` leaves messages and stacks out.
"""


_DASHBOARD: Final = """
## Dashboard and alerts

`examples/observability` has a Grafana dashboard and Prometheus rules for these metrics, with a table of the questions
that they answer. The picture shows the panels of a gateway under faults, drawn from what Prometheus replied; the panel
of streams that were cut is newer than the picture.

![The dashboard: 18 panels](dashboard.svg)
"""

_LOG_LINES: Final = """
## Logs without OpenTelemetry

Every component writes to a logger of the standard library, with or without an OpenTelemetry SDK. No line holds a key, a
token, a password or a body. WARNING and above reach standard error without any set-up; for the end of an outage and for
retries let INFO through: `logging.getLogger("flexmw").setLevel(logging.INFO)`, with a handler that does too.
"""


def page() -> str:
    """The page as Markdown text."""
    return "\n".join(
        (_INTRODUCTION, *_options(), *_attributes(), *_events(), *_metrics(), _DASHBOARD, *_log_lines(), "")
    )


def _options() -> Iterator[str]:
    yield "## Options\n"
    yield table(Tagging) + "\n"


def _attributes() -> Iterator[str]:
    yield "## Attributes\n"
    yield from _table(
        ("Name", "Type", "On", "Values", "Meaning"),
        (
            (
                f"`{row.name}`",
                row.kind,
                ", ".join(row.places),
                " ".join(f"`{value}`" for value in row.values)
                or (f"at most {row.bound} on metrics" if row.bound else "open"),
                row.meaning,
            )
            for row in ATTRIBUTES.values()
        ),
    )


def _events() -> Iterator[str]:
    yield "\n## Log events\n"
    yield from _table(
        ("Name", "Severity", "Attributes", "Meaning"),
        (
            (
                f"`{row.name}`",
                _SEVERITIES[row.severity] + (f" or {_SEVERITIES[row.quiet]}" if row.quiet else ""),
                " ".join(f"`{name}`" for name in row.attributes),
                row.meaning,
            )
            for row in EVENTS.values()
        ),
    )


def _metrics() -> Iterator[str]:
    yield "\n## Metrics\n"
    yield from _table(
        ("Name", "Kind", "Unit", "Attributes", "Meaning"),
        (
            (f"`{row.name}`", row.kind, f"`{row.unit}`", " ".join(f"`{n}`" for n in row.attributes), row.meaning)
            for row in METRICS.values()
        ),
    )


def _log_lines() -> Iterator[str]:
    yield _LOG_LINES
    yield from _table(
        ("Logger", "Level", "Line", "How often"),
        ((", ".join(f"`{name}`" for name in row.logger.split(", ")), row.level, row.event, row.bound) for row in LINES),
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    sys.stdout.write(page())
