"""The client behind proxies: only what a trusted proxy has written counts.

The promise in SECURITY.md: "No way past a limit".
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from flexmw import Idempotency, RateLimit
from flexmw.errors import ConfigError
from flexmw.kit.forwarded import Proxies

FORWARDED = "forwarded"
XFF = "x-forwarded-for"


def scope(*headers: tuple[str, str], client: tuple[str, int] | None = ("10.0.0.1", 1)) -> dict[str, Any]:
    return {"type": "http", "client": client, "headers": [(name.encode(), value.encode()) for name, value in headers]}


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ("For=203.0.113.9;proto=http;by=203.0.113.43", "203.0.113.9"),
        ("by=10.9.9.9;for=203.0.113.9", "203.0.113.9"),
        ('for="203.0.113.9:8080"', "203.0.113.9"),
        ('for="[2001:db8::1]:4711"', "2001:db8::/64"),
        ('FOR="[2001:db8:cafe::17]"', "2001:db8:cafe::/64"),
        ("for=6.6.6.6, for=203.0.113.9", "203.0.113.9"),
        ("for=203.0.113.9, for=10.0.0.4", "203.0.113.9"),
        ("for=203.0.113.9,for=unknown", "10.0.0.1"),
        ("for=203.0.113.9, for=_hidden", "10.0.0.1"),
        ('for=203.0.113.9, for="_SEVKISEK", for=10.0.0.4', "10.0.0.4"),
        ("for=203.0.113.9, proto=https", "10.0.0.1"),
        (",, for=203.0.113.9 ,", "203.0.113.9"),
        ('for="6.6.6.6, for=203.0.113.9', "10.0.0.1"),
        ('for="6.6.6.6\\", for=203.0.113.9', "10.0.0.1"),
        ('for="a, for="[2001:db8::1]"', "10.0.0.1"),
        ('ext="for=6.6.6.6";for=203.0.113.9', "203.0.113.9"),
        ("for = 203.0.113.9", "10.0.0.1"),
        ("", "10.0.0.1"),
    ],
)
def test_forwarded_is_read_from_the_right_as_rfc_7239_writes_it(value: str, address: str) -> None:
    assert Proxies(["10.0.0.0/8"]).client(scope((FORWARDED, value))) == address


def test_forwarded_lines_are_one_list() -> None:
    request = scope((FORWARDED, "for=6.6.6.6"), (FORWARDED, "for=203.0.113.9"))
    assert Proxies(["10.0.0.0/8"]).client(request) == "203.0.113.9"


@pytest.mark.parametrize(
    ("count", "value", "address"),
    [
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        (2, "6.6.6.6, 203.0.113.9, 198.51.100.4", "203.0.113.9"),
        (2, "203.0.113.9", "203.0.113.9"),
        (1, "203.0.113.9:8080", "203.0.113.9"),
        (1, "[2001:db8::1]:8080", "2001:db8::/64"),
        (2, "203.0.113.9, unknown", "10.0.0.1"),
        (2, "unknown, 198.51.100.4", "198.51.100.4"),
        (0, "203.0.113.9", "10.0.0.1"),
    ],
)
def test_a_number_of_proxies_counts_hops_from_the_right(count: int, value: str, address: str) -> None:
    assert Proxies(count).client(scope((XFF, value))) == address
    if ":" not in value:
        forwarded = ", ".join(f"for={hop.strip()}" for hop in value.split(","))
        assert Proxies(count).client(scope((FORWARDED, forwarded))) == address


def test_a_number_of_proxies_believes_any_peer_and_none_at_all() -> None:
    assert Proxies(1).client(scope((XFF, "203.0.113.9"), client=None)) == "203.0.113.9"
    assert Proxies(1).client(scope((XFF, "203.0.113.9"), client=("", 0))) == "203.0.113.9"
    assert Proxies(1).client(scope()) == "10.0.0.1"
    assert Proxies(1).client(scope(client=None)) is None


@pytest.mark.parametrize("trusted", [["10.0.0.0/8"], 1], ids=repr)
def test_two_headers_that_disagree_name_no_client(trusted: Any) -> None:
    both = scope((XFF, "203.0.113.9"), (FORWARDED, "for=203.0.113.9;proto=https"))
    assert Proxies(trusted).client(both) == "203.0.113.9"
    for xff, forwarded in (("203.0.113.9", "6.6.6.6"), ("6.6.6.6", "203.0.113.9")):
        assert Proxies(trusted).client(scope((XFF, xff), (FORWARDED, f"for={forwarded}"))) == "10.0.0.1"


def test_the_peer_is_a_proxy_by_network_by_number_or_as_a_unix_socket() -> None:
    assert Proxies(["10.0.0.0/8"]).trusts_peer(scope())
    assert not Proxies(["10.0.0.0/8"]).trusts_peer(scope(client=("192.0.2.7", 1)))
    assert not Proxies().trusts_peer(scope())
    assert Proxies(1).trusts_peer(scope(client=None))
    assert Proxies(["unix"]).trusts_peer(scope(client=None))
    assert not Proxies(["10.0.0.0/8"]).trusts_peer(scope(client=("testclient", 1)))


@pytest.mark.parametrize("trusted", [True, -1], ids=repr)
def test_a_number_that_is_none_is_refused_by_name(trusted: Any) -> None:
    with pytest.raises(ConfigError, match="a number of proxies"):
        Proxies(trusted, option="RateLimit(trusted_proxies=...)")


@pytest.mark.parametrize("piece", ["a=b; ", ";", ' "', "for=", 'a="\\', ", ", "for=1;" + " " * 50, "x" * 100])
def test_a_long_header_takes_linear_time(piece: str) -> None:
    def cost(size: int) -> float:
        request = scope((FORWARDED, piece * (size // len(piece)) + "\0"), (XFF, piece * (size // len(piece))))
        start = time.perf_counter()
        Proxies(1).client(request)
        return time.perf_counter() - start

    cost(1000)
    assert min(cost(64_000) for _ in range(3)) < 1.0


@pytest.mark.parametrize("trusted", [["0.0.0.0/0"], ["::/0", "unix"], ["128.0.0.0/1", "0.0.0.0/1"]], ids=repr)
@pytest.mark.parametrize("component", [RateLimit, Idempotency])
def test_proxies_that_are_everybody_are_logged_once(
    component: type[Any], trusted: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flexmw.kit.forwarded._warned", set[str]())
    rates = ("9/minute",) if component is RateLimit else ()
    for _ in range(2):
        component(*rates, trusted_proxies=trusted).asgi(app)
    (record,) = caplog.records
    assert record.name == f"flexmw.{component.name}"
    assert "trusted_proxies=1" in record.getMessage()


@pytest.mark.parametrize("trusted", [1, (), ["10.0.0.0/8"], ["0.0.0.0/1", "::/1"], ["unix"]], ids=repr)
def test_proxies_that_are_not_everybody_are_not_logged(trusted: Any, caplog: pytest.LogCaptureFixture) -> None:
    RateLimit("9/minute", trusted_proxies=trusted).asgi(app)
    assert caplog.records == []


async def app(scope: Any, receive: Any, send: Any) -> None: ...
