from __future__ import annotations

import pytest
from limits import RateLimitItemPerMinute, parse

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
        ([5], "rates", "5"),
        ("0/minute", "rates", "'0/minute'"),
        (["10/minute", "20 per 60 second"], "rates", "['10/minute', '20 per 60 second']"),
    ],
)
def test_a_refused_rate_is_named_with_its_option_and_value(value: object, option: str, shown: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rates(value, option)
    assert caught.value.option == option
    assert shown in str(caught.value)


def test_the_refusal_of_two_rates_over_one_window_names_the_window() -> None:
    with pytest.raises(ConfigError, match="several take 60 s"):
        parse_rates(["10/minute", "20 per 60 second"])


def test_a_rate_has_a_unit_a_name_and_a_key() -> None:
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


def test_the_smallest_limit_and_the_shortest_window_are_accepted() -> None:
    (least,) = parse_rates("1/second")
    assert (least.limit, least.window_us) == (1, SECOND)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("10/minute", ["10/minute"]),
        ("10 per 2 hour", ["10/2 hour"]),
        ("10/minute; 1000/day", ["10/minute", "1000/day"]),
        (["10/minute", parse("5/second")], ["10/minute", "5/second"]),
        (RateLimitItemPerMinute(7), ["7/minute"]),
    ],
)
def test_rates_are_read_from_texts_and_items(given: object, names: list[str]) -> None:
    assert [each.name for each in parse_rates(given)] == names


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "ten per minute",
        "10/fortnight",
        "0/minute",
        "10/0 minute",
        "10 per 00 minute",
        "10/minute,",
        None,
        7,
        [],
        ["10/minute", ""],
        "-1/second",
    ],
    ids=repr,
)
def test_an_invalid_rate_is_refused_with_option_value_and_remedy(bad: object) -> None:
    with pytest.raises(ConfigError, match="10/minute") as caught:
        parse_rates(bad, "RateLimit(*rates)")
    assert caught.value.option == "RateLimit(*rates)"


def test_two_rates_over_one_window_are_refused() -> None:
    with pytest.raises(ConfigError, match="one rate per window"):
        parse_rates(["10/minute", "20 per 60 second"])


def test_the_store_key_is_the_one_that_limits_makes() -> None:
    item = parse("10 per 2 minute")
    (only,) = parse_rates(item)
    assert only.key("abc", "fixed-window") == item.key_for("{abc}", "fixed-window")
    (grouped,) = parse_rates(item, group="GET /v1")
    assert grouped.key("abc", "gcra") == item.key_for("{abc}", "gcra", "GET /v1")


def test_without_its_limit_a_key_is_the_same_for_every_tier() -> None:
    free, paid = (parse_rates(text, any_limit=True)[0] for text in ("10/minute", "100/minute"))
    assert free.key("abc", "gcra") == paid.key("abc", "gcra")
    assert free.seconds == 60
