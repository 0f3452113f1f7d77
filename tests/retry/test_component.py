"""Options: checked, frozen, picklable, and changed for one call."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from typing import Any

import httpx
import httpx2
import pytest

import flexmw
from flexmw.retry.component import Retry
from flexmw.retry.overrides import retry_options
from flexmw.testing import FakeClock, play


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attempts": 0}, "Retry(attempts=...) = 0: expected a whole number, 1 to 100"),
        ({"attempts": "3"}, "Retry(attempts=...) = '3': expected a whole number"),
        ({"attempts": True}, "expected a whole number"),
        ({"deadline": 0}, "Retry(deadline=...) = 0: expected a number of seconds above 0, or None"),
        ({"deadline": float("inf")}, "seconds above 0"),
        ({"max_retry_after": -1}, "Retry(max_retry_after=...) = -1: expected a number of seconds, at least 0"),
        ({"jitter": "a lot"}, "Retry(jitter=...) = 'a lot'"),
        ({"idempotent": 1}, "Retry(idempotent=...) = 1: expected true or false"),
        ({"auto_key": "yes"}, "expected true or false"),
        ({"key_origins": "https://api.example.com"}, "expected a list, each an origin such as"),
        ({"key_origins": ["api.example.com"]}, "an origin such as 'https://api.example.com'"),
        ({"key_origins": ["https://api.example.com/v1"]}, "without a path"),
        ({"key_origins": ["https://api.example.com/"]}, "without a slash at its end"),
        ({"key_origins": ["https://API.example.com"]}, "in lower case"),
        ({"key_origins": ["https://api.example.com:443"]}, "with its port where that is not the usual one"),
        ({"key_origins": ["https://user@api.example.com"]}, "an origin such as"),
        ({"key_origins": ["http://[::1"]}, "an origin such as"),
        ({"key_origins": ["http://localhost:99999"]}, "an origin such as"),
        ({"key_origins": ["https://*.example.com"]}, "without a wildcard"),
        ({"key_origins": ["https://xn--mnchen-3ya.example"]}, "in Unicode in place of 'xn--'"),
        ({"key_origins": ["ftp://api.example.com"]}, "an origin such as"),
        ({"key_origins": ["https://api.example.com "]}, "an origin such as"),
        ({"key_origins": [3]}, "an origin such as"),
        ({"budget_ratio": -0.1}, "a number from 0 to 10"),
        ({"budget_per_second": -1}, "a number, at least 0"),
        ({"random": 4}, "a function"),
    ],
)
def test_a_wrong_option_is_named_with_its_value_and_what_would_be_right(options: dict[str, Any], says: str) -> None:
    with pytest.raises(flexmw.ConfigError) as caught:
        Retry(**options)
    assert says in str(caught.value)


def test_policies_are_frozen_values() -> None:
    with pytest.raises(FrozenInstanceError):
        Retry().attempts = 5  # type: ignore[misc]
    assert Retry(attempts=5) == Retry(attempts=5, clock=FakeClock())
    assert Retry(attempts=5) != Retry(attempts=4)
    assert "clock" not in repr(Retry())


def test_a_policy_survives_pickling_with_a_memory_of_its_own() -> None:
    policy = Retry(attempts=7, key_origins=("https://api.example.com",))
    policy._memory.trust("place", ttl=60, now=0.0)
    twin = pickle.loads(pickle.dumps(policy))
    assert twin == policy
    assert not twin._memory.honours("place", now=1.0)


def test_one_call_can_bring_its_own_policy_or_none() -> None:
    policy, own = Retry(), Retry(attempts=9)
    assert policy.for_call({}) is policy
    assert policy.for_call({"flexmw.retry": own}) is own
    assert policy.for_call({"flexmw.retry": None}) is None
    changed = policy.for_call({"flexmw.retry": {"idempotent": True}})
    assert changed == Retry(idempotent=True)


@pytest.mark.parametrize("wrong", [3, "off", ["attempts"]])
def test_a_wrong_extension_is_a_clear_error(wrong: object) -> None:
    with pytest.raises(flexmw.ConfigError, match=r"extensions\['flexmw.retry'\]"):
        Retry().for_call({"flexmw.retry": wrong})


def test_options_hold_inside_the_block_and_nest() -> None:
    policy = Retry(attempts=4)
    with retry_options(idempotent=True):
        assert policy.for_call({}) == Retry(attempts=4, idempotent=True)
        with retry_options(None):
            assert policy.for_call({}) is None
            assert policy.for_call({"flexmw.retry": {"attempts": 2}}) == Retry(attempts=2)
        with retry_options(Retry(attempts=8)):
            assert policy.for_call({}) == Retry(attempts=8)
        assert policy.for_call({}) == Retry(attempts=4, idempotent=True)
    assert policy.for_call({}) is policy


def test_options_of_one_thread_do_not_reach_another() -> None:
    policy = Retry()
    with retry_options(None), ThreadPoolExecutor(1) as pool:
        assert pool.submit(policy.for_call, {}).result() is policy


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attempt": 5}, r"'attempt': expected one of attempts, deadline.*; did you mean 'attempts'\?"),
        ({"attempts": 0}, "whole number"),
    ],
)
def test_wrong_options_are_refused_where_they_are_written(options: dict[str, Any], says: str) -> None:
    with pytest.raises(flexmw.ConfigError, match=says), retry_options(**options):
        raise AssertionError("the block must not run")


@pytest.mark.parametrize(
    ("origin", "url"),
    [
        ("https://api.example.com", "https://API.example.com:443/v1"),
        ("http://api.example.com:8080", "http://api.example.com:8080/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/"),
        ("http://[2001:db8::1]", "http://[2001:db8::1]:80/"),
    ],
)
def test_an_origin_that_may_be_declared_is_one_that_is_found(origin: str, url: str) -> None:
    policy = Retry(key_origins=(origin,), attempts=2)
    for library in (httpx, httpx2):
        request: Any = library.Request("POST", url, headers={"idempotency-key": "a"}, json={})
        played = play(policy, [500, 200], request)
        assert played.count(flexmw.Send) == 2


def test_a_policy_for_some_calls_that_is_none_is_refused_where_it_is_named() -> None:
    wrong: Any = "off"
    with pytest.raises(flexmw.ConfigError, match=r"retry_options\(policy\) = 'off': expected a flexmw.Retry"):
        retry_options(wrong).__enter__()
    with pytest.raises(flexmw.ConfigError, match=r"= \['attempts'\]: expected a policy or options, not both"):
        retry_options(None, attempts=2).__enter__()


@pytest.mark.parametrize(
    ("name", "meant"),
    [("statuses", "classify"), ("attempt", "attempts"), ("max_retries", "attempts"), ("clasify", "classify")],
)
def test_an_option_that_does_not_exist_is_refused_with_the_one_that_was_meant(name: str, meant: str) -> None:
    for make in (Retry, retry_options):
        with pytest.raises(
            flexmw.ConfigError, match=rf"= '{name}': expected one of attempts, .*; did you mean '{meant}'\?"
        ):
            make(**{name: 3}).__enter__()  # type: ignore[arg-type, union-attr]
    with pytest.raises(flexmw.ConfigError, match="expected one of attempts"):
        Retry(zzz=3)  # type: ignore[call-arg]
