from __future__ import annotations

import logging
from typing import Any

import pytest

from flexmw.errors import ConfigError
from flexmw.kit.identity import CallerHasher
from flexmw.ratelimit.callers import caller_function
from tests.ratelimit.calls import scope_of

pytestmark = pytest.mark.anyio


async def test_the_function_of_the_app_gets_the_value_and_no_repr_shows_it() -> None:
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


@pytest.mark.parametrize(
    ("cookies", "value"),
    [
        (["session=a; theme=dark"], "a"),
        (["theme=dark", "session=a"], "a"),
        (["session=a; session=a"], "a"),
        (["session=a; session=b"], None),
        (["xsession=a"], None),
        (["session="], None),
    ],
)
async def test_one_named_cookie_names_a_caller(cookies: list[str], value: str | None) -> None:
    scope = scope_of(None, headers=[("cookie", line) for line in cookies])
    caller = await caller_function("cookie:session", CallerHasher(), "key")(scope)
    assert (caller.kind, caller.value) == (("key", value) if value else ("address", "192.0.2.7"))


@pytest.mark.parametrize("returned", [True, 1j, ["a"], {"id": 1}], ids=repr)
async def test_a_key_function_that_returns_no_name_is_an_error_that_names_the_option(returned: Any) -> None:
    caller = caller_function(lambda scope: returned, CallerHasher(), "RateLimit(key=...)")
    with pytest.raises(ConfigError, match=rf"RateLimit\(key=\.\.\.\).*returned a {type(returned).__name__}"):
        await caller(scope_of())


async def test_names_of_several_parts_are_not_mixed_up() -> None:
    returned: list[Any] = [("a", "bc"), ("ab", "c"), "abc", 7, "\udc80"]
    caller = caller_function(lambda scope: returned[scope["number"]], CallerHasher(), "key")
    digests = {(await caller(scope_of(number=number))).digest for number in range(len(returned))}
    assert len(digests) == len(returned)


@pytest.mark.parametrize(
    ("key", "requests", "scope"),
    [
        ("user", 1, {}),
        ("user", 5, {"user": None}),
        ("state:tenant", 5, {}),
        ("header:x-tenant", 100, {}),
        ("cookie:session", 100, {}),
        (lambda scope: None, 100, {}),
    ],
    ids=["user outside", "anonymous", "state", "header", "cookie", "function"],
)
async def test_a_key_that_is_never_there_warns_once(
    key: Any, requests: int, scope: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caller = caller_function(key, CallerHasher(), "key")
    with caplog.at_level(logging.WARNING, "flexmw.ratelimit"):
        for _ in range(requests - 1):
            await caller(scope_of(**scope))
        assert not caplog.messages
        for _ in range(3):
            await caller(scope_of(**scope))
    (message,) = caplog.messages
    assert "RateLimit(key=" in message


async def test_a_key_that_was_there_once_never_warns(caplog: pytest.LogCaptureFixture) -> None:
    caller = caller_function("state:tenant", CallerHasher(), "key")
    with caplog.at_level(logging.WARNING, "flexmw.ratelimit"):
        await caller(scope_of(state={"tenant": "acme"}))
        for _ in range(20):
            await caller(scope_of())
    assert not caplog.messages
