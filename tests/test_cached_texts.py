"""Caches whose keys are foreign texts are bounded in bytes, not only in entries.

The promise in SECURITY.md: "No unbounded memory, time or file for any input".
"""

from __future__ import annotations

import flexmw
from flexmw.kit.exchange import ErrorOutcome
from flexmw.kit.forwarded import Proxies, _parse_short
from flexmw.kit.semconv import METRICS, OTHER
from flexmw.tagging.cardinality import Bounds, Series
from flexmw.tagging.server_span import _address_of, _authority

LONG = "x" * 60_000


def test_a_host_header_that_is_no_host_is_neither_used_nor_cached() -> None:
    before = _authority.cache_info().currsize
    assert _address_of(LONG, "http") == (None, None)
    assert _authority.cache_info().currsize == before
    assert _address_of("api.example:8080", "http") == ("api.example", 8080)


def test_the_codes_of_an_error_are_cached_only_while_they_are_short() -> None:
    settings = flexmw.Tagging()._settings
    short = ErrorOutcome(400, "invalid_request_error", "not_found")
    assert settings.attributes_of(short) is settings.attributes_of(short)
    long = ErrorOutcome(400, LONG, LONG)
    assert settings.attributes_of(long) is not settings.attributes_of(long)
    assert settings.attributes_of(long)["flexmw.error.code"] == OTHER


def test_a_long_value_of_an_open_attribute_becomes_other_and_is_not_kept() -> None:
    metric = METRICS["flexmw.server.error_responses"]
    bounds = Bounds()
    name = next(name for name in metric.attributes if name not in ("flexmw.error.type", "flexmw.error.code"))
    assert bounds.admit(name, LONG) in (OTHER, None, LONG)
    series = Series(metric, bounds)
    values = (LONG, LONG, *[None] * (len(metric.attributes) - 2))
    assert series.of(values) is not series.of(values)


def test_a_forwarded_hop_that_is_no_address_is_refused_and_not_cached() -> None:
    proxies = Proxies(["10.0.0.0/8"])
    before = _parse_short.cache_info().currsize
    for number in range(20):
        headers = [(b"x-forwarded-for", f"2001:db8::{number}%{LONG}".encode())]
        assert proxies.client({"client": ("10.0.0.1", 1), "headers": headers}) == "10.0.0.1"
        assert proxies.client({"client": (f"{number}" * 500, 1), "headers": []}) is None
    assert _parse_short.cache_info().currsize <= before + 1
