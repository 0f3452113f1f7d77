"""The panels of the dashboard, as a table: `python -m examples.observability.panels` writes `dashboard.json`.

Each panel answers a question that somebody asks at night. A counter of Prometheus has no value before its first event:
`rate` and `increase` miss the first event of a series. Where the first one matters, the query adds it (`first`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["FILE", "PANELS", "Panel", "dashboard", "first"]

FILE = Path(__file__).parent / "dashboard.json"
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3


class Panel(NamedTuple):
    """One panel.

    :param question: what it answers.
    :param unit: Grafana's unit of the values.
    :param queries: PromQL, each with the legend of its series.
    """

    title: str
    question: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def first(series: str, by: str, window: str) -> str:
    """The increase of a counter, the first event of a series included."""
    increase, new = f"increase({series}[{window}])", f"({series} unless {series} offset {window})"
    return f"sum by ({by}) ({increase} > 0 or {new})"


_RATE = "$__rate_interval"
_FAULTS = 'flexmw_server_error_responses_total{http_response_status_code=~"5.."}'
_CHECK = "flexmw_rate_limiting_check_duration_seconds_bucket"
_ESTIMATE = "flexmw_rate_limiting_estimate_error_bucket"
_CALL = "flexmw_client_operation_duration_seconds"
_GAP = "flexmw_client_stream_gap_duration_seconds"
_STORE = "flexmw_store_operation_duration_seconds"

PANELS = (
    Panel(
        "Share of requests that fail",
        "Is the service down? Errors of the server's side (5xx) by all requests.",
        "percentunit",
        ((f"sum(rate({_FAULTS}[{_RATE}])) / sum(rate(flexmw_server_requests_total[{_RATE}]))", "5xx"),),
    ),
    Panel(
        "Error responses by code",
        "What do clients get?",
        "reqps",
        (
            (
                f"sum by (flexmw_error_code) (rate(flexmw_server_error_responses_total[{_RATE}]))",
                "{{flexmw_error_code}}",
            ),
        ),
    ),
    Panel(
        "Server faults by source",
        "Whose fault is it: the app, an upstream, the limiter?",
        "reqps",
        ((f"sum by (flexmw_error_source) (rate({_FAULTS}[{_RATE}]))", "{{flexmw_error_source}}"),),
    ),
    Panel(
        "Ambiguous calls (money) by upstream",
        "How many calls failed whose work may have been done and paid for?",
        "short",
        (
            (
                first('flexmw_client_outcomes_total{flexmw_call_outcome="ambiguous"}', "server_address", _RATE),
                "{{server_address}}",
            ),
        ),
    ),
    Panel(
        "Calls and the requests that were sent for them",
        "How often was it really sent? A repetition that was not sent is in neither line.",
        "reqps",
        (
            (
                'sum(rate(flexmw_client_outcomes_total{flexmw_call_outcome!="given_back_before"}[' + _RATE + "]))",
                "calls",
            ),
            (f"sum(rate(flexmw_client_requests_total[{_RATE}]))", "requests sent"),
        ),
    ),
    Panel(
        "Calls that failed, by upstream",
        "Which upstream fails, and how?",
        "reqps",
        (
            (
                (
                    f'sum by (server_address, error_type) (rate({_CALL}_count{{error_type!="",'
                    f'error_type!="given_back_before"}}[{_RATE}]))'
                ),
                "{{server_address}} {{error_type}}",
            ),
        ),
    ),
    Panel(
        "Time that calls wait, by reason",
        "For how long were calls held back, by Retry or by Pace, and why?",
        "s",
        (
            (
                (
                    "sum by (flexmw_wait_component, flexmw_wait_reason) "
                    f"(rate(flexmw_client_wait_duration_seconds_sum[{_RATE}]))"
                ),
                "{{flexmw_wait_component}}: {{flexmw_wait_reason}}",
            ),
        ),
    ),
    Panel(
        "Calls: duration with all attempts and waits",
        "How long do callers wait?",
        "s",
        (
            (f"histogram_quantile(0.5, sum by (le) (rate({_CALL}_bucket[{_RATE}])))", "p50"),
            (f"histogram_quantile(0.95, sum by (le) (rate({_CALL}_bucket[{_RATE}])))", "p95"),
        ),
    ),
    Panel(
        "Retries, by upstream",
        "What is tried again, and who named the wait?",
        "reqps",
        (
            (
                (
                    "sum by (server_address, error_type, flexmw_retry_delay_source) "
                    f"(rate(flexmw_client_retries_total[{_RATE}]))"
                ),
                "{{server_address}} {{error_type}} ({{flexmw_retry_delay_source}})",
            ),
        ),
    ),
    Panel(
        "Why calls were not sent again",
        "What stops a retry?",
        "reqps",
        (
            (
                (
                    "sum by (flexmw_retry_stop_reason, flexmw_retry_safety) "
                    f"(rate(flexmw_client_retry_stops_total[{_RATE}]))"
                ),
                "{{flexmw_retry_stop_reason}} / {{flexmw_retry_safety}}",
            ),
        ),
    ),
    Panel(
        "Streams that were cut, by upstream",
        "Whose streams break, do they go on, and why not?",
        "short",
        (
            (first("flexmw_client_stream_cuts_total", "server_address", _RATE), "{{server_address}} cut"),
            (first(f"{_GAP}_count", "server_address", _RATE), "{{server_address}} resumed"),
            (
                first("flexmw_client_stream_losses_total", "server_address, flexmw_retry_stop_reason", _RATE),
                "{{server_address}} lost: {{flexmw_retry_stop_reason}}",
            ),
        ),
    ),
    Panel(
        "Stores: errors",
        "Which store is lost: the limiter's, the keys', Pace's?",
        "ops",
        (
            (
                f'sum by (flexmw_store_component, error_type) (rate({_STORE}_count{{error_type!=""}}[{_RATE}]))',
                "{{flexmw_store_component}} {{error_type}}",
            ),
        ),
    ),
    Panel(
        "Stores: time of an operation (p99)",
        "Which store is slow?",
        "s",
        (
            (
                f"histogram_quantile(0.99, sum by (le, flexmw_store_component) (rate({_STORE}_bucket[{_RATE}])))",
                "{{flexmw_store_component}}",
            ),
        ),
    ),
    Panel(
        "Limiter decisions",
        "Who is refused? `shadow_rejected` is a refusal that nobody got.",
        "reqps",
        (
            (
                f"sum by (flexmw_rate_limiting_result) (rate(flexmw_rate_limiting_requests_total[{_RATE}]))",
                "{{flexmw_rate_limiting_result}}",
            ),
        ),
    ),
    Panel(
        "Time of a limiter decision",
        "Does the limiter slow requests down?",
        "s",
        (
            (f"histogram_quantile(0.5, sum by (le) (rate({_CHECK}[{_RATE}])))", "p50"),
            (f"histogram_quantile(0.99, sum by (le) (rate({_CHECK}[{_RATE}])))", "p99"),
        ),
    ),
    Panel(
        "Slots in use",
        "How many requests are going on under a limit of concurrent ones?",
        "short",
        (("sum by (flexmw_rate_limiting_policy) (flexmw_rate_limiting_slots)", "{{flexmw_rate_limiting_policy}}"),),
    ),
    Panel(
        "Settlements of tokens",
        "What are callers charged by? `estimate` and `counted`: a response has not said what it has used.",
        "reqps",
        (
            (
                f"sum by (flexmw_rate_limiting_settlement) (rate(flexmw_rate_limiting_settlements_total[{_RATE}]))",
                "{{flexmw_rate_limiting_settlement}}",
            ),
        ),
    ),
    Panel(
        "Error of token estimates",
        "How far are the estimates off? 1 is as much again as was used.",
        "percentunit",
        (
            (f"histogram_quantile(0.5, sum by (le) (rate({_ESTIMATE}[{_RATE}])))", "p50"),
            (f"histogram_quantile(0.99, sum by (le) (rate({_ESTIMATE}[{_RATE}])))", "p99"),
        ),
    ),
    Panel(
        "Hot callers (requests a minute)",
        "Who sends the most? By hash: no key leaves the process.",
        "short",
        (
            (
                "topk(10, sum by (flexmw_rate_limiting_key_hash) (flexmw_rate_limiting_hot_callers))",
                "{{flexmw_rate_limiting_key_hash}}",
            ),
        ),
    ),
    Panel(
        "Idempotency keys",
        "What do keys lead to?",
        "reqps",
        (
            (
                f"sum by (flexmw_idempotency_result) (rate(flexmw_idempotency_requests_total[{_RATE}]))",
                "{{flexmw_idempotency_result}}",
            ),
        ),
    ),
    Panel(
        "Keys in doubt, by route",
        "Conflicts, unknown outcomes and store errors. Requests that are refused before routing have no route.",
        "short",
        (
            (
                first(
                    'flexmw_idempotency_requests_total{flexmw_idempotency_result=~"conflict|unknown|store_error"}',
                    "http_route, flexmw_idempotency_result",
                    _RATE,
                ),
                "{{http_route}} {{flexmw_idempotency_result}}",
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "title": "flexmw",
        "uid": "flexmw",
        "schemaVersion": 41,
        "tags": ["flexmw"],
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}]
        },
        "panels": [
            {
                "id": number + 1,
                "type": "timeseries",
                "title": panel.title,
                "description": panel.question,
                "datasource": source,
                "gridPos": {
                    "h": _HEIGHT,
                    "w": _WIDTH,
                    "x": _WIDTH * (number % _COLUMNS),
                    "y": _HEIGHT * (number // _COLUMNS),
                },
                "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
                "targets": [
                    {"refId": chr(65 + place), "datasource": source, "expr": query, "legendFormat": legend}
                    for place, (query, legend) in enumerate(panel.queries)
                ],
            }
            for number, panel in enumerate(PANELS)
        ],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(dashboard(), indent=2) + "\n", "utf-8")
