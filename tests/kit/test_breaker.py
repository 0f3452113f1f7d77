from __future__ import annotations

import pytest

from flexmw.kit.breaker import Breaker
from flexmw.testing import FakeClock


def test_the_breaker_opens_after_three_failures_tries_one_and_closes_on_success() -> None:
    clock = FakeClock()
    breaker = Breaker(clock.monotonic)
    for _ in range(2):
        breaker.failed()
    assert breaker.allows()
    breaker.succeeded()
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert not breaker.allows()
    assert breaker.retry_in == pytest.approx(0.5)
    clock.advance(0.51)
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.failed()
    assert breaker.retry_in == pytest.approx(0.5)
    clock.advance(0.51)
    assert breaker.allows()
    breaker.cancelled()
    assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]
    assert breaker.retry_in == 0.0


def test_a_forked_child_asks_the_store_although_a_request_of_its_parent_does(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    breaker = Breaker(clock.monotonic)
    for _ in range(3):
        breaker.failed()
    clock.advance(0.51)
    assert [breaker.allows(), breaker.allows()] == [True, False]
    monkeypatch.setattr("flexmw.kit.breaker.getpid", lambda: 1)
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.succeeded()
    assert [breaker.allows(), breaker.allows()] == [True, True]
