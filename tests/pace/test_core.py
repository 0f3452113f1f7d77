"""The pure core of Pace: whatever the server counts with and however late responses arrive, no request is refused."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexmw.contract import HeaderStyle
from flexmw.pace.core import PaceState
from flexmw.pace.redis import dump, load
from flexmw.pace.window import POLL, WindowEstimate
from tests.pace.simulation import SERVERS, Simulation
from tests.pace.states import reading_of, turn

DIALECTS: list[HeaderStyle] = ["openai", "seed", "ietf"]


@pytest.mark.no_cover
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("rate", ["10/second", "10/minute", "1/second", "100/minute"])
def test_a_burst_over_ten_windows_takes_ten_windows(server: str, rate: str) -> None:
    simulation = Simulation(server, rate, start=3.25)
    limit, window = int(rate.partition("/")[0]), 60.0 if rate.endswith("minute") else 1.0
    simulation.run([0.0] * (10 * limit))
    assert len(simulation.counted) == 10 * limit
    # Nine windows follow the first; a sliding window frees its last request shortly before the next one ends.
    # Each window may begin late by two latencies, a poll and a margin.
    late = 10 * (0.03 + 0.001 * window)
    took = simulation.counted[-1] - simulation.counted[0]
    assert took <= 10 * window - (window / limit if limit > 1 else window) + late


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_reset_in_whole_seconds_costs_one_second_per_window(server: str, dialect: HeaderStyle) -> None:
    simulation = Simulation(server, "10/minute", dialect=dialect, start=3.25)
    simulation.run([0.0] * 100)
    # A countdown in whole seconds shows the end of a window too inexactly to recognise a sliding window counter.
    twice = dialect == "ietf" and "sliding" in server
    assert simulation.counted[-1] <= (19 if twice else 10) * 61.0


@st.composite
def workloads(draw: st.DrawFn) -> tuple[Simulation, list[float]]:
    """Latencies of any scale against the window, heavy tails, bursts, slow streams, lost responses, other clocks."""
    limit, window = draw(st.sampled_from([1, 2, 3, 5, 10, 20])), draw(st.sampled_from([1, 2, 10, 60]))
    scale = draw(st.sampled_from([0.0005, 0.005, 0.05, 0.3, 1.0])) * draw(st.sampled_from([1, window]))
    tail, random = draw(st.sampled_from([1, 10])), Random(draw(st.integers(0, 2**32)))

    def latency() -> float:
        return min(25.0, random.expovariate(1 / scale) * (tail if random.random() < 0.1 else 1) + 1e-4)

    server, dated = draw(st.sampled_from(sorted(SERVERS))), draw(st.booleans())
    # Clock-aligned windows whose first one is entered in the middle: only further responses show their length.
    losing = 0.0 if "clock" in server else draw(st.sampled_from([0.0, 0.0, 0.1]))
    simulation = Simulation(
        server,
        f"{limit}/{window} second",
        draw(st.sampled_from(DIALECTS)),
        up=latency,
        down=latency,
        fails=lambda: random.random() < losing,
        dated=dated,
        ahead=draw(st.floats(-30, 30)) if dated else 0.0,
        start=draw(st.floats(0, 100)),
        poll=min(scale, window / 20),
    )
    gap = draw(st.sampled_from([0.0, 0.3, 0.8, 1.0, 1.5, 5.0])) * window / limit
    calls, at = [], 0.0
    for _ in range(draw(st.integers(2, 5 * limit + 10))):
        at += random.expovariate(1 / gap) if gap else 0.0
        calls.append(at)
    return simulation, calls


@settings(max_examples=300)
@given(workloads())
def test_no_request_is_refused_and_every_request_is_sent(workload: tuple[Simulation, list[float]]) -> None:
    simulation, calls = workload
    simulation.run(calls)
    assert len(simulation.counted) == len(calls)


def test_responses_out_of_order_only_lower_the_remaining_quota() -> None:
    state = PaceState(patience=5.0)
    first = state.start(0.0)
    state.finish(first, now=0.1, reading=reading_of(5, 4, 60.0))
    flights = [state.start(0.2) for _ in range(4)]
    assert state.wait(0.2) > 50
    for flight, remaining in zip(flights, (0, 3, 1, 2), strict=True):
        state.finish(flight, now=0.4, reading=reading_of(5, remaining, 59.8))
    assert state.wait(0.5) > 50


def test_requests_that_may_be_counted_after_a_response_reduce_its_remaining() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.1, reading=reading_of(5, 4, 60.0))
    early, _, _ = state.start(0.2), state.start(0.2), state.start(0.2)
    state.finish(early, now=0.3, reading=reading_of(5, 3, 59.9))
    assert state.wait(0.3) == 0.0
    state.start(0.3)
    assert state.wait(0.3) > 50


def test_requests_wait_for_the_first_response_no_longer_than_patience() -> None:
    state = PaceState(patience=2.0)
    state.start(0.0)
    assert state.wait(1.9) == POLL
    assert state.wait(2.1) == 0.0
    state.start(2.1)
    assert state.wait(2.2) == POLL


def test_headers_without_a_limit_number_are_enough() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.1, reading=reading_of(0, 2, 10.0))
    for _ in range(2):
        assert state.wait(0.2) == 0.0
        state.start(0.2)
    assert state.wait(0.2) == pytest.approx(9.9, abs=0.02)


def test_after_a_reset_one_probe_is_sent_and_other_requests_wait_for_its_response() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0, reading=reading_of(2, 0, 10.0))
    assert state.wait(9.99) > 0
    assert state.wait(10.01) == 0.0
    flight = state.start(10.01)
    assert state.wait(10.01) == POLL
    state.finish(flight, now=10.02, reading=reading_of(2, 1, 10.0))
    assert state.wait(10.03) == 0.0


def test_an_unsent_request_gives_its_quota_back() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0, reading=reading_of(2, 1, 10.0))
    flight = state.start(0.1)
    assert state.wait(0.1) > 9
    state.fail(flight, now=0.2, unsent=True)
    assert state.wait(0.2) == 0.0


def test_a_probe_that_was_not_sent_may_be_sent_again() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0, reading=reading_of(2, 0, 10.0))
    flight = state.start(10.1)
    state.fail(flight, now=10.2, unsent=True)
    assert state.wait(10.2) == 0.0


def test_after_a_lost_response_the_next_request_is_sent_within_a_few_windows() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0, reading=reading_of(1, 0, 10.0))
    state.fail(state.start(10.1), now=10.2)
    now = 10.2
    while wait := state.wait(now):
        now += wait
    assert 20 < now < 45


def test_a_request_of_a_killed_process_counts_as_in_flight_for_one_minute() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0, reading=reading_of(3, 2, 1.0))
    state.start(0.1)
    assert state.in_flight == 1
    state.wait(59.0)
    assert state.in_flight == 1
    state.wait(62.0)
    assert state.in_flight == 0


def test_a_refusal_blocks_all_requests_and_then_one_probe_is_sent() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0, reading=reading_of(9, 8, 60.0))
    state.finish(state.start(0.1), now=0.2, retry_after=7.0)
    assert state.wait(0.3) == pytest.approx(6.9, abs=0.01)
    assert state.wait(7.3) == 0.0
    state.start(7.3)
    assert state.wait(7.3) == POLL


def test_after_a_refusal_without_a_known_limit_one_probe_is_sent() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0)
    assert state.wait(0.0) == 0.0
    state.finish(state.start(0.1), now=0.2, retry_after=7.0)
    assert state.wait(7.3) == 0.0
    state.start(7.3)
    assert state.wait(7.3) == POLL


def test_the_tighter_of_two_limits_decides_while_responses_report_the_other() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0, reading=reading_of(10, 2, 60.0))
    state.finish(state.start(0.1), now=0.2, reading=reading_of(1000, 100, 9000.0))  # at least one of 10 is left
    assert state.wait(0.3) == 0.0
    state.start(0.3)
    assert state.wait(0.3) > 50


def test_a_limit_that_is_no_longer_reported_is_forgotten() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0, reading=reading_of(2, 0, 1.0))
    for now in (2.0, 5.0, 9.0):
        state.finish(state.start(now), now=now, reading=reading_of(100, 50, 60.0))
    assert list(state.estimates) == [100]


def test_at_most_eight_limits_are_kept() -> None:
    state = PaceState(patience=5.0)
    for limit in range(1, 30):
        state.finish(state.start(0.01 * limit), now=0.01 * limit, reading=reading_of(limit, limit - 1, 60.0))
    assert len(state.estimates) <= 8


def test_a_stored_state_equals_the_original() -> None:
    simulation = Simulation("sliding-window-counter", "3/second")
    simulation.run([0.0] * 8)
    assert load(dump(simulation.state)) == simulation.state


def test_only_sliding_window_counters_are_recognised_as_sliding() -> None:
    sliding_by_server = {}
    for server in SERVERS:
        simulation = Simulation(server, "10/minute", start=3.25)
        simulation.run([0.0] * 40)
        sliding_by_server[server] = simulation.state.estimates[10].sliding
    assert {server for server, sliding in sliding_by_server.items() if sliding} == {
        "sliding-window-counter",
        "clock-aligned sliding",
    }


def test_an_estimate_without_a_reading_admits_a_request_at_once() -> None:
    assert WindowEstimate(5).wait(0.0, in_flight=0) == 0.0


@pytest.mark.parametrize("now", [3.0, 300.0])
def test_a_response_after_its_request_expired_is_not_counted_again(now: float) -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0, reading=reading_of(3, 2, 1.0))
    flight = state.start(0.1)
    state.wait(400.0)
    assert state.in_flight == 0
    state.fail(flight, now=400.0 + now)
    state.finish(flight, now=401.0 + now)
    assert (state.sent, state.finished) == (2, 2)


def test_all_requests_that_expire_in_the_same_second_are_counted() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0, reading=reading_of(5, 4, 60.0))
    flights = [state.start(0.1 + number / 100) for number in range(3)]
    state.finish(flights[0], now=0.2, reading=reading_of(5, 3, 59.8))
    assert state.in_flight == 2
    state.wait(302.0)
    assert state.in_flight == 0


def test_a_response_without_headers_keeps_the_limit_and_does_not_block_for_good() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0, reading=reading_of(1, 0, 10.0))
    state.finish(state.start(10.1), now=10.2)
    assert state.wait(10.3) > 9
    assert state.wait(30.0) == 0.0


def test_a_limit_without_a_number_is_not_compared_with_another_limit() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0, reading=reading_of(0, 0, 10.0))
    state.finish(state.start(0.1), now=0.2, reading=reading_of(10, 9, 10.0))
    assert state.wait(0.3) > 9


def test_a_server_that_stops_reporting_limits_is_no_longer_paced_after_a_minute() -> None:
    state, now = PaceState(patience=5.0), 0.0
    state.finish(state.start(now), now=now, reading=reading_of(1, 0, 10.0))
    went: list[float] = []
    while len(went) < 20 and now < 3600:
        wait, flight = turn(state, now)
        if flight is None:
            now += wait
            continue
        went.append(now)
        state.finish(flight, now=now)
    assert went[-1] < 90  # one per window for a minute, then one after the other
    flights = [turn(state, now)[1] for _ in range(5)]
    assert None not in flights


def test_when_the_last_limit_is_forgotten_one_request_is_sent_first() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0, reading=reading_of(1, 0, 10.0))
    state.finish(state.start(11.0), now=100.0)
    first = turn(state, 100.1)[1]
    assert first is not None
    assert turn(state, 100.1)[1] is None
    state.finish(first, now=100.2, reading=reading_of(1, 0, 10.0))
    assert state.wait(100.3) > 9


def test_a_few_seconds_without_reports_forget_no_limit() -> None:
    state = PaceState(patience=5.0)
    state.finish(state.start(0.0), now=0.0, reading=reading_of(3, 2, 1.0))
    for now in (10.0, 20.0, 30.0):
        state.finish(state.start(now), now=now)
    assert list(state.estimates) == [3]


def test_a_response_to_a_request_of_a_forgotten_state_does_not_raise_the_quota() -> None:
    before = PaceState(patience=5.0)
    for _ in range(50):
        flight = before.start(0.0)
        before.finish(flight, now=0.0, reading=reading_of(100, 50, 60.0))
    flight, state = before.start(1.0), PaceState(patience=5.0)
    state.finish(flight, now=1.1, reading=reading_of(100, 2, 59.0))
    assert state.estimates[100].available == 2


def test_a_class_whose_responses_count_elsewhere_is_no_member() -> None:
    state = PaceState(patience=5.0)
    state.set_member("search", True)
    state.set_member("repos", True)
    state.set_member("search", False)
    assert state.members == ["repos"]


@pytest.mark.parametrize(("uncounted", "available"), [(0, 8), (2, 6), (None, 9)])
def test_a_request_of_another_bucket_takes_quota_unless_it_was_counted_before(
    uncounted: int | None, available: int
) -> None:
    state = PaceState(patience=5.0)
    _, flight = turn(state, 0.0)
    assert flight is not None
    state.finish(flight, now=0.1, reading=reading_of(10, 9, 60.0))
    state.join(sent_at=0.2, now=0.3, uncounted=uncounted)
    assert state.estimates[10].available == available
