from __future__ import annotations

import pytest
from limits import parse

from flexmw.errors import ConfigError
from flexmw.ratelimit.core import SECOND
from flexmw.ratelimit.rates import parse_rates


@pytest.mark.parametrize(
    ("value", "option", "shown"),
    [
        ("ten per minute", "RateLimit(*rates)", "'ten per minute'"),
        (["10/minute", "never"], "RateLimit(limits=...)", "'never'"),
        ([parse("10/minute"), "never"], "rates", "'never'"),
        ([], "rates", "[]"),
        ("0/minute", "rates", "'0/minute'"),
        (["10/minute", "20 per 60 second"], "rates", "['10/minute', '20 per 60 second']"),
    ],
)
def test_a_refused_rate_is_named_with_its_option_and_value(value: object, option: str, shown: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rates(value, option)
    assert caught.value.option == option
    assert shown in str(caught.value)


def test_two_rates_over_one_window_are_told_with_the_windows_length() -> None:
    with pytest.raises(ConfigError, match="several take 60 s"):
        parse_rates(["10/minute", "20 per 60 second"])


def test_a_rate_says_what_it_counts_and_where() -> None:
    (plain,) = parse_rates("5 per 2 hour")
    assert (plain.limit, plain.window_us, plain.name, plain.key_suffix, plain.unit) == (
        5,
        7200 * SECOND,
        "5/2 hour",
        "5/2/hour",
        "requests",
    )
    (tokens,) = parse_rates("9/day", unit="tokens", group="GET /v1", any_limit=True)
    assert (tokens.name, tokens.key_suffix, tokens.unit) == ("9 tokens/day", "tokens/GET /v1/*/1/day", "tokens")


def test_the_least_rate_and_the_shortest_window_are_rates() -> None:
    (least,) = parse_rates("1/second")
    assert (least.limit, least.window_us) == (1, SECOND)
