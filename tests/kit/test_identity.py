from __future__ import annotations

import os

import pytest

from flexmw.errors import ConfigError
from flexmw.idempotency.hashing import KeyHasher
from flexmw.kit.identity import PEPPER_VARIABLE, CallerHasher, bearer_token


def scope(client: tuple[str, int] | None = ("192.0.2.7", 1), **headers: str) -> dict[str, object]:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "client": client, "headers": raw}


@pytest.mark.parametrize("value", ["Bearer sk-1", "bearer sk-1", "BEARER sk-1", "Bearer   sk-1 ", "bEaReR\tsk-1"])
def test_the_scheme_is_read_in_any_case(value: str) -> None:
    assert bearer_token(scope(authorization=value)) == b"sk-1"


@pytest.mark.parametrize("value", ["Basic sk-1", "Bearer", "Bearer ", "Bearersk-1", "", "sk-1"])
def test_what_is_no_bearer_token_is_none(value: str) -> None:
    assert bearer_token(scope(authorization=value)) is None


def test_the_token_is_in_no_part_of_the_identity() -> None:
    identity = CallerHasher()(scope(authorization="Bearer sk-live-canary"))
    assert "canary" not in repr(identity)
    assert (identity.kind, len(identity.digest)) == ("key", 32)


def test_the_pepper_changes_every_digest_and_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    request = scope(authorization="Bearer sk-1")
    plain = CallerHasher()(request)
    monkeypatch.setenv(PEPPER_VARIABLE, "salted")
    assert CallerHasher()(request) == CallerHasher(pepper=b"salted")(request) != plain
    assert CallerHasher(pepper="other")(request) not in (plain, CallerHasher()(request))
    assert CallerHasher(pepper="x" * 100)(request) != CallerHasher(pepper="x" * 101)(request)


def test_a_key_that_reads_like_an_address_is_another_caller_than_the_address() -> None:
    callers = CallerHasher()
    assert callers.of_key(b"192.0.2.7").digest != callers.of_address(scope()).digest


def test_callers_without_an_address_share_one_bucket() -> None:
    callers = CallerHasher()
    assert callers(scope(None)) == callers(scope(("", 0)))
    assert callers(scope(None)).kind == "shared"


def test_addresses_of_one_ipv6_network_are_one_caller() -> None:
    callers = CallerHasher()
    assert callers(scope(("2001:db8::1", 1))) == callers(scope(("2001:db8::ffff:1", 2)))
    assert callers(scope(("2001:db8::1", 1))) != callers(scope(("2001:db8:0:1::1", 1)))
    assert callers.address(scope(("::ffff:192.0.2.7", 1))) == "192.0.2.7"


def test_ipv4_clients_behind_a_translator_are_one_caller_each() -> None:
    callers = CallerHasher(trusted_proxies=["64:ff9b::/96"])
    for peer in ("64:ff9b::c000:207", "64:ff9b::192.0.2.7"):
        assert callers.address(scope((peer, 1))) == CallerHasher().address(scope((peer, 1))) == "192.0.2.7"
    assert CallerHasher().address(scope(("64:ff9b::1:c000:207", 1))) == "64:ff9b::/64"  # another prefix
    forwarded = {**scope(("64:ff9b::a00:1", 1)), "headers": [(b"x-forwarded-for", b"203.0.113.9")]}
    assert callers.address(forwarded) == "203.0.113.9"  # the proxies are named as their peers are
    assert CallerHasher(trusted_proxies=["10.0.0.0/8"]).address(forwarded) == "10.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 10.0.0.4", "203.0.113.9"),
        ("203.0.113.9:8080, 10.0.0.4", "203.0.113.9"),
        ("[2001:db8::1]:8080", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("10.0.0.9, 10.0.0.4", "10.0.0.9"),
        ("6.6.6.6, unknown, 10.0.0.4", "10.0.0.4"),
        ("", "10.0.0.1"),
    ],
)
def test_forwarded_hops_are_believed_from_the_right_while_they_are_trusted(forwarded: str, address: str) -> None:
    callers = CallerHasher(trusted_proxies=["10.0.0.0/8"])
    assert callers.address(scope(("10.0.0.1", 1), x_forwarded_for=forwarded)) == address


