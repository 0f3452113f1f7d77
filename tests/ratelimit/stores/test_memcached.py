"""memcached as the store of RateLimit: the start, the URL and the keys."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from flexmw.errors import ConfigError
from flexmw.kit.store_url import parse
from flexmw.ratelimit import RateLimit
from flexmw.ratelimit.stores.memcached import hosts_of, probe_memcached, short_key
from flexmw.testing.hostile.ports import HOST, Port
from tests.ratelimit.calls import answering, call
from tests.servers import Child, memcached_binary, memcached_process, skip_unless
from tests.stores import wrong_way
from tests.waiting import LONGEST_WAIT

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _driver() -> None:
    skip_unless(importlib.util.find_spec("memcachio"), "memcachio")


def limited(url: str, **options: Any) -> Any:
    limit = RateLimit("3/minute", storage=url, strategy="fixed-window", store_timeout=LONGEST_WAIT, **options)
    return limit.asgi(answering())


@pytest.mark.parametrize("reply", [b"-ERR unknown command\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"ERROR\r\n"])
def test_a_server_that_is_no_memcached_is_an_error_at_start(reply: bytes) -> None:
    with wrong_way(reply) as port:
        for options in ({}, {"on_store_failure": "local"}):
            with pytest.raises(ConfigError, match=f"{HOST}:{port}: the server is no memcached"):
                limited(f"memcached://{HOST}:{port}", **options)


def test_a_server_that_is_away_or_full_is_one_unless_the_app_may_start_without_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "flexmw.ratelimit")
    with Port() as port, wrong_way(b"SERVER_ERROR out of memory\r\n") as full:
        url = f"memcached://{HOST}:{port.number},{HOST}:{full}"
        with pytest.raises(ConfigError, match=f"{HOST}:{port.number}: .*; {HOST}:{full}: SERVER_ERROR out of memory"):
            limited(url)
        limited(url, on_store_failure="local")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot be used at start" in caplog.text


def test_a_server_that_ends_the_connection_is_named_with_the_reason() -> None:
    with (
        wrong_way(b"") as port,
        pytest.raises(ConfigError, match=f"{HOST}:{port}: the server has ended the connection"),
    ):
        limited(f"memcached://{HOST}:{port}")


async def test_a_server_with_users_takes_the_credentials_of_the_url(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("app:s3cret/word\n")
    binary = memcached_binary()
    skip_unless(binary, "memcached")
    with memcached_process(str(binary), tmp_path, "-Y", str(users)) as server:
        place = f"{HOST}:{server.port}"
        with pytest.raises(ConfigError, match="requires a user name and password"):
            limited(f"memcached://{place}", on_store_failure="local")
        with pytest.raises(ConfigError, match="refuses the user name or password") as caught:
            limited(f"memcached://app:wr0ngword@{place}")
        assert "wr0ngword" not in str(caught.value)
        app = limited(f"memcached://app:s3cret%2Fword@{place}", on_store_failure="closed")
        assert [(await call(app)).status for _ in range(4)] == [200, 200, 200, 429]


def test_credentials_are_not_given_to_a_server_that_would_store_them(memcached_server: Child) -> None:
    place = memcached_server.url.partition("://")[2]
    with pytest.raises(ConfigError, match=r"no user name and no password: .* has no users") as caught:
        limited(f"memcached://app:s3cret@{place}", on_store_failure="local")
    assert "s3cret" not in str(caught.value)


async def test_nor_are_they_to_one_that_was_away_at_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    binary = memcached_binary()
    skip_unless(binary, "memcached")
    with memcached_process(str(binary), tmp_path) as server:
        server.kill()
        app = limited(f"memcached://app:s3cret@{HOST}:{server.port}", on_store_failure="local")
        with server.restarted(tmp_path, b"version"):
            assert [(await call(app)).status for _ in range(4)] == [200, 200, 200, 429]
            assert server.ask(b"get auth") == b"END"
    assert "has no users, and stores both" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_reply_that_comes_byte_by_byte_does_not_hold_the_start() -> None:
    """After 1,024 bytes it would be no memcached."""
    ends = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while not ends.wait(0.02):
                connection.sendall(b"N")

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=lambda: drip(listener.accept()[0]))
        thread.start()
        try:
            url = parse(f"memcached://{HOST}:{listener.getsockname()[1]}", "storage")
            with pytest.raises(ConfigError, match=r"the time of the operation is over|timed out"):
                probe_memcached(url, "storage", required=True, log=logging.getLogger(), timeout=0.1)
        finally:
            ends.set()
            thread.join(LONGEST_WAIT)


def test_a_host_without_a_port_has_that_of_memcached() -> None:
    assert hosts_of(parse("memcached://u:p@one,[::1]:5", "storage")) == "one:11211,[::1]:5"


@pytest.mark.parametrize("rest", ["/0", "?timeout=1"])
def test_what_has_no_effect_in_a_url_is_refused(rest: str) -> None:
    with pytest.raises(ConfigError, match="hosts alone"):
        RateLimit("3/minute", storage=f"memcached://{HOST}{rest}", strategy="fixed-window")


async def test_a_name_that_is_too_long_for_a_key_is_counted_in_the_store(memcached_server: Child) -> None:
    """memcached refuses keys of more than 250 bytes."""
    app = limited(memcached_server.url, prefix="p" * 230, on_store_failure="closed")
    assert [(await call(app)).status for _ in range(4)] == [200, 200, 200, 429]


def test_long_keys_that_differ_at_their_ends_stay_different() -> None:
    keys = [short_key(f"{'k' * size}{end}") for size in (100, 239, 240, 1000) for end in "ab"]
    assert len(set(keys)) == len(keys)
    assert max(map(len, keys)) == 240
