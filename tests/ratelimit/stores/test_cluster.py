"""The limiter on a real Redis Cluster: three nodes, the keys of one caller on one of them."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

import flexmw
from flexmw.kit.identity import CallerHasher
from flexmw.kit.store_url import parse
from flexmw.pace import Pace
from flexmw.pace import registry as pace_registry
from flexmw.pace.core import PaceState
from flexmw.pace.registry import PaceRegistry
from flexmw.pace.window import RateReading
from flexmw.ratelimit.algorithms import ALGORITHMS
from flexmw.testing import FakeClock
from flexmw.testing.hostile.ports import HOST, Port
from tests.ratelimit.calls import Make, call, limiters
from tests.servers import redis_binary, skip_unless
from tests.stores import client_of, counting_app
from tests.waiting import LONGEST_WAIT, eventually

pytestmark = pytest.mark.anyio
NAMES = sorted(ALGORITHMS)
NODES = 3
SLOTS = 16384


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class Cluster:
    """Three masters that know each other and have a third of the slots each."""

    def __init__(self, ports: list[int], processes: list[subprocess.Popen[bytes]]) -> None:
        self.nodes = [redis.Redis(HOST, port, socket_timeout=LONGEST_WAIT) for port in ports]
        self.ports, self.processes = ports, processes
        self.url = "redis+cluster://" + ",".join(f"{HOST}:{port}" for port in ports)

    def caller(self, node: int, strategy: str) -> str:
        """An API key whose counters lie on a node. What the keys of a caller share is the text between the first brace
        and the one that closes it; that of ``limits``' sliding windows has another one in it."""
        inside = "LIMITER/{" if strategy == "sliding-window-counter" else ""
        for number in range(1000):
            key = f"sk-{number}"
            slot: int = key_slot(f"{inside}{CallerHasher().of_key(key.encode()).digest}".encode())
            if slot * NODES // SLOTS == node:
                return key
        raise AssertionError(node)

    def each(self, ask: Callable[[redis.Redis], Any]) -> list[Any]:
        return [ask(node) for node in self.nodes]


