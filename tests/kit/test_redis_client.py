"""The settings of redis clients: what each kind of URL connects to, and that no client sends a command twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from flexmw.errors import ConfigError
from flexmw.kit.redis_async import AsyncNodes
from flexmw.kit.redis_blocking import BlockingNodes
from flexmw.kit.redis_client import Connector, url_of_client
from flexmw.kit.redis_flow import Nodes
from flexmw.kit.storage import is_redis_client
from flexmw.kit.store_url import parse
from tests.waiting import LONGEST_WAIT


def blocking(text: str, address: Any = None) -> Any:
    return Connector(parse(text, "storage")).blocking(address, timeout=0.25)


def in_asyncio(text: str, address: Any = None) -> Any:
    return Connector(parse(text, "storage")).asyncio(address, timeout=0.25)


MAKERS: list[Callable[..., Any]] = [blocking, in_asyncio]
ONE = ("one", 7001)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["redis", "valkey"])
def test_a_url_gives_host_port_database_and_credentials(make: Callable[..., Any], name: str) -> None:
    options = make(f"{name}://user:p%40ss@cache:6380/3").connection_pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("cache", 6380, 3)
    assert (options["username"], options["password"]) == ("user", "p@ss")
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (0.25, 0.25)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    "url", ["rediss://cache", "valkeys://cache", "rediss+cluster://one", "rediss+sentinel://one/m"]
)
def test_a_scheme_with_an_s_uses_tls(make: Callable[..., Any], url: str) -> None:
    pool = make(url, ONE).connection_pool
    assert issubclass(pool.connection_class, (redis.SSLConnection, redis.asyncio.SSLConnection))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["redis+unix", "valkey+unix"])
def test_a_unix_scheme_connects_to_a_socket(make: Callable[..., Any], name: str) -> None:
    options = make(f"{name}://:p%40ss@/run/store.sock?db=1").connection_pool.connection_kwargs
    assert (options["path"], options["db"], options["password"]) == ("/run/store.sock", 1, "p@ss")


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("url", ["redis://one", "redis+cluster://one", "redis+sentinel://one/mymaster"])
def test_no_client_sends_a_command_twice_or_takes_notifications(make: Callable[..., Any], url: str) -> None:
    client = make(url, ONE)
    options = client.connection_pool.connection_kwargs
    assert options["retry"]._retries == 0
    assert not getattr(options.get("maint_notifications_config"), "enabled", False)
    sentinels = getattr(getattr(client.connection_pool, "sentinel_manager", None), "sentinels", [])
    for sentinel in sentinels:
        assert sentinel.connection_pool.connection_kwargs["retry"]._retries == 0
        assert sentinel.connection_pool.connection_kwargs["socket_timeout"] == 0.25
    assert bool(sentinels) == ("sentinel" in url)


@pytest.mark.parametrize("make", MAKERS)
def test_the_nodes_of_a_cluster_have_the_credentials_of_the_url(make: Callable[..., Any]) -> None:
    options = make("valkey+cluster://user:p%40ss@one:7001,two:7002", ("two", 7002)).connection_pool.connection_kwargs
    assert (options["host"], options["port"]) == ("two", 7002)
    assert (options["username"], options["password"]) == ("user", "p@ss")


@pytest.mark.parametrize("make", MAKERS)
def test_a_bound_of_the_pool_makes_a_command_wait_instead_of_failing(make: Callable[..., Any]) -> None:
    pool = make("redis://cache?max_connections=5").connection_pool
    assert pool.max_connections == 5
    assert isinstance(pool, (redis.BlockingConnectionPool, redis.asyncio.BlockingConnectionPool))


class _Provider(redis.CredentialProvider):
    def get_credentials(self) -> tuple[str, str]:
        return "user", "token"


def test_a_client_gives_its_settings_and_stays_unused() -> None:
    provider = _Provider()
    client = redis.asyncio.Redis(host="cache", port=6380, db=2, credential_provider=provider, ssl=True)
    assert is_redis_client(client)
    url = url_of_client(client, "storage")
    assert repr(url) == "StorageURL('<redis-py client of cache:6380>')"
    for made in (Connector(url).blocking(timeout=0.25), Connector(url).asyncio(timeout=0.25)):
        assert made.connection_pool is not client.connection_pool
        options = made.connection_pool.connection_kwargs
        assert (options["host"], options["port"], options["db"]) == ("cache", 6380, 2)
        assert options["credential_provider"] is provider
        assert options["retry"]._retries == 0
        assert issubclass(made.connection_pool.connection_class, (redis.SSLConnection, redis.asyncio.SSLConnection))


def test_a_client_of_a_cluster_or_of_sentinel_gives_its_addresses() -> None:
    cluster = url_of_client(redis.asyncio.RedisCluster("one", 7001, password="secret"), "storage")
    assert (cluster.scheme.family, cluster.nodes) == ("redis+cluster", (ONE,))
    assert cluster.options["password"] == "secret"
    manager = redis.asyncio.Sentinel([("one", 26379)], sentinel_kwargs={"password": "own"})
    behind = url_of_client(manager.master_for("mymaster", db=3), "storage")
    assert (behind.scheme.family, behind.nodes, behind.service) == ("redis+sentinel", (("one", 26379),), "mymaster")
    assert behind.options["sentinel_password"] == "own"
    assert behind.options["db"] == 3


def test_addresses_that_a_cluster_announces_are_changed_as_its_client_says() -> None:
    def change(announced: Any) -> Any:
        return "here", announced[1] + 1

    remap: Any = change
    cluster = redis.asyncio.RedisCluster("one", 7001, address_remap=remap)
    nodes = Nodes("redis+cluster", [ONE], Connector(url_of_client(cluster, "storage")).remap)
    nodes.learn([[0, 16383, [b"10.0.0.1", 7001]]], ONE, now=0.0)
    assert nodes.address(5) == ("here", 7002)
    assert nodes.target(redis.ResponseError("MOVED 5 10.0.0.2:7005"), ONE) == ("here", 7006)
    assert nodes.target(redis.ResponseError("no redirection"), ONE) is None


def test_a_client_with_connections_of_another_library_is_refused() -> None:
    class Foreign(redis.asyncio.Connection):
        pass

    client: Any = redis.asyncio.Redis(connection_pool=redis.asyncio.ConnectionPool(connection_class=Foreign))
    with pytest.raises(ConfigError, match="of redis-py's own classes"):
        url_of_client(client, "storage")


def test_a_command_reaches_the_server_through_a_blocking_and_an_asyncio_client(redis_url: str) -> None:
    async def read() -> Any:
        client = AsyncNodes(parse(redis_url, "storage"), connect_timeout=LONGEST_WAIT)
        try:
            return await client.eval("return redis.call('GET', KEYS[1])", 1, "k")
        finally:
            await client.aclose()

    client = BlockingNodes(parse(redis_url, "storage"), timeout=LONGEST_WAIT)
    assert client.eval("return redis.call('SET', KEYS[1], 'v')", 1, "k") == b"OK"
    assert list(client.scan_iter("*", 10)) == [b"k"]
    client.close()
    assert asyncio.run(read()) == b"v"
