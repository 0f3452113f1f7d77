from __future__ import annotations

import logging
import re
import socket
from pathlib import Path

import pytest

from flexmw.errors import ConfigError
from flexmw.kit.store_url import SCHEMES, StorageURL, mask, parse, probe, schemes_of

OPTION = "RateLimit(storage=...)"
LOG = logging.getLogger("flexmw.ratelimit")
SERVERS = schemes_of("memory", "redis", "redis+cluster", "memcached", "mongodb")


@pytest.mark.parametrize(
    ("url", "nodes"),
    [
        ("redis://localhost", (("localhost", 6379),)),
        ("redis://", (("localhost", 6379),)),
        ("redis://user:p%40ss@cache:6380/3?socket_timeout=1", (("cache", 6380),)),
        ("rediss://[::1]:6380", (("::1", 6380),)),
        ("valkey://cache", (("cache", 6379),)),
        ("async+redis://cache", (("cache", 6379),)),
        ("redis+cluster://a:1,b:2", (("a", 1), ("b", 2))),
        ("REDIS://cache", (("cache", 6379),)),
        ("memory://", ()),
    ],
)
def test_hosts_and_ports_are_read_from_a_url(url: str, nodes: tuple[tuple[str, int], ...]) -> None:
    assert parse(url, OPTION).nodes == nodes


def test_the_path_of_a_socket_or_a_file_is_kept() -> None:
    assert parse("redis+unix:///run/redis.sock?db=1", OPTION).path == "/run/redis.sock"
    assert parse("sqlite:///keys.db", "Idempotency(storage=...)", schemes=("memory", "sqlite")).path == "/keys.db"


def test_a_component_names_the_families_that_it_supports_and_gets_their_schemes() -> None:
    names = ("redis+cluster", "rediss+cluster", "valkey+cluster", "valkeys+cluster")
    assert schemes_of("redis+cluster") == names
    assert schemes_of("sqlite", "memory") == ("memory", "sqlite")
    assert schemes_of() == ()
    with pytest.raises(ValueError, match="no scheme belongs to redsi"):
        schemes_of("redis", "redsi")


def test_redis_and_valkey_have_the_same_schemes() -> None:
    redis = {name: scheme for name, scheme in SCHEMES.items() if name.startswith("redis")}
    assert len(redis) == 7
    assert {name.replace("rediss", "valkeys").replace("redis", "valkey"): scheme for name, scheme in redis.items()} == {
        name: scheme for name, scheme in SCHEMES.items() if name.startswith("valkey")
    }


def test_a_scheme_that_the_host_registered_is_taken_as_it_is() -> None:
    assert parse("acme://somewhere", OPTION, schemes=(*SCHEMES, "acme")).scheme.family == "acme"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, "a storage URL such as"),
        (7, "a storage URL such as"),
        ("localhost:6379", "a storage URL such as"),
        ("redsi://localhost", "scheme is one of"),
        ("sqlite:///keys.db", "scheme is one of"),
        ("redis://localhost:0", "port from 1 to 65535"),
        ("redis://localhost:70000", "port from 1 to 65535"),
        ("redis://localhost:port", "port from 1 to 65535"),
        ("redis://local host", "port from 1 to 65535"),
        ("redis://localhost/first", "database number"),
        ("redis+unix://run/redis.sock", "absolute path"),
    ],
)
def test_a_url_that_cannot_work_is_refused_by_option_value_and_remedy(url: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse(url, OPTION, schemes=SERVERS)
    assert caught.value.option == OPTION
    assert str(url) in caught.value.value


def test_the_driver_of_memcached_comes_with_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flexmw.kit.store_url.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'flexmw\[memcached\]'"):
        parse("memcached://localhost", "storage")


def test_a_missing_driver_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flexmw.kit.store_url.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'flexmw\[redis\]'"):
        parse("redis://localhost", OPTION)


@pytest.mark.parametrize("url", ["redis://:hunter2@cache:port", "redis://:hu/nter2@cache:x", "nope://:hunt@er2@cache"])
def test_no_message_shows_a_secret(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(url, OPTION)
    assert "***@cache" in str(caught.value)
    assert "hu" not in str(caught.value).replace("should", "")


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("redis://:p%40s%2Fs@cache", "p@s/s"),
        ("redis://:p/w#d@cache:1/0", "p/w#d"),
        ("redis+cluster://user:p%40ss@one,two:7001", "p@ss"),
        ("rediss+cluster://user:p%25@one", "p%"),
        ("redis+sentinel://user:p%40ss@one,two/mymaster/2", "p@ss"),
        ("redis+unix://:p%40ss@/run/redis.sock", "p@ss"),
        ("redis://cache?password=p%40ss", "p@ss"),
    ],
)
def test_a_password_is_decoded_for_every_kind_of_server(url: str, password: str) -> None:
    assert parse(url, OPTION).password == password


