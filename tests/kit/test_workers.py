"""Memory in one of several processes is noticed, whichever server runs them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import flexmw
from flexmw.kit import workers as module
from flexmw.kit.workers import Workers, workers
from tests.ratelimit.calls import answering
from tests.servers import ROOT
from tests.waiting import LONGEST_WAIT


def called_by(server: str, call: Any, **names: Any) -> Any:
    """Call a function from a frame of a server's module in which these names are local variables."""
    parameters = ", ".join(names)
    scope: dict[str, Any] = {"__name__": f"{server}.module", "call": call}
    exec(f"def serve({parameters}):\n    return call()", scope)
    return scope["serve"](**names)


@pytest.fixture(autouse=True)
def nothing_logged_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_warned", set())
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)


@pytest.mark.parametrize(
    ("server", "names"),
    [
        ("uvicorn", {"self": SimpleNamespace(config=SimpleNamespace(workers=4))}),
        ("gunicorn", {"self": SimpleNamespace(cfg=SimpleNamespace(workers=4))}),
        ("hypercorn", {"config": SimpleNamespace(workers=4)}),
        ("granian", {"self": SimpleNamespace(workers=4)}),
    ],
)
def test_a_server_says_how_many_processes_it_runs(server: str, names: dict[str, Any]) -> None:
    assert called_by(server, workers, **names) == Workers(4, server)
    assert called_by("mine", workers, **names) is None


def test_one_process_of_a_server_is_one_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    one = SimpleNamespace(config=SimpleNamespace(workers=1))
    assert called_by("uvicorn", workers, self=one) is None
    assert workers() == Workers(4, "WEB_CONCURRENCY")
    for value in ("1", "0", "", "many"):
        monkeypatch.setenv("WEB_CONCURRENCY", value)
        assert workers() is None


def test_a_server_inside_a_process_of_another_one_does_not_hide_the_processes() -> None:
    inner = SimpleNamespace(config=SimpleNamespace(workers=1))
    outer = SimpleNamespace(cfg=SimpleNamespace(workers=4))
    assert called_by("gunicorn", lambda: called_by("uvicorn", workers, self=inner), self=outer) == Workers(
        4, "gunicorn"
    )


@pytest.mark.parametrize("component", [lambda: flexmw.RateLimit("1/minute"), flexmw.Idempotency])
def test_memory_in_one_of_several_processes_is_logged_once(
    component: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    component().asgi(answering())
    assert not caplog.records
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    component().asgi(answering())
    component().asgi(answering())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "there are 3 of them (WEB_CONCURRENCY)" in record.getMessage()
    assert "storage='redis://" in record.getMessage()


def test_a_store_that_processes_share_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    flexmw.Idempotency(storage=f"sqlite:///{tmp_path}/keys.db").asgi(answering())
    flexmw.RateLimit("1/minute", storage="redis://127.0.0.1:1", on_store_failure="open").asgi(answering())
    assert not [record for record in caplog.records if "memory://" in record.getMessage()]


def test_uvicorn_with_two_workers_says_it(tmp_path: Any) -> None:
    (tmp_path / "served.py").write_text(
        "import flexmw\n"
        "async def framework(scope, receive, send):\n"
        "    raise SystemExit\n"
        "app = flexmw.RateLimit('1/minute').asgi(framework)\n"
    )
    command = [sys.executable, "-m", "uvicorn", "served:app", "--workers", "2", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = next((line for line in process.stderr if "memory://" in line), "")
    finally:
        process.terminate()
        process.communicate(timeout=LONGEST_WAIT)
    assert "there are 2 of them (uvicorn)" in line
