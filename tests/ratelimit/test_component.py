from __future__ import annotations

import copy
import pickle
import socket
from dataclasses import FrozenInstanceError, asdict
from typing import Any

import pytest

from flexmw.errors import ConfigError
from flexmw.pace import Pace
from flexmw.ratelimit import RateLimit
from tests.ratelimit.calls import answering


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rates": ["10 a minute"]}, "'10 a minute': expected rates such as '10/minute'"),
        ({"rates": []}, "at least one rate"),
        ({"limit": 7}, "a function of the caller"),
        ({"limit": {"models": "1/minute"}}, "'models'"),
        ({"limit": {"/a": "often"}}, "'often'"),
        ({"key": "cookie"}, "'header:<name>'"),
        ({"key": 7}, "'bearer'"),
        ({"key": "header:"}, "'bearer'"),
        ({"strategy": "leaky"}, "'sliding-window-counter'"),
        ({"storage": "redsi://localhost"}, "scheme is one of"),
        ({"storage": 7}, "a storage URL"),
        ({"cost": 0}, "at least 1"),
        ({"cost": True}, "at least 1"),
        ({"cost": 11}, "at most the smallest limit, 10"),
        ({"headers": ("github",)}, "'openai'"),
        ({"headers": "seed"}, "a list"),
        ({"trusted_proxies": ("everyone",)}, "10.0.0.0/8"),
        ({"trusted_proxies": "10.0.0.0/8"}, "a list"),
        ({"store_timeout": 0}, "above 0"),
        ({"on_store_failure": "ignore"}, "'local/<number of processes>'"),
        ({"on_store_failure": "local/0"}, "'local'"),
        ({"on_store_failure": "open/2"}, "'local'"),
        ({"pepper": ""}, "not empty"),
        ({"new_keys_per_address": 0}, "at least 1"),
        ({"exempt": 7}, "a path"),
        ({"exempt": "health"}, "a path"),
        ({"exempt": "/a*b"}, "a path"),
        ({"shadow": "yes"}, "true or false"),
        ({"lease": 5.0}, "concurrency="),
        ({"token_cost": 5}, "tokens="),
        ({"message_refusal": print}, "messages="),
        ({"rates": [], "tokens": "9/minute", "cost": 5}, "a rate of requests"),
        ({"rates": [], "concurrency": 5, "strategy": "gcra"}, "a rate"),
    ],
    ids=repr,
)
def test_an_option_that_cannot_work_is_refused_when_it_is_given(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RateLimit(**{"rates": ["10/minute"], **options})
    assert words in str(caught.value)
    assert str(caught.value).startswith("RateLimit")


def test_no_message_and_no_repr_shows_a_secret() -> None:
    options = RateLimit("1/minute", storage="redis://:hunter2@cache:6379", pepper="hunter2", on_store_failure="open")
    assert "hunter2" not in repr(options)
    with pytest.raises(ConfigError) as caught:
        RateLimit("1/minute", storage="redis://:hunter2@cache:x")
    assert "hunter2" not in str(caught.value)


def test_options_are_values() -> None:
    assert RateLimit("1/minute", "5/day") == RateLimit(rates=["1/minute", "5/day"]) != RateLimit("2/minute")
    with pytest.raises(FrozenInstanceError):
        RateLimit("1/minute").shadow = True  # type: ignore[misc]


def test_a_store_that_is_not_there_is_found_at_start_unless_its_failure_was_provided_for(redis_url: str) -> None:
    RateLimit("1/minute", storage=redis_url).asgi(answering())
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ConfigError, match="a store that accepts connections"):
        RateLimit("1/minute", storage=url).asgi(answering())
    for mode in ("local", "local/4", "open", "closed"):
        RateLimit("1/minute", storage=url, on_store_failure=mode).asgi(answering())


def test_a_pace_is_copied_and_pickled_like_any_other_component() -> None:
    pace = Pace(max_wait=7.0, pepper="pepper")
    for twin in (pickle.loads(pickle.dumps(pace)), copy.deepcopy(pace), copy.copy(pace)):
        assert twin == pace
        assert twin._registry is not pace._registry
    assert asdict(pace)["max_wait"] == 7.0
