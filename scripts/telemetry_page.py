"""Generate ``docs/telemetry.md`` from the tables of ``flexmw/kit/semconv.py`` and the options of ``Tagging``.

Run ``python -m scripts.telemetry_page > docs/telemetry.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final

from flexmw import Tagging
from flexmw.kit.semconv import ATTRIBUTES, EVENTS, METRICS, SCHEMA_URL, SCOPE, SERIES
from scripts.option_docs import table

__all__ = ["page"]

_SEVERITIES: Final = {5: "DEBUG", 9: "INFO", 13: "WARN", 17: "ERROR"}

_INTRODUCTION: Final = f"""# Telemetry

Everything that `Tagging` writes. `python -m scripts.telemetry_page` writes this page; do not edit it.

Instrumentation scope `{SCOPE}`, schema `{SCHEMA_URL}`.
Only the OpenTelemetry API is needed; without an SDK nothing is opened and nothing is written. One request a second then
looks whether that has changed: an SDK that is configured late is found within a second.

Attributes go on the span of whatever instruments the host or the client. A span of flexmw's own is opened only with
`Tagging(server_span=True)` (where nothing else records) and `Tagging(call_span=True)` (one INTERNAL span `flexmw.call`
around the attempts of a call). Tagging belongs inside the host's instrument: FastAPI's own and contrib's work in any
order, Starlette's `OpenTelemetryMiddleware` goes around the wrapped app. Where no span is seen, a warning of the logger
`flexmw.tagging` says once what to do. `opentelemetry-instrument` switches Tagging on in apps and clients that are not
wrapped (`flexmw.instrument`).

A value outside a closed set becomes `_OTHER`. An open attribute of a metric takes at most as many values as stated,
then `_OTHER`. An instrument that has {SERIES} attribute sets drops its open attributes from further ones.

A client error (4xx) leaves a server span unset and makes a client span an error. An exception is recorded once: by the
host's instrument where that records it, else by flexmw, as a log event; as a span event where no logger provider is
set. `OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN=logs` forbids the latter, `logs/dup` asks for both. Messages and stacks pass
a redactor, which also removes the request's own credentials; `Tagging(exception_text=False)` leaves them out.
"""


def page() -> str:
    """The page as Markdown."""
    return "\n".join((_INTRODUCTION, *_options(), *_attributes(), *_events(), *_metrics(), ""))


def _options() -> Iterator[str]:
    yield "## Options\n"
    yield table(Tagging) + "\n"


def _attributes() -> Iterator[str]:
    yield "## Attributes\n"
    yield from _table(
        ("Name", "Type", "On", "Values", "Meaning"),
        (
            (
                f"`{each.name}`",
                each.kind,
                ", ".join(each.places),
                " ".join(f"`{value}`" for value in each.values)
                or (f"at most {each.bound} on metrics" if each.bound else "open"),
                each.meaning,
            )
            for each in ATTRIBUTES.values()
        ),
    )


def _events() -> Iterator[str]:
    yield "\n## Log events\n"
    yield from _table(
        ("Name", "Severity", "Attributes", "Meaning"),
        (
            (
                f"`{each.name}`",
                _SEVERITIES[each.severity] + (f" or {_SEVERITIES[each.quiet]}" if each.quiet else ""),
                " ".join(f"`{name}`" for name in each.attributes),
                each.meaning,
            )
            for each in EVENTS.values()
        ),
    )


def _metrics() -> Iterator[str]:
    yield "\n## Metrics\n"
    yield from _table(
        ("Name", "Kind", "Unit", "Attributes", "Meaning"),
        (
            (f"`{each.name}`", each.kind, f"`{each.unit}`", " ".join(f"`{n}`" for n in each.attributes), each.meaning)
            for each in METRICS.values()
        ),
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    sys.stdout.write(page())
