"""The pure side of pacing: whatever the server counts with and however late things arrive, nothing is refused."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flexmw.contract import HeaderStyle
from flexmw.pace.headers import server_now, word_of
from flexmw.pace.redis import dumped, loaded
from flexmw.pace.schedule import POLL, Lane, Word
from flexmw.pace.window import Account
from tests.pace.model import SERVERS, World

DIALECTS: list[HeaderStyle] = ["openai", "seed", "ietf"]


def told(limit: int, remaining: int, ends: float) -> Word:
    return Word(limit, remaining, soonest=ends - 0.001, latest=ends, lasts=ends - 0.001)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("rate", ["10/second", "10/minute", "1/second", "100/minute"])
def test_a_burst_over_ten_windows_takes_ten_windows(server: str, rate: str) -> None:
    world = World(server, rate, start=3.25)
    limit, window = int(rate.partition("/")[0]), 60.0 if rate.endswith("minute") else 1.0
    world.run([0.0] * (10 * limit))
    assert len(world.counted) == 10 * limit
    # Nine windows wait for the first one's end; a sliding window frees its last request when a tenth is nearly over.
    # Each may begin as late as two latencies, a poll and a margin.
    late = 10 * (0.03 + 0.001 * window)
    assert world.counted[-1] - world.counted[0] <= 10 * window - (window / limit if limit > 1 else window) + late


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_whole_seconds_cost_a_second_for_each_window(server: str, dialect: HeaderStyle) -> None:
    world = World(server, "10/minute", dialect=dialect, start=3.25)
    world.run([0.0] * 100)
    twice = dialect == "ietf" and "sliding" in server  # seconds that count down show too little of where a window ends
    assert world.counted[-1] <= (19 if twice else 10) * 61.0


@st.composite
def crowds(draw: st.DrawFn) -> tuple[World, list[float]]:
    """Latencies of any scale against the window, heavy tails, bursts or a trickle, lost answers, foreign clocks."""
    limit, window = draw(st.sampled_from([1, 2, 3, 5, 10, 20])), draw(st.sampled_from([1, 2, 10, 60]))
    scale = draw(st.sampled_from([0.0005, 0.005, 0.05, 0.3, 1.0])) * draw(st.sampled_from([1, window]))
    tail, random = draw(st.sampled_from([1, 10])), Random(draw(st.integers(0, 2**32)))

    def latency() -> float:
        return min(25.0, random.expovariate(1 / scale) * (tail if random.random() < 0.1 else 1) + 1e-4)

    server, dated = draw(st.sampled_from(sorted(SERVERS))), draw(st.booleans())
    # Where windows follow the clock and the first was met in its middle, only an answer tells how long they are.
    losing = 0.0 if "clock" in server else draw(st.sampled_from([0.0, 0.0, 0.1]))
    world = World(
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
    return world, calls


@settings(max_examples=300)
@given(crowds())
def test_no_request_is_ever_refused_and_every_one_gets_its_turn(crowd: tuple[World, list[float]]) -> None:
    world, calls = crowd
    world.run(calls)
    assert len(world.counted) == len(calls)


def test_out_of_order_answers_can_only_lower_what_is_left() -> None:
    lane = Lane(patience=5.0)
    first = lane.sent(0.0)
    lane.answered(first, now=0.1, word=told(5, 4, 60.0))
    tickets = [lane.sent(0.2) for _ in range(4)]
    assert lane.wait(0.2) > 50
    for ticket, remaining in zip(tickets, (0, 3, 1, 2), strict=True):
        lane.answered(ticket, now=0.4, word=told(5, remaining, 59.8))
    assert lane.wait(0.5) > 50


def test_what_may_have_been_counted_after_an_answer_is_taken_off_what_it_says() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.1, word=told(5, 4, 60.0))
    early, _, _ = lane.sent(0.2), lane.sent(0.2), lane.sent(0.2)
    lane.answered(early, now=0.3, word=told(5, 3, 59.9))
    assert lane.wait(0.3) == 0.0
    lane.sent(0.3)
    assert lane.wait(0.3) > 50


def test_those_who_wait_for_a_first_answer_lose_patience() -> None:
    lane = Lane(patience=2.0)
    lane.sent(0.0)
    assert lane.wait(1.9) == POLL
    assert lane.wait(2.1) == 0.0
    lane.sent(2.1)
    assert lane.wait(2.2) == POLL


def test_headers_without_a_limit_are_enough() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.1, word=told(0, 2, 10.0))
    for _ in range(2):
        assert lane.wait(0.2) == 0.0
        lane.sent(0.2)
    assert lane.wait(0.2) == pytest.approx(9.9, abs=0.02)


def test_one_goes_when_a_window_has_ended_and_the_others_wait_for_what_it_says() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0, word=told(2, 0, 10.0))
    assert lane.wait(9.99) > 0
    assert lane.wait(10.01) == 0.0
    ticket = lane.sent(10.01)
    assert lane.wait(10.01) == POLL
    lane.answered(ticket, now=10.02, word=told(2, 1, 10.0))
    assert lane.wait(10.03) == 0.0


def test_a_request_that_never_left_gives_its_place_back() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0, word=told(2, 1, 10.0))
    ticket = lane.sent(0.1)
    assert lane.wait(0.1) > 9
    lane.failed(ticket, now=0.2, unsent=True)
    assert lane.wait(0.2) == 0.0


def test_the_one_that_goes_first_after_a_window_may_go_again_when_it_never_left() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0, word=told(2, 0, 10.0))
    ticket = lane.sent(10.1)
    lane.failed(ticket, now=10.2, unsent=True)
    assert lane.wait(10.2) == 0.0


def test_a_lost_answer_costs_a_window_and_no_more() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0, word=told(1, 0, 10.0))
    lane.failed(lane.sent(10.1), now=10.2)
    now = 10.2
    while wait := lane.wait(now):
        now += wait
    assert 20 < now < 45


def test_a_process_that_was_killed_holds_its_places_for_one_minute() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0, word=told(3, 2, 1.0))
    lane.sent(0.1)
    assert lane.flying == 1
    lane.wait(59.0)
    assert lane.flying == 1
    lane.wait(62.0)
    assert lane.flying == 0


def test_a_refusal_holds_back_everybody_until_it_is_over_and_then_one_goes_first() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0, word=told(9, 8, 60.0))
    lane.answered(lane.sent(0.1), now=0.2, refused=7.0)
    assert lane.wait(0.3) == pytest.approx(6.9, abs=0.01)
    assert lane.wait(7.3) == 0.0
    lane.sent(7.3)
    assert lane.wait(7.3) == POLL


def test_a_refusal_without_numbers_lets_one_go_first_too() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0)
    assert lane.wait(0.0) == 0.0
    lane.answered(lane.sent(0.1), now=0.2, refused=7.0)
    assert lane.wait(7.3) == 0.0
    lane.sent(7.3)
    assert lane.wait(7.3) == POLL


def test_the_tighter_of_two_limits_decides_also_while_the_other_is_told_of() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0, word=told(10, 2, 60.0))
    lane.answered(lane.sent(0.1), now=0.2, word=told(1000, 100, 9000.0))  # one of 10 is left at least
    assert lane.wait(0.3) == 0.0
    lane.sent(0.3)
    assert lane.wait(0.3) > 50


def test_a_limit_that_is_told_of_no_more_is_forgotten() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0, word=told(2, 0, 1.0))
    for now in (2.0, 5.0, 9.0):
        lane.answered(lane.sent(now), now=now, word=told(100, 50, 60.0))
    assert list(lane.accounts) == [100]


def test_few_limits_are_remembered() -> None:
    lane = Lane(patience=5.0)
    for limit in range(1, 30):
        lane.answered(lane.sent(0.01 * limit), now=0.01 * limit, word=told(limit, limit - 1, 60.0))
    assert len(lane.accounts) <= 8


def test_a_lane_survives_the_store() -> None:
    world = World("sliding-window-counter", "3/second")
    world.run([0.0] * 8)
    assert loaded(dumped(world.lane)) == world.lane


def test_a_sliding_window_is_recognised_and_others_are_not() -> None:
    found = {}
    for server in SERVERS:
        world = World(server, "10/minute", start=3.25)
        world.run([0.0] * 40)
        found[server] = world.lane.accounts[10].sliding
    assert {server for server, sliding in found.items() if sliding} == {
        "sliding-window-counter",
        "clock-aligned sliding",
    }


def test_an_account_without_a_word_lets_one_go_at_once() -> None:
    assert Account(5).wait(0.0, flying=0) == 0.0


@pytest.mark.parametrize("now", [3.0, 300.0])
def test_an_answer_after_all_that_came_when_it_was_given_up_changes_nothing_twice(now: float) -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0, word=told(3, 2, 1.0))
    ticket = lane.sent(0.1)
    lane.wait(400.0)
    assert lane.flying == 0
    lane.failed(ticket, now=400.0 + now)
    lane.answered(ticket, now=401.0 + now)
    assert (lane.total, lane.known) == (2, 2)


def test_of_several_that_are_given_up_in_one_second_each_is() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0, word=told(5, 4, 60.0))
    tickets = [lane.sent(0.1 + number / 100) for number in range(3)]
    lane.answered(tickets[0], now=0.2, word=told(5, 3, 59.8))
    assert lane.flying == 2
    lane.wait(302.0)
    assert lane.flying == 0


def test_an_answer_that_tells_nothing_of_a_known_limit_leaves_it_alone_but_not_stuck() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0, word=told(1, 0, 10.0))
    lane.answered(lane.sent(10.1), now=10.2)
    assert lane.wait(10.3) > 9
    assert lane.wait(30.0) == 0.0


def test_a_limit_whose_name_is_unknown_is_no_share_of_another() -> None:
    lane = Lane(patience=5.0)
    lane.answered(lane.sent(0.0), now=0.0, word=told(0, 0, 10.0))
    lane.answered(lane.sent(0.1), now=0.2, word=told(10, 9, 10.0))
    assert lane.wait(0.3) > 9


@pytest.mark.parametrize("headers", [{}, {"x-ratelimit-remaining": "3"}, {"x-ratelimit-reset": "1s"}])
def test_headers_that_say_too_little_say_nothing(headers: dict[str, str]) -> None:
    assert word_of(headers, 1.8e9, 1.8e9) == (None, None)


@pytest.mark.parametrize(("date", "expected"), [(None, 105.0), (104, 105.0), (99, 99), (50, 50), (130, 130)])
def test_the_servers_clock_counts_where_it_cannot_be_ours(date: float | None, expected: float) -> None:
    headers = {} if date is None else {"date": _date(date)}
    assert server_now(headers, 100.0, 105.0) == expected


@pytest.mark.parametrize(
    ("policy", "quota", "expected"),
    [
        ('"a";q=10;w=60', '"a";r=3;t=7', (10, 3, 7.0, 59.0)),
        ('"a";q=10;w=60, "b";q=9;w=5', '"a";r=9;t=7, "b"; r=1; t=2', (9, 1, 2.0, 4.0)),
        ('"a";q=10;qu="requests";w=60', '"a";r=3;t=7', (10, 3, 7.0, 59.0)),
        ('"a";q=10;w=60, "b";q=9999;qu="tokens";w=60', '"b";r=1;t=7, "a";r=3;t=7', (10, 3, 7.0, 59.0)),
        ("", '"a";r=3;t=7', (0, 3, 7.0, 6.0)),
        ('"a";q=10', '"a";r=3;t=7', (0, 3, 7.0, 6.0)),
        ('"a";q=10;w=60', '"a";r=3', None),
        ('"a";q=10;qu="tokens";w=60', '"a";r=3;t=7', None),
        ('"a";q=ten;w=60', '"a";r=three;t=7', None),
    ],
)
def test_a_policy_says_how_many_in_how_long(policy: str, quota: str, expected: Any) -> None:
    word, _ = word_of({"ratelimit-policy": policy, "ratelimit": quota}, 1.8e9, 1.8e9)
    assert (word and (word.limit, word.remaining, word.latest, word.lasts)) == expected


def test_tokens_are_passed_over() -> None:
    tokens = {f"x-ratelimit-{part}-tokens": "1" for part in ("limit", "remaining", "reset")}
    assert word_of(tokens, 1.8e9, 1.8e9) == (None, None)
    word, _ = word_of(tokens | SEED | {"x-ratelimit-reset-requests": "1s"}, 1.8e9, 1.8e9)
    assert word is not None
    assert word.limit == 10


SEED = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "3"}


@pytest.mark.parametrize(
    ("reset", "soonest", "latest"),
    [("1s", 0.999, 1.0), ("7", 6.0, 7.0), ("1800000007", 6.0, 7.0), ("12ms", 0.011, 0.012)],
)
def test_a_reset_is_known_as_well_as_its_form_tells(reset: str, soonest: float, latest: float) -> None:
    word, _ = word_of(SEED | {"x-ratelimit-reset-requests": reset}, 1.8e9, 1.8e9)
    assert word is not None
    assert (word.soonest, word.latest) == pytest.approx((soonest, latest))


@given(
    ahead=st.floats(-1000, 1000),
    arrivals=st.lists(st.floats(0, 10), min_size=1, max_size=10),
    stale=st.floats(0, 1),
    way=st.floats(0, 5),
)
@example(ahead=-0.9, arrivals=[0.0], stale=0.0, way=0.0)
def test_a_foreign_clock_never_makes_an_end_look_earlier_than_it_is(
    ahead: float, arrivals: list[float], stale: float, way: float
) -> None:
    learned: Any = None
    for received in sorted(arrivals):
        now = 1.8e9 + received
        server_now = now + ahead
        ends = int(server_now) + 30
        headers = SEED | {"x-ratelimit-reset-requests": str(ends), "date": _date(server_now - stale)}
        word, learned = word_of(headers, now - way, now, learned)
        assert word is not None
        assert word.soonest - 1e-5 <= ends - server_now <= word.latest + 1e-5


def _date(moment: float) -> str:
    from email.utils import formatdate

    return formatdate(int(moment), usegmt=True)
