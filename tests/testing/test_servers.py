"""The fixtures that other tests stand on."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry import metrics, trace
from opentelemetry._logs import LogRecord, get_logger
from opentelemetry.sdk.metrics.export import NumberDataPoint

from tests.conftest import Telemetry
from tests.servers import Child, Serve, granian_server, redis_binary, redis_process, skip_unless, uvicorn_server
from tests.testing.clients import plain_client
from tests.testing.hello_app import app
from tests.waiting import LONGEST_WAIT


def ask(url: str) -> dict[str, Any]:
    with plain_client() as client:
        answer: dict[str, Any] = client.post(f"{url}/hello", content=b"hi").json()
        return answer


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize(("lifespan", "state"), [("on", "begun"), ("off", "never begun")])
def test_uvicorn_serves_an_app_with_and_without_a_lifespan(
    http: Any, lifespan: Any, state: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.testing.hello_app._state", {"lifespan": "never begun"})
    served = serve(app, http=http, lifespan=lifespan)
    assert ask(served.url) == {"path": "/hello", "body": "hi", "lifespan": state}


def test_leaving_uvicorn_ends_the_lifespan_and_frees_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"lifespan": "never begun"}
    monkeypatch.setattr("tests.testing.hello_app._state", state)
    with uvicorn_server(app, lifespan="on") as served, plain_client() as client:
        assert client.post(served.url, content=b"").status_code == 200  # and keeps its connection
    assert state == {"lifespan": "ended"}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port))


def test_an_app_whose_startup_fails_is_an_error_of_the_test() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="uvicorn did not start"), uvicorn_server(broken, lifespan="on"):
        pass


def test_hypercorn_serves_an_app(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_unless(importlib.util.find_spec("hypercorn"), "hypercorn")
    monkeypatch.setattr("tests.testing.hello_app._state", {"lifespan": "never begun"})
    served = serve(app, server="hypercorn")
    assert ask(served.url) == {"path": "/hello", "body": "hi", "lifespan": "begun"}


def test_granian_serves_an_app_from_a_child_process(tmp_path: Path) -> None:
    skip_unless(importlib.util.find_spec("granian"), "granian")
    with granian_server("tests.testing.hello_app:app", tmp_path) as child:
        assert ask(child.url) == {"path": "/hello", "body": "hi", "lifespan": "begun"}
    assert child.process.poll() is not None


def test_redis_is_real_and_empty_for_every_test(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        script = client.register_script("return redis.call('SET', KEYS[1], 'x')")
        assert script(keys=["left-behind"]) == b"OK"


def test_redis_was_emptied(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("left-behind", "y", nx=True)
        assert client.get("left-behind") == b"y"


def test_a_redis_of_ones_own_can_be_frozen_and_killed(tmp_path: Path) -> None:
    binary = redis_binary()
    skip_unless(binary, "redis-server")
    with redis_process(str(binary), tmp_path) as child:
        with redis.Redis(port=child.port, socket_timeout=0.1, retry=None) as client:
            with child.frozen(), pytest.raises(redis.TimeoutError):
                client.get("a")
            client.connection_pool.disconnect()
        with redis.Redis(port=child.port) as client:
            assert client.ping()
        child.kill()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", child.port))


def test_memcached_is_real(memcached_server: Child, memcached_url: str) -> None:
    assert memcached_url == memcached_server.url
    assert memcached_server.ask(b"version").startswith(b"VERSION ")


def record(telemetry: Telemetry | None) -> None:
    tracer = trace.get_tracer("t", tracer_provider=telemetry.tracer_provider if telemetry else None)
    meter = metrics.get_meter("t", meter_provider=telemetry.meter_provider if telemetry else None)
    logger = get_logger("t", logger_provider=telemetry.logger_provider if telemetry else None)
    with tracer.start_as_current_span("work"):
        meter.create_counter("count").add(2)
        logger.emit(LogRecord(body="said", event_name="event"))


def seen(telemetry: Telemetry) -> tuple[list[str], list[tuple[str, float]], list[str | None]]:
    points = [
        (name, point.value)
        for name, metric in telemetry.metrics().items()
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint)
    ]
    names = [record.log_record.event_name for record in telemetry.logs]
    return [span.name for span in telemetry.spans], points, names


def test_providers_that_are_handed_over_record_and_the_global_ones_do_not(in_memory_telemetry: Telemetry) -> None:
    record(in_memory_telemetry)
    assert seen(in_memory_telemetry) == (["work"], [("count", 2)], ["event"])
    assert in_memory_telemetry.metrics() == {}  # differences: nothing new since


@pytest.mark.parametrize("turn", [1, 2])
def test_the_global_providers_are_empty_at_the_start_of_every_test(global_telemetry: Telemetry, turn: int) -> None:
    assert seen(global_telemetry) == ([], [], [])
    record(None)
    assert seen(global_telemetry) == (["work"], [("count", 2)], ["event"])


@pytest.mark.anyio
async def test_async_tests_run_on_both_backends(anyio_backend_name: str) -> None:
    import sniffio

    assert sniffio.current_async_library() == anyio_backend_name


CHILD = """
import threading
from tests.servers import skip_unless

def test_one():
    skip_unless(None, "a dragon")

def test_two():
    skip_unless(False, "a dragon")

def test_there():
    skip_unless("here", "nothing")

def test_leaves_a_thread():
    threading.Thread(target=threading.Event().wait, name="forgotten", daemon=True).start()
"""


def run_child(tmp_path: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parent.parent.parent
    hooks = "_no_thread_is_left, pytest_sessionfinish, pytest_terminal_summary"
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {root}\n")
    (tmp_path / "conftest.py").write_text(f"from tests.conftest import {hooks}\n")
    (tmp_path / "test_child.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    # The plugins of other packages take seconds to load.
    bare = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "CI": "", **environment}
    return subprocess.run(
        command, cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=LONGEST_WAIT, check=False
    )


def test_skips_are_counted_by_reason_and_a_thread_that_stays_fails_its_test(tmp_path: Path) -> None:
    lines = run_child(tmp_path, CHILD).stdout.splitlines()
    assert "skipped 2: needs a dragon" in lines
    assert any("threads that the test left behind: forgotten" in line for line in lines)
    assert "2 passed, 2 skipped, 1 error" in lines[-1]


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_a_skip_is_a_failure_in_ci_only(tmp_path: Path, ci: str, code: int) -> None:
    skips = "from tests.servers import skip_unless\n\ndef test_one():\n    skip_unless(None, 'a dragon')\n"
    assert run_child(tmp_path, skips, CI=ci).returncode == code
