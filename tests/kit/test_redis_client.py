"""The settings of redis clients: what each kind of URL connects to, and when a client sends a command again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff

from flexmw.kit.redis_client import Resend, connect, connect_async
from flexmw.kit.store_url import StorageURL, parse

MAKERS: list[Callable[..., Any]] = [connect, connect_async]


def url_of(text: str) -> StorageURL:
    return parse(text, "storage")


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["redis", "valkey"])
def test_a_url_gives_host_port_database_and_credentials(make: Callable[..., Any], name: str) -> None:
    client = make(url_of(f"{name}://user:p%40ss@cache:6380/3"), timeout=0.25)
    options = client.connection_pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("cache", 6380, 3)
    assert (options["username"], options["password"]) == ("user", "p@ss")


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["rediss", "valkeys"])
def test_a_scheme_with_an_s_uses_tls(make: Callable[..., Any], name: str) -> None:
    client = make(url_of(f"{name}://cache"), timeout=0.25)
    assert issubclass(client.connection_pool.connection_class, (redis.SSLConnection, redis.asyncio.SSLConnection))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["redis+unix", "valkey+unix"])
def test_a_unix_scheme_connects_to_a_socket(make: Callable[..., Any], name: str) -> None:
    client = make(url_of(f"{name}:///run/store.sock?db=1"), timeout=0.25)
    assert client.connection_pool.connection_kwargs["path"] == "/run/store.sock"


@pytest.mark.parametrize("make", MAKERS)
def test_a_timeout_holds_for_commands_and_for_connections(make: Callable[..., Any]) -> None:
    def timeouts(**options: Any) -> tuple[Any, Any]:
        made = make(url_of("redis://cache"), **options).connection_pool.connection_kwargs
        return made["socket_timeout"], made["socket_connect_timeout"]

    assert timeouts(timeout=0.25) == (0.25, 0.25)
    assert timeouts(timeout=None, connect_timeout=5.0) == (None, 5.0)


CLOSED, LATE = redis.ConnectionError, redis.TimeoutError


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("resend", "retries", "errors"),
    [("never", 0, set()), ("closed", 1, {CLOSED}), ("once", 1, {CLOSED, LATE})],
)
def test_a_client_sends_a_command_again_only_as_it_was_told(
    make: Callable[..., Any], resend: Resend, retries: int, errors: set[Any]
) -> None:
    retry = make(url_of("redis://cache"), timeout=0.25, resend=resend).connection_pool.connection_kwargs["retry"]
    assert retry._retries == retries
    assert isinstance(retry._backoff, NoBackoff)
    if errors:
        assert {CLOSED, LATE} & {*retry._supported_errors} == errors


def test_the_nodes_of_a_cluster_and_its_credentials_come_from_the_url() -> None:
    client = connect_async(url_of("valkey+cluster://user:secret@one:7001,two:7002"), timeout=0.25)
    assert isinstance(client, redis.asyncio.RedisCluster)
    nodes = client.nodes_manager.startup_nodes.values()
    assert [(node.host, node.port) for node in nodes] == [("one", 7001), ("two", 7002)]
    assert (client.connection_kwargs["username"], client.connection_kwargs["password"]) == ("user", "secret")
    assert client.connection_kwargs["socket_timeout"] == 0.25


@pytest.mark.parametrize(("own", "retries"), [(None, 1), ("never", 0)])
def test_a_cluster_may_have_a_rule_of_its_own(own: Resend | None, retries: int) -> None:
    client = connect(url_of("redis+cluster://one:7001"), timeout=0.25, resend="once", cluster_resend=own)
    assert client._options["retry"]._retries == retries
    assert "retry" not in connect(url_of("redis+cluster://one"), timeout=0.25, resend="driver")._options


class Cluster:
    """A cluster client whose first constructor call fails."""

    made: ClassVar[list[Cluster]] = []

    def __init__(self, **options: Any) -> None:
        self.closed = False
        Cluster.made.append(self)
        if len(Cluster.made) == 1:
            raise redis.RedisError("no node can be reached")

    def get(self, key: str) -> str:
        return f"{key} of {Cluster.made.index(self)}"

    def close(self) -> None:
        self.closed = True


def test_a_blocking_cluster_client_is_made_by_its_first_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flexmw.kit.redis_client.RedisCluster", Cluster)
    monkeypatch.setattr(Cluster, "made", [])
    client = connect(url_of("redis+cluster://one"), timeout=0.25)
    client.close()
    assert Cluster.made == []
    with pytest.raises(redis.RedisError):
        client.get("k")
    assert [client.get("k"), client.get("k")] == ["k of 1"] * 2
    client.close()
    assert Cluster.made[1].closed
    assert client.get("k") == "k of 2"


def test_a_command_reaches_the_server_through_a_blocking_and_an_asyncio_client(redis_url: str) -> None:
    async def read() -> Any:
        client = connect_async(url_of(redis_url), timeout=None, connect_timeout=5.0)
        try:
            return await client.get("k")
        finally:
            await client.aclose()

    blocking = connect(url_of(redis_url), timeout=5.0)
    assert blocking.set("k", "v")
    blocking.close()
    assert asyncio.run(read()) == b"v"
