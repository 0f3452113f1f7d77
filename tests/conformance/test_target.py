"""What a user may write as the API to judge."""

from __future__ import annotations

import json

import pytest

from flexmw.conformance.check import Check, Settings
from flexmw.conformance.target import Target, parse_base, parse_body, parse_route
from flexmw.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "base", "query"),
    [
        ("http://x", "http://x/v1", ""),
        ("http://x/", "http://x/v1", ""),
        ("https://x:8443/v2/", "https://x:8443/v2", ""),
        ("http://x?a=b", "http://x/v1", "a=b"),
        ("http://x/openai?api-version=1&b=2", "http://x/openai", "api-version=1&b=2"),
        ("http://[::1]:8000", "http://[::1]:8000/v1", ""),
    ],
)
def test_a_base_url_keeps_its_path_and_its_query(url: str, base: str, query: str) -> None:
    parsed = parse_base(url)
    assert (parsed.url, parsed.query) == (base, query)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://x", "a URL such as"),
        ("nonsense", "a URL such as"),
        ("http://[::1", "a URL such as"),
        ("http://:80", "a URL such as"),
        ("http://x:99999", "a URL such as"),
        ("http://x:0", "a URL such as"),
        ("http://x/a b", "a URL such as"),
        ("http://x/v1#top", "without a fragment"),
        ("http://x/v1/chat/completions", "the base URL, http://x/v1"),
        ("http://x/v1/models/", "the base URL, http://x/v1"),
        ("https://ada:wo0dpecker@x/v1", "--key-env"),
    ],
)
def test_a_wrong_url_is_refused_with_the_right_one(url: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_base(url)
    assert words in str(refused.value)
    assert "wo0dpecker" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://x?key=wo0dpecker&a=1", "http://x/v1?wo0dpecker", "http://x?a=b=wo0dpecker"])
def test_a_value_of_the_query_is_sent_and_not_shown(url: str) -> None:
    assert "wo0dpecker" in parse_base(url).query
    assert "wo0dpecker" not in Check(Settings(url=url)).url


@pytest.mark.parametrize(
    "url", ["ftp://x?key=wo0dpecker", "http://x/v1/models?key=wo0dpecker", "http://x?k=wo0dpecker#a"]
)
def test_a_wrong_url_is_refused_without_a_value_of_its_query(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_base(url)
    assert "wo0dpecker" not in str(refused.value)
    assert "***" in str(refused.value)


@pytest.mark.parametrize("route", ["/orders", "DELETE /orders", "POST orders", "POST /a?b=c", "POST /{id}", "POST", ""])
def test_a_route_that_could_do_harm_or_cannot_be_sent_is_refused(route: str) -> None:
    with pytest.raises(ConfigError, match="--route"):
        parse_route(route)


def test_a_valid_call_has_the_body_of_the_user_or_is_a_chat_completion() -> None:
    orders = Target(path="/orders", body={"item": 1})
    assert json.loads(orders.call(stream=True)) == {"item": 1}
    chat = json.loads(Target(model="m").call(stream=True))
    assert (chat["model"], chat["stream"], chat["messages"][0]["role"]) == ("m", True, "user")


@pytest.mark.parametrize("body", ["", "[]", "{", '"a"', "[" * 100_000])
def test_a_body_is_a_json_object(body: str) -> None:
    with pytest.raises(ConfigError, match="--body"):
        parse_body(body)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"timeout": 0}, "--timeout"),
        ({"timeout": float("nan")}, "--timeout"),
        ({"patience": -1}, "--patience"),
        ({"groups": ["error"]}, "one of errors, ids"),
        ({"model": "m"}, "--paid beside it"),
        ({"model": "m", "paid": True, "route": "POST /orders"}, "no --route"),
        ({"body": "{}", "paid": True}, "--route beside it"),
        ({"paid": True}, "NAME beside --paid"),
        ({"paid": True, "route": "POST /orders"}, "JSON beside --paid"),
        ({"paid": True, "groups": ["errors"]}, "a group with paid probes"),
        ({"burst": True, "groups": ["errors"]}, "a group with bursts"),
        ({"origin": "https://a.example", "groups": ["errors"]}, "the group cors"),
        ({"origin": "a.example"}, "an origin such as"),
        ({"origin": "https://a.example/"}, "an origin such as"),
        ({"headers": ["x-tenant acme"]}, "--header"),
        ({"headers": ["x-tenant: a\r\nb"]}, "--header"),
        ({"key": "sk", "headers": ["Authorization: Bearer other"]}, "--key-env or --header"),
        ({"key": "sk\n"}, "--key-env"),
    ],
)
def test_an_option_that_cannot_work_or_has_no_effect_is_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Check(Settings(url="http://x", **settings))  # type: ignore[arg-type]
    assert words in str(refused.value)
