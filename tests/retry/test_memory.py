"""What the calls of one Retry remember."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

import flexmw
from flexmw.retry.causes import copy_without_references
from flexmw.retry.memory import Memory
from flexmw.testing import play


def test_a_place_is_trusted_for_as_long_as_it_said() -> None:
    memory = Memory()
    assert not memory.honours("POST https://api/v1/x", now=0.0)
    memory.trust("POST https://api/v1/x", ttl=60.0, now=0.0)
    assert memory.honours("POST https://api/v1/x", now=59.9)
    assert not memory.honours("POST https://api/v1/x", now=60.0)
    assert not memory.honours("POST https://api/v1/y", now=1.0)


def test_a_ttl_of_zero_takes_the_trust_back() -> None:
    memory = Memory()
    memory.trust("place", ttl=60.0, now=0.0)
    memory.trust("place", ttl=0.0, now=1.0)
    assert not memory.honours("place", now=1.0)


def test_what_was_given_back_is_remembered_for_two_minutes() -> None:
    memory, error = Memory(), TimeoutError()
    memory.remember_lost(b"fingerprint", error, now=0.0)
    assert memory.find_lost(b"fingerprint", now=119.0) is error
    assert memory.find_lost(b"fingerprint", now=120.0) is None
    assert memory.find_lost(b"other", now=1.0) is None


@pytest.mark.parametrize("kind", ["places", "fingerprints"])
def test_memory_is_bounded_and_keeps_the_youngest(kind: str) -> None:
    memory, error = Memory(), TimeoutError()
    for number in range(5000):
        if kind == "places":
            memory.trust(str(number), ttl=60.0, now=0.0)
        else:
            memory.remember_lost(str(number).encode(), error, now=0.0)
    known = [
        memory.honours(str(n), now=1.0) if kind == "places" else memory.find_lost(str(n).encode(), now=1.0) is not None
        for n in range(5000)
    ]
    assert sum(known) == 4096
    assert all(known[-4096:])


def test_the_warning_is_given_once() -> None:
    memory = Memory()
    assert [memory.first_warning() for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize("ttl", ["604800", "31536000"])
def test_a_time_to_live_of_a_week_is_learned_as_well(ttl: str) -> None:
    policy = flexmw.Retry()
    request: Any = httpx.Request("POST", "https://api.test/v1/jobs", headers={"idempotency-key": "a"})
    answers = [httpx.Response(status, headers={"idempotency-key-ttl": ttl}) for status in (200, 500, 200)]
    play(policy, answers[:1], request)
    assert play(policy, answers[1:], request).count(flexmw.Send) == 2


def test_what_is_remembered_is_bounded_in_bytes() -> None:
    memory = Memory()
    memory.trust("POST https://api/" + "x" * 100_000, ttl=60.0, now=0.0)
    assert [len(place) for place in memory.trusted] == [16]
    assert len(copy_without_references(ValueError("x" * 100_000)).args[0]) == 1000