def test_a_sentinel_url_names_sentinels_primary_and_database() -> None:
    url = parse("rediss+sentinel://one,two:7000/my%20master/3?sentinel_password=s", OPTION)
    assert (url.nodes, url.service) == ((("one", 26379), ("two", 7000)), "my master")
    assert url.options == {"db": 3, "sentinel_password": "s"}
    assert url.scheme.tls
    with pytest.raises(ConfigError, match="the name of the primary after the Sentinels"):
        parse("redis+sentinel://one:26379", OPTION)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://cache?sockettimeout=1", "did you mean 'socket_timeout'"),
        ("redis://cache?ssl=true", "the scheme rediss://"),
        ("redis://cache?ssl_ca_certs=/ca.pem", "without TLS"),
        ("redis+cluster://one?db=3", "the database 0 alone"),
        ("redis+cluster://one/3", "the database 0 alone"),
        ("redis://cache?retry_on_timeout=true", "never sends a command twice"),
        ("redis://cache?protocol=4", "one of 2, 3"),
        ("redis://cache?max_connections=0", "at least 1"),
        ("redis://cache?db=1&db=2", "'db' once"),
        ("redis://cache?decode_responses=true", "reads bytes"),
        ("redis://cache?sentinel_password=hunter2", "without Sentinel"),
        ("redis://one,two", r"redis\+cluster"),
        ("redis://:hun?ter2@cache", "%3F"),
        ("redis://cache?password=hunter2@x", "%40"),
        ("redis://cache?password=hu&nter2=1", "no option '\\?'"),
    ],
)
def test_an_option_of_the_query_that_cannot_work_is_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse(url, OPTION)
    assert "ter2" not in str(caught.value)


def test_masking_takes_all_user_info_and_nothing_else() -> None:
    assert mask("redis://u:p@s/s@cache:1/0") == "redis://***@cache:1/0"
    assert mask("redis://cache") == "redis://cache"
    assert mask("redis://cache?db=1&password=hunter2&x") == "redis://cache?db=***&password=***&***"
    assert mask("u:p@cache") == "***@cache"
    assert "hunter2" not in repr(parse("redis://:hunter2@cache", OPTION))


def test_a_store_that_listens_passes_the_probe(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        probe(parse(f"redis://127.0.0.1:{port}", OPTION), OPTION, required=True, log=LOG)
        probe(parse(f"redis+cluster://127.0.0.1:1,127.0.0.1:{port}", OPTION), OPTION, required=True, log=LOG)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        probe(parse(f"redis+unix://{tmp_path}/s", OPTION), OPTION, required=True, log=LOG)
    probe(parse("memory://", OPTION), OPTION, required=True, log=LOG)


def test_a_store_that_is_not_there_is_named_with_its_address_and_the_remedy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}: .*on_store_failure") as caught:
        probe(parse(f"redis://:hunter2@127.0.0.1:{port}", OPTION), OPTION, required=True, log=LOG)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"none\.sock"):
        probe(parse(f"redis+unix://{tmp_path}/none.sock", OPTION), OPTION, required=True, log=LOG)
    probe(parse(f"redis://:hunter2@127.0.0.1:{port}", OPTION), OPTION, required=False, log=LOG)
    assert re.search(rf"cannot be used at start: 127\.0\.0\.1:{port}: ", caplog.text)
    assert "hunter2" not in caplog.text


def test_a_url_is_a_value() -> None:
    assert parse("memory://", OPTION) == StorageURL("memory://", SCHEMES["memory"], "memory://")
