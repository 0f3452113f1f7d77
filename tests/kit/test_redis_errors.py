"""The meaning of the errors of redis, valkey and Sentinel servers."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError
from redis.sentinel import MasterNotFoundError

from flexmw.kit.redis_errors import advice_of, clean, is_refusal

CLIENT = "<redis.client.Redis(<redis.connection.ConnectionPool(<redis.connection.Connection(host=one,port=1)>)>)>"


@pytest.mark.parametrize(
    ("text", "words", "refuses"),
    [
        ("No master found for 'm'", "no Sentinel knows a primary 'm' that is up: correct the name", False),
        (
            f"No master found for 'm' : {CLIENT} - ConnectionError('refused')",
            "names the primary 'm', and not all",
            False,
        ),
        (f"No master found for 'm' : {CLIENT} - network:TimeoutError", "not all respond (TimeoutError)", False),
        (
            f"No master found for 'm' : {CLIENT} - auth:AuthenticationError",
            "set sentinel_username and sentinel_p",
            True,
        ),
    ],
)
def test_sentinels_that_are_away_refuse_or_do_not_know_the_name_are_told_apart(
    text: str, words: str, *, refuses: bool
) -> None:
    error = MasterNotFoundError(text)
    assert words in advice_of(error)
    assert "redis.client" not in advice_of(error)
    assert is_refusal(error) is refuses


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("unknown command `SENTINEL`, with args beginning with: `MASTERS`, ", "the server is no Sentinel"),
        ("unknown command 'SENTINEL', with args beginning with: 'MASTERS' ", "the server is no Sentinel"),
        ("unknown command 'EVALSHA', with args beginning with: ", "a Sentinel needs a scheme with +sentinel"),
        ("unknown command `HELLO`, with args beginning with: `3`, ", "does not know HELLO: take the protocol 2"),
        ("unsupported command 'HELLO'", "does not know HELLO: take the protocol 2"),
        ("unsupported command 'EVAL'", "the server, or a proxy in front of it, does not know a command"),
        ("DB index is out of range", "no database of this number"),
        ("SELECT is not allowed in cluster mode", "use a scheme with +cluster, and no database"),
    ],
)
def test_a_server_of_another_kind_is_refused_with_the_scheme_that_fits(text: str, words: str) -> None:
    assert words in advice_of(ResponseError(text))
    assert is_refusal(ResponseError(text))


def test_secrets_are_removed_from_the_text_of_others_and_not_from_own_words() -> None:
    assert advice_of(ResponseError("host hunter2 said p"), ["hunter2", "p"]) == "ResponseError: host *** said ***"
    assert "user name or password" in advice_of(ResponseError("WRONGPASS invalid"), ["p", "user"])
    assert clean("a password", ["p"]) == "a password"
