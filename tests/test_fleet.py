"""The calculation of a fleet of gateways, which docs/performance.md shows, keeps the laws that it stands on."""

from __future__ import annotations

import pytest

from benchmarks.fleet import Fleet, Inputs, active_keys, demands, load_of, report_of

FLEET = Fleet(gateways=100, keys=1e6, rate=1e4)


def test_the_keys_and_their_requests_add_up_to_the_scenario() -> None:
    every = list(demands(FLEET))
    assert sum(demand.keys for demand in every) == pytest.approx(FLEET.keys, rel=1e-5)
    assert sum(demand.keys * demand.rate for demand in every) == pytest.approx(FLEET.rate)


def test_each_limit_is_at_least_twice_the_mean_rate() -> None:
    assert all(demand.limit >= 2 * demand.rate * 60 for demand in demands(FLEET))


def test_each_decision_is_a_command_without_leases() -> None:
    assert load_of(FLEET, serving=100, leases=False).commands == pytest.approx(FLEET.rate)


def test_leases_save_more_the_fewer_gateways_serve_a_key() -> None:
    saved = [load_of(FLEET, serving=serving, leases=True).local for serving in (100, 10, 1)]
    assert 0 < saved[0] < saved[1] < saved[2] < 1


def test_a_share_too_small_for_a_block_saves_nothing() -> None:
    load = load_of(Fleet(gateways=100, keys=1e6, rate=1e4, share=1e-9), serving=100, leases=True)
    assert load.local == pytest.approx(0.0)
    assert load.leased == 0.0


def test_more_keys_are_active_in_a_longer_time_and_never_more_than_there_are() -> None:
    assert active_keys(FLEET, 60) < active_keys(FLEET, 3600) <= FLEET.keys
    assert active_keys(FLEET, 1e9) == pytest.approx(FLEET.keys, rel=1e-5)


def test_the_report_shows_what_was_measured_in_the_run() -> None:
    report = report_of(FLEET, Inputs(key_bytes=200, command_bytes=300, redis_us=10.0, stored_bytes=1_000))
    assert "200 bytes a key, 300 bytes a command on the wire, 10.0 us" in report.tables[0].note
    assert report.tables[0].rows[0][2:5] == ["10,000", "0.1", "3"]
    assert set(report.figures) == {"fleet.saved.100", "fleet.saved.10", "fleet.saved.1"}