def test_forwarded_lines_are_one_list() -> None:
    request = scope(("10.0.0.1", 1), x_forwarded_for="6.6.6.6")
    request["headers"] += [(b"x-forwarded-for", b"203.0.113.9")]  # type: ignore[operator]
    assert CallerHasher(trusted_proxies=["10.0.0.0/8"]).address(request) == "203.0.113.9"


def test_a_peer_that_is_not_trusted_cannot_say_who_it_is() -> None:
    callers = CallerHasher(trusted_proxies=["10.0.0.0/8"])
    assert callers.address(scope(("192.0.2.7", 1), x_forwarded_for="1.1.1.1")) == "192.0.2.7"
    assert CallerHasher().address(scope(("10.0.0.1", 1), x_forwarded_for="1.1.1.1")) == "10.0.0.1"


def test_a_unix_socket_is_a_trusted_peer_only_when_named() -> None:
    request = scope(None, x_forwarded_for="203.0.113.9")
    assert CallerHasher().address(request) is None
    assert CallerHasher(trusted_proxies=["unix"]).address(request) == "203.0.113.9"
    assert CallerHasher(trusted_proxies=["unix"]).address(scope(None)) is None
    assert (
        CallerHasher(trusted_proxies=["unix"]).address(scope(("testclient", 1), x_forwarded_for="203.0.113.9")) is None
    )


@pytest.mark.parametrize("value", ["*", "10.0.0.0/33", "10.0.0.1/8", "proxy.internal", 7])
def test_a_network_that_is_none_is_refused_by_name(value: object) -> None:
    with pytest.raises(ConfigError, match=r"RateLimit\(trusted_proxies = .*10\.0\.0\.0/8") as caught:
        CallerHasher(trusted_proxies=[value], option="RateLimit(")  # type: ignore[list-item]
    assert caught.value.option == "RateLimit(trusted_proxies"


def test_a_pepper_of_the_environment_that_is_no_text_counts_by_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEXMW_PEPPER", os.fsdecode(b"\xff\x80pepper"))
    assert CallerHasher()(scope()) == CallerHasher(pepper=b"\xff\x80pepper")(scope())
    assert KeyHasher().of_key("k") == KeyHasher(b"\xff\x80pepper").of_key("k")


@pytest.mark.parametrize("pepper", ["", b"", 7, "\ud800"], ids=repr)
def test_a_pepper_that_is_none_is_refused_without_being_shown(pepper: object) -> None:
    with pytest.raises(ConfigError, match=r"pepper = '\*\*\*'"):
        CallerHasher(pepper=pepper)  # type: ignore[arg-type]


def test_of_several_peppers_the_first_makes_the_digest_and_the_others_say_what_it_was_before() -> None:
    request = scope(authorization="Bearer sk-1")
    new, old, none = (CallerHasher(pepper=pepper)(request).digest for pepper in ("new", "old", None))
    callers = CallerHasher(pepper=["new", b"old", None])
    assert callers.rotates
    assert callers(request) == ("key", new, (old, none))
    hasher = callers.hasher()
    hasher.update(b"sk-1")
    assert hasher.hexdigest() == new
    assert callers(scope()).earlier == (CallerHasher(pepper="old")(scope()).digest, CallerHasher()(scope()).digest)
    assert not CallerHasher(pepper=("new",)).rotates
    assert CallerHasher(pepper=("new",))(request) == CallerHasher(pepper="new")(request) == ("key", new, ())


@pytest.mark.parametrize("pepper", [(), ("new", ""), ("new", "new"), ("new", b"new"), ("new", 7)], ids=repr)
def test_several_peppers_are_different_ones(pepper: object) -> None:
    with pytest.raises(ConfigError, match=r"pepper = '\*\*\*'"):
        CallerHasher(pepper=pepper)  # type: ignore[arg-type]
