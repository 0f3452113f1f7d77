"""The chaos run in short: three upstreams with random faults, and the executions of each call."""

from __future__ import annotations

from flexmw_fallback.chaos import run


def test_no_call_is_executed_twice() -> None:
    report = run(500)
    assert report.broken == [], report.text()
    assert (report.calls, sum(report.by_outcome.values())) == (500, 500)
    assert report.by_outcome["good", 1] > 100
    assert all(executions <= 1 for _, executions in report.by_outcome)


def test_with_permission_the_outcome_says_who_may_have_executed_a_call() -> None:
    report = run(150, permit=True)
    assert report.broken == [], report.text()
    assert any(executions > 1 for _, executions in report.by_outcome)
