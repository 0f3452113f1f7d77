"""What one request costs, by counts that no load of a machine moves: the paths keep the bounds of one table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bounds import BOUNDS, PLAIN, excesses
from tests.servers import Child

Costs = dict[tuple[str, str], dict[str, float]]

REDIS = "POST on redis"


def counted(*choice: str) -> Costs:
    """Counted in a process of its own: no coverage, no plugin of pytest, nothing that another test has left."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cost", "--json", *choice],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return {(group, name): cost for group, name, cost in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def costs() -> Costs:
    return counted("--no-redis")


@pytest.fixture(scope="module")
def redis_costs(redis_server: Child) -> Costs:
    return counted(REDIS, "--redis", redis_server.url)


def paths(*, on_redis: bool) -> pytest.MarkDecorator:
    chosen = [path for path in BOUNDS if (path[0] == REDIS) is on_redis]
    return pytest.mark.parametrize("path", chosen, ids=[", ".join(path) for path in chosen])


def check(costs: Costs, path: tuple[str, str]) -> None:
    found = excesses(*path, costs[path], costs[path[0], "plain"], sys.version_info[:2])
    assert not found, "\n".join(found)


@paths(on_redis=False)
def test_a_request_costs_no_more_than_its_bound(costs: Costs, path: tuple[str, str]) -> None:
    check(costs, path)


@paths(on_redis=True)
def test_a_request_on_redis_costs_no_more_than_its_bound(redis_costs: Costs, path: tuple[str, str]) -> None:
    check(redis_costs, path)


def test_every_path_has_a_bound(costs: Costs) -> None:
    unbounded = {"plain", "a trace callback"}
    assert {path for path in costs if path[1] not in unbounded} == {path for path in BOUNDS if path[0] != REDIS}


@pytest.mark.parametrize("measure", ["bytecodes", "peak_bytes", "commands", "commits", "tasks", "threads", "spans"])
def test_a_passed_bound_names_path_measure_value_and_command(measure: str) -> None:
    group, name = "POST on memory", "first execution"
    bound = BOUNDS[group, name]._asdict()
    plain = dict.fromkeys(bound, 0.0) | {"bytecodes": PLAIN[group], "peak_bytes": 7_000}
    kept = {each: value + plain[each] for each, value in bound.items()}
    assert excesses(group, name, kept, plain, (3, 11)) == []
    (message,) = excesses(group, name, kept | {measure: kept[measure] + 100_000}, plain, (3, 11))
    assert message.startswith(f"{group}, {name}: {measure} = {bound[measure] + 100_000:,}, bound {bound[measure]:,}")
    assert f"python -m benchmarks.cost --profile '{group}' '{name}'" in message


def test_other_versions_of_python_are_held_to_the_share_of_the_plain_request() -> None:
    group, name = "GET", "Envelope"
    bound = BOUNDS[group, name]._asdict()
    plain = dict.fromkeys(bound, 0.0) | {"bytecodes": 2.0 * PLAIN[group]}
    cost = bound | {"bytecodes": plain["bytecodes"] + 2.0 * bound["bytecodes"]}
    assert excesses(group, name, cost, plain, (3, 14)) == []
    assert len(excesses(group, name, cost | {"bytecodes": cost["bytecodes"] * 1.3}, plain, (3, 14))) == 1
