"""A proxy that ``trusted_proxies`` does not name is noticed, because all clients behind it count as one."""

from __future__ import annotations

from typing import Any

import pytest

from flexmw.kit.forwarded import Proxies


def scope_of(peer: str, *, header: bytes = b"x-forwarded-for") -> dict[str, Any]:
    return {"client": (peer, 1), "headers": [(header, b"203.0.113.9")]}


def ask(proxies: Proxies, peers: list[str], number: int = 150, **options: Any) -> None:
    for count in range(number):
        proxies.client(scope_of(peers[count % len(peers)], **options))


@pytest.mark.parametrize("header", [b"x-forwarded-for", b"forwarded"])
def test_a_limiter_behind_a_proxy_that_nobody_named_warns_once(header: bytes, caplog: pytest.LogCaptureFixture) -> None:
    ask(Proxies((), option="RateLimit: trusted_proxies"), ["10.0.0.4", "10.0.0.5"], header=header)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("flexmw.ratelimit", "WARNING")
    assert "is not set" in record.getMessage()
    assert "10.0.0.4, 10.0.0.5" in record.getMessage()
    assert "203.0.113.9" not in record.getMessage()


@pytest.mark.parametrize("component", ["RateLimit", "Idempotency"])
def test_networks_that_hold_no_peer_are_noticed(component: str, caplog: pytest.LogCaptureFixture) -> None:
    ask(Proxies(("192.0.2.0/24",), option=f"{component}: trusted_proxies"), ["10.0.0.4"])
    (record,) = caplog.records
    assert record.name == f"flexmw.{component.lower()}"
    assert "holds none of them" in record.getMessage()


@pytest.mark.parametrize(
    ("trusted", "peers"),
    [
        ((), [f"198.51.100.{number}" for number in range(9)]),  # clients that send the header themselves
        (("10.0.0.0/8",), ["10.0.0.4"]),
        (("10.0.0.0/8",), ["10.0.0.4", "198.51.100.7"]),
        (1, ["10.0.0.4"]),
        (("unix",), ["10.0.0.4"]),
    ],
)
def test_what_works_is_not_warned_about(trusted: Any, peers: list[str], caplog: pytest.LogCaptureFixture) -> None:
    ask(Proxies(trusted, option="RateLimit: trusted_proxies"), peers)
    assert not caplog.records


def test_requests_without_the_headers_are_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    proxies = Proxies((), option="RateLimit: trusted_proxies")
    for _ in range(150):
        proxies.client({"client": ("10.0.0.4", 1), "headers": []})
    ask(proxies, ["10.0.0.4"], 99)
    assert not caplog.records
