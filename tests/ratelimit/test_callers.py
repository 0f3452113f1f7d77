from __future__ import annotations

import pytest

from flexmw.kit.identity import CallerHasher
from flexmw.ratelimit.callers import NewKeyGuard, caller_function
from flexmw.ratelimit.core import SECOND
from tests.ratelimit.calls import scope_of

pytestmark = pytest.mark.anyio


async def test_the_host_is_told_the_value_and_no_repr_shows_it() -> None:
    caller = await caller_function("bearer", CallerHasher(), "key")(scope_of("sk-live-canary"))
    assert (caller.value, caller.kind, caller.proven) == ("sk-live-canary", "key", False)
    assert "canary" not in repr(caller)


async def test_what_the_host_named_is_proven_and_what_the_request_brought_is_not() -> None:
    scope = scope_of("sk-1", user=7, state={"tenant": "acme"}, headers=[("x-api-key", "k")])
    proven = {
        key: (await caller_function(key, CallerHasher(), "key")(scope)).proven
        for key in ("user", "state:tenant", "bearer")
    }
    assert proven == {"user": True, "state:tenant": True, "bearer": False}
    assert (await caller_function(lambda scope: b"x", CallerHasher(), "key")(scope)).proven
    assert not (await caller_function("header:x-api-key", CallerHasher(), "key")(scope)).proven


async def test_an_empty_key_is_none_at_all() -> None:
    caller = await caller_function("header:x-api-key", CallerHasher(), "key")(scope_of(headers=[("x-api-key", "")]))
    assert (caller.kind, caller.value) == ("address", "192.0.2.7")


def test_new_keys_are_counted_by_window_and_known_ones_are_free() -> None:
    new = NewKeyGuard(2, 60 * SECOND)
    assert [new.admits(each, "a", 0) for each in ("one", "two", "three")] == [True, True, False]
    assert [new.knows(each, 1) for each in ("one", "two", "three")] == [True, True, False]
    assert new.admits("three", "b", 2)
    later = 61 * SECOND
    assert new.knows("one", later)
    assert new.admits("four", "a", later)


def test_the_window_for_new_keys_is_an_hour_at_most() -> None:
    new = NewKeyGuard(1, 86_400 * SECOND)
    assert new.admits("one", "a", 0)
    assert not new.admits("two", "a", 1)
    assert new.admits("two", "a", 3_601 * SECOND)
