"""The digest of a caller who comes again within seconds is looked up, and is the one that a hash would give."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexmw.kit.identity import CallerHasher
from flexmw.ratelimit.callers import CallerIdentifier, caller_function
from flexmw.ratelimit.core import SECOND
from flexmw.ratelimit.new_keys import NewKeyGuard
from flexmw.ratelimit.recent_keys import MAX_KEYS, MAX_VALUE_BYTES, RecentKeys

WINDOW = 80 * SECOND
LIFETIME = 10 * SECOND


class Limiter:
    """A guard, and what identifies callers with it."""

    def __init__(self, *, most_new_keys: int = 100) -> None:
        self.hasher = CallerHasher()
        self.guard = NewKeyGuard(most_new_keys, WINDOW)
        function = caller_function("bearer", self.hasher, "RateLimit(key=...)")
        self.identifier = CallerIdentifier(function, self.hasher, self.guard, lambda: 0.0)

    def accept(self, *tokens: bytes, now_us: int = 0) -> None:
        for token in tokens:
            digest = self.hasher.of_key(token).digest
            assert self.guard.admits(digest, "address", now_us)
            self.guard.judge(digest, "address", 200, now_us)

    def digest(self, authorization: bytes, now_us: int) -> str | None:
        return self.identifier.bearer_digest(scope_of(authorization), now_us)

    def remembers(self, token: bytes, now_us: int) -> bool:
        return self.guard.recent.get(b"Bearer " + token, now_us) is not None


def scope_of(authorization: bytes) -> dict[str, Any]:
    return {
        "type": "http",
        "headers": [(b"host", b"a"), (b"authorization", authorization)],
        "client": ("192.0.2.7", 1),
    }


@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from([b"Bearer a", b"bearer a", b"Bearer  b", b"BEARER\tb", b"Basic a", b"Bearer ", b"new"]),
            st.integers(0, LIFETIME),
        ),
        max_size=30,
    )
)
def test_a_digest_that_is_looked_up_is_that_of_the_caller(requests: list[tuple[bytes, int]]) -> None:
    limiter, now_us = Limiter(), 0
    for authorization, passed_us in requests:
        now_us += passed_us
        limiter.accept(b"a", b"b", now_us=now_us)
        expected = limiter.hasher(scope_of(authorization)).digest
        assert [limiter.digest(authorization, now_us) for _ in range(2)] == [expected] * 2


def test_a_key_that_the_app_has_not_accepted_is_not_remembered() -> None:
    limiter = Limiter()
    assert limiter.digest(b"Bearer a", 0) is None
    assert not limiter.remembers(b"a", 0)


def test_a_key_that_the_app_refuses_is_forgotten_at_once() -> None:
    limiter = Limiter()
    limiter.accept(b"a")
    assert limiter.digest(b"Bearer a", 1) is not None
    limiter.guard.refuse(limiter.hasher.of_key(b"a").digest, 2)
    assert limiter.digest(b"Bearer a", 3) is None


def test_no_key_is_remembered_while_an_address_is_exhausted() -> None:
    limiter = Limiter(most_new_keys=2)
    limiter.accept(b"a")
    assert limiter.digest(b"Bearer a", 1) is not None
    for token in ("invented", "too", "many"):
        limiter.guard.admits(token, "address", 2)
    assert limiter.digest(b"Bearer a", 3) is None
    limiter.guard.judge(limiter.hasher.of_key(b"b").digest, "another address", 200, 4)
    assert limiter.digest(b"Bearer b", 5) is not None
    assert not limiter.remembers(b"b", 5)
    later_us = WINDOW + 3
    limiter.guard.judge(limiter.hasher.of_key(b"b").digest, "another address", 200, later_us)
    for _ in range(2):  # the first request ends the alert
        assert limiter.digest(b"Bearer b", later_us) is not None
    assert limiter.remembers(b"b", later_us)


def test_a_caller_who_comes_again_and_again_stays_known() -> None:
    limiter = Limiter()
    limiter.accept(b"a")
    for now_us in range(0, 10 * WINDOW, SECOND // 3):
        assert limiter.digest(b"Bearer a", now_us) is not None


@pytest.mark.parametrize("window_us", [SECOND, WINDOW, 3600 * SECOND])
def test_keys_are_forgotten_after_seconds_and_long_before_the_window_ends(window_us: int) -> None:
    recent = RecentKeys(window_us)
    lifetime_us = min(LIFETIME, window_us // 8)
    recent.add(b"a", "digest a", 5)
    recent.add(b"b", "digest b", 4 + lifetime_us)
    assert [recent.get(key, 4 + lifetime_us) for key in (b"a", b"b")] == ["digest a", "digest b"]
    assert [recent.get(key, 5 + lifetime_us) for key in (b"a", b"b")] == [None, None]


def test_few_short_values_are_remembered() -> None:
    recent = RecentKeys(WINDOW)
    for number in range(MAX_KEYS + 1):
        recent.add(b"%d" % number, "digest", 0)
    assert (recent.get(b"0", 1), recent.get(b"%d" % MAX_KEYS, 1)) == (None, "digest")
    recent.add(b"a" * (MAX_VALUE_BYTES + 1), "digest", 0)
    assert recent.get(b"a" * (MAX_VALUE_BYTES + 1), 1) is None


def test_no_repr_shows_a_key() -> None:
    limiter = Limiter()
    limiter.accept(b"sk-secret")
    limiter.digest(b"Bearer sk-secret", 0)
    assert "sk-secret" not in f"{limiter.identifier!r} {limiter.guard!r} {limiter.guard.recent!r}"