@contextmanager
def cluster_of(folder: Path) -> Generator[Cluster]:
    binary = redis_binary()
    skip_unless(binary, "redis-server")
    with ExitStack() as stack:
        ports = [_port(stack) for _ in range(NODES)]
        processes = []
        for port in ports:
            home = folder / str(port)
            home.mkdir()
            where = ["--bind", HOST, "--port", str(port), "--dir", str(home)]
            state = ["--save", "", "--appendonly", "no", "--loglevel", "warning", "--cluster-enabled", "yes"]
            rules = ["--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"]
            log = stack.enter_context((home / "log.txt").open("wb"))
            process = subprocess.Popen([str(binary), *where, *state, *rules], stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        cluster = Cluster(ports, processes)
        stack.callback(lambda: cluster.each(lambda node: node.close()))
        _join(cluster)
        yield cluster


def _port(stack: ExitStack) -> int:
    """A free port whose bus is free too: before version 7 its number is given, 10000 above."""
    while True:
        port = Port()
        with suppress(OSError, OverflowError):
            stack.callback(Port(port.number + 10_000).release)
            return stack.enter_context(port).number
        port.release()


def _join(cluster: Cluster) -> None:
    for place, node in enumerate(cluster.nodes):
        eventually(lambda node=node: node.ping())
        slots = range(-(-place * SLOTS // NODES), -(-(place + 1) * SLOTS // NODES))
        node.execute_command("CLUSTER ADDSLOTS", *slots)
    for port in cluster.ports[1:]:
        cluster.nodes[0].execute_command("CLUSTER MEET", HOST, port)
    eventually(lambda: all(cluster.each(_knows_all)))


def _knows_all(node: redis.Redis) -> bool:
    info = node.execute_command("CLUSTER INFO")
    return (
        info["cluster_state"] == "ok"
        and int(info["cluster_slots_ok"]) == SLOTS
        and int(info["cluster_known_nodes"]) == NODES
        and len(node.execute_command("CLUSTER SLOTS")) == NODES
    )


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    with cluster_of(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: Cluster) -> Cluster:
    """The worker's cluster, emptied."""
    _cluster.each(lambda node: node.flushall())
    return _cluster


@pytest.fixture
async def limited() -> AsyncGenerator[Make]:
    async with limiters(store_timeout=LONGEST_WAIT, on_store_failure="closed") as make:
        yield lambda cluster, *rates, **options: make(*rates, storage=cluster.url, **options)


@pytest.mark.parametrize("strategy", NAMES)
async def test_of_many_at_once_exactly_the_limit_is_admitted_on_every_node(
    cluster: Cluster, limited: Make, strategy: str
) -> None:
    app = limited(cluster, "7/hour", "9/day", strategy=strategy)
    for node in range(NODES):
        key = cluster.caller(node, strategy)
        answers = await asyncio.gather(*(call(app, key) for _ in range(40)))
        assert sorted(answer.status for answer in answers) == [200] * 7 + [429] * 33
        told = sorted(answer.quota[1] for answer in answers if answer.status == 200)
        assert told == list(range(7))
    for number, node in enumerate(cluster.nodes):
        keys = node.keys("*")
        assert keys, number
        assert all(node.pttl(key) > 0 for key in keys)


def _commands(node: redis.Redis) -> int:
    """Scripts that the node was asked for since its statistics were emptied, and anything that carried data."""
    stats = node.info("commandstats")
    meta = ("cluster", "command", "info", "config", "client", "hello", "ping", "select", "slowlog")
    inner = ("get", "set", "pttl", "incrby", "rename", "time", "lindex", "llen", "lpush", "ltrim", "pexpire", "del")
    names = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
    return sum(calls for name, calls in names.items() if name.partition("|")[0] not in (*meta, *inner))


@pytest.mark.parametrize("strategy", NAMES)
async def test_a_decision_is_one_command_whatever_the_number_of_windows(
    cluster: Cluster, limited: Make, strategy: str
) -> None:
    app = limited(cluster, "50/second", "70/minute", "80/hour", "90/day", strategy=strategy)
    keys = [cluster.caller(node, strategy) for node in range(NODES)]
    for key in keys:
        await call(app, key)
    cluster.each(lambda node: node.config_resetstat())
    for key in keys:
        for _ in range(5):
            assert (await call(app, key)).status == 200
    assert cluster.each(_commands) == [5] * NODES


@pytest.mark.parametrize("strategy", NAMES)
async def test_a_node_that_has_forgotten_the_script_gets_it_again(
    cluster: Cluster, limited: Make, strategy: str
) -> None:
    app = limited(cluster, "3/hour", strategy=strategy)
    for node in range(NODES):
        key = cluster.caller(node, strategy)
        for expected in (2, 1, 0):
            cluster.nodes[node].script_flush()
            assert (await call(app, key)).quota[1] == expected
        assert (await call(app, key)).status == 429


# redis-py forgets the nodes that it knew when one of them dies, without closing their connections.
@pytest.mark.filterwarnings(
    "ignore:Unclosed ClusterNode:ResourceWarning",
    "ignore:unclosed:ResourceWarning",
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning",
)
@pytest.mark.parametrize(("policy", "status"), [("closed", 503), ("open", 200), ("local", 200)])
async def test_when_a_node_dies_its_callers_get_what_the_policy_says_and_the_others_notice_nothing(
    tmp_path: Path, limited: Make, policy: str, status: int
) -> None:
    with cluster_of(tmp_path) as cluster:
        clock = FakeClock()
        options = {"strategy": "fixed-window", "store_timeout": 0.5, "on_store_failure": policy, "clock": clock}
        app = limited(cluster, "2/hour", **options)
        alive, dead = (cluster.caller(node, "fixed-window") for node in (0, 2))
        for key in (alive, dead):
            assert (await call(app, key)).status == 200
        cluster.processes[2].kill()
        began = time.monotonic()
        answers = [(await call(app, dead)).status for _ in range(4)]
        assert time.monotonic() - began < 10.0  # half a second each until the breaker opens, on a busy machine
        assert answers[:2] == [status] * 2
        assert answers[2:] == [429 if policy == "local" else status] * 2
        clock.advance(10.0)  # the breaker lets one through again
        answer = await asyncio.wait_for(call(app, alive), LONGEST_WAIT)
        assert (answer.status, answer.quota[1]) == (200, 0)


@contextmanager
def moving(cluster: Cluster) -> Generator[Callable[[], None]]:
    """Begin to move the slots of all keys of the first node to the second one. The function moves the keys."""
    source, target = cluster.nodes[0], cluster.nodes[1]
    ids = cluster.each(lambda node: node.execute_command("CLUSTER MYID"))
    slots = {key_slot(key) for key in source.keys("*")}
    for slot in slots:
        target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
        source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])

    def move() -> None:
        for key in source.keys("*"):
            source.execute_command("MIGRATE", HOST, cluster.ports[1], key, 0, 5000)

    try:
        yield move
    finally:
        cluster.each(lambda node: node.flushall())
        for slot in slots:
            for node in (source, target, cluster.nodes[2]):
                node.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[0])


