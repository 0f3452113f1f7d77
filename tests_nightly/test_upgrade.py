"""Workers of an earlier version beside workers of this one, on one redis: a deployment that is upgraded while it runs.

The earlier version is the revision that has written ``tests/upgrade/written``; git unpacks it.
"""
# ruff: noqa: S101, S603, S607

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import httpx2
import pytest

from tests.processes import Program
from tests.servers import redis_binary, redis_process, skip_unless
from tests.waiting import LONGEST_WAIT

ROOT = Path(__file__).parents[1]
WRITTEN = ROOT / "tests" / "upgrade" / "written"
PAIRS = [("old", "new"), ("new", "old")]


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the earlier flexmw."""
    revision = json.loads(WRITTEN.joinpath("version.json").read_text(encoding="utf-8"))["revision"]
    archive = subprocess.run(["git", "archive", revision, "flexmw"], cwd=ROOT, capture_output=True, check=False)
    skip_unless(archive.returncode == 0, f"a clone with the revision {revision}")
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def workers(earlier: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The URLs of one worker of each version, which share a redis."""
    binary = redis_binary()
    skip_unless(binary, "redis-server")
    with ExitStack() as stack:
        server = stack.enter_context(redis_process(str(binary), tmp_path_factory.mktemp("redis")))
        urls: dict[str, str] = {}
        for name, tree in (("old", earlier), ("new", ROOT)):
            command = [sys.executable, str(ROOT / "tests" / "upgrade" / "worker.py"), server.url]
            environ = {**os.environ, "PYTHONPATH": str(tree)}
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tree, env=environ
            )
            program = Program(process)
            stack.callback(program.kill)
            port, _, path = program.receive().partition(" ")
            assert Path(path) == tree / "flexmw"
            urls[name] = f"http://127.0.0.1:{port}"
        yield urls


@pytest.fixture
def client() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=LONGEST_WAIT, headers={"authorization": "Bearer sk-one"}) as client:
        yield client


def post(client: httpx2.Client, url: str, key: str, **headers: str) -> httpx2.Response:
    return client.post(url, json={"n": 1}, headers={"idempotency-key": key, **headers})


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("path", ["/orders", "/stream"])
def test_one_version_replays_what_the_other_has_executed(
    workers: dict[str, str], client: httpx2.Client, first: str, second: str, path: str
) -> None:
    key = f"replay-{first}-{path.strip('/')}"
    one, other = (post(client, f"{workers[name]}{path}", key) for name in (first, second))
    assert (one.status_code, one.content) == (200, other.content), one.text
    assert other.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_one_version_continues_the_stream_of_the_other(
    workers: dict[str, str], client: httpx2.Client, first: str, second: str
) -> None:
    key = f"stream-{first}"
    whole = post(client, f"{workers[first]}/stream", key)
    field = f"{whole.headers['idempotent-stream']};from=100"
    rest = post(client, f"{workers[second]}/stream", key, **{"idempotent-stream": field})
    assert (rest.status_code, rest.content) == (200, whole.content[100:])


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_one_version_knows_what_the_other_executes_now(
    workers: dict[str, str], client: httpx2.Client, first: str, second: str
) -> None:
    key = f"running-{first}"
    request = client.build_request("POST", f"{workers[first]}/stream", json={"n": 1}, headers={"idempotency-key": key})
    running = client.send(request, stream=True)
    duplicate = post(client, f"{workers[second]}/stream", key)
    running.read()
    assert duplicate.status_code == 409 or duplicate.content == running.content


def test_no_key_is_executed_twice_when_both_versions_are_asked_at_once(
    workers: dict[str, str], client: httpx2.Client
) -> None:
    def ask(number: int) -> str:
        name = "old" if number % 2 else "new"
        while True:
            response = post(client, f"{workers[name]}/orders", f"race-{number // 4}")
            if response.status_code != 409:
                assert response.status_code == 200, response.text
                return str(response.json()["id"])

    with ThreadPoolExecutor(16) as pool:
        responses = Counter(pool.map(ask, range(200)))
    assert sorted(responses.values()) == [4] * 50


def test_both_versions_count_to_one_limit(workers: dict[str, str], client: httpx2.Client) -> None:
    names = cycle(workers)
    statuses = [client.post(f"{workers[next(names)]}/limited", json={}).status_code for _ in range(14)]
    assert statuses == [200] * 10 + [429] * 4