@pytest.mark.parametrize("strategy", NAMES)
async def test_a_slot_that_moves_makes_no_caller_local(cluster: Cluster, limited: Make, strategy: str) -> None:
    """Ten at once, so that several connections to the target are pooled: redis-py's client fails ASK over them."""
    app = limited(cluster, "90/hour", strategy=strategy)
    key = cluster.caller(0, strategy)
    remaining = [(await call(app, key)).quota[1]]
    with moving(cluster) as move:
        if strategy != "sliding-window-counter":  # has two keys: see "What it cannot do" in docs/stores.md
            remaining += [answer.quota[1] for answer in await asyncio.gather(*(call(app, key) for _ in range(10)))]
        move()
        remaining += [answer.quota[1] for answer in await asyncio.gather(*(call(app, key) for _ in range(10)))]
    assert sorted(remaining, reverse=True) == list(range(89, 89 - len(remaining), -1))


async def test_a_slot_that_moves_costs_idempotency_no_key(cluster: Cluster) -> None:
    app, runs = counting_app()
    component = flexmw.Idempotency(storage=cluster.url, caller=lambda scope: "one")
    async with client_of(flexmw.wrap_app(app, flexmw.Envelope(), component)) as client:

        async def ask(number: int) -> int:
            return (await client.post("/", headers={"Idempotency-Key": f"k{number}"})).status_code

        assert await ask(0) == 200
        place = next(place for place, node in enumerate(cluster.nodes) if node.keys("*"))
        turned = Cluster.__new__(Cluster)
        order = [place, (place + 1) % NODES, (place + 2) % NODES]
        turned.nodes, turned.ports = [cluster.nodes[at] for at in order], [cluster.ports[at] for at in order]
        with moving(turned) as move:
            assert await asyncio.gather(*(ask(number) for number in range(8))) == [200] * 8
            move()
            assert await asyncio.gather(*(ask(number) for number in range(12))) == [200] * 12
    assert sorted(runs) == sorted(f"k{number}" for number in range(12))


def test_pace_can_share_its_state_through_a_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_registry, "TIMEOUT", LONGEST_WAIT)
    assert Pace(storage=cluster.url) is not None
    url = parse(cluster.url, "storage", schemes=["redis+cluster"])
    one, two = (PaceRegistry(url, patience=5.0, clock=FakeClock()).shared("origin and key") for _ in range(2))
    assert one is not two

    def enter(state: PaceState, now: float) -> tuple[float, Any]:
        wait = state.wait(now)
        return (wait, None) if wait else (0.0, state.start(now))

    _, flight = one.enter(enter)
    assert flight is not None
    one.record(lambda state, now: state.finish(flight, now=now, reading=RateReading(1, 0, 59.0, 60.0, 59.0)))
    assert two.enter(enter)[0] > 50
