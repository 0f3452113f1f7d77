"""Keyed requests over real sockets: six faults, one execution each, and a retry that succeeds."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

import flexmw
from flexmw.envelope import Envelope
from flexmw.idempotency import Idempotency
from tests.idempotency.proxy import Fault, proxy_to
from tests.idempotency.service import Provider
from tests.servers import Serve
from tests.waiting import LONGEST_WAIT, eventually

KEY = {"Idempotency-Key": "8e03978e", "Authorization": "Bearer sk-one"}
Server = Literal["uvicorn", "hypercorn"]
SERVERS = pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])


def wrapped(host: Provider, **options: Any) -> Any:
    return Envelope().asgi(Idempotency(**options).asgi(host.app()))


def order(url: str, *, key: str = "8e03978e", token: str = "sk-one", timeout: Any = 20.0) -> httpx.Response:
    headers = {"Idempotency-Key": key, "Authorization": f"Bearer {token}"}
    return httpx.post(f"{url}/orders", json={"item": 1}, headers=headers, timeout=timeout)


@SERVERS
@pytest.mark.parametrize("fault", ["lost", "gone", "half"])
def test_a_retry_after_a_lost_response_succeeds_without_a_second_run(
    serve: Serve, server: Server, fault: Fault
) -> None:
    host = Provider(seconds=0.1)
    with proxy_to(serve(wrapped(host, wait=5.0), server=server).port, fault, begun=lambda: host.runs) as proxy:
        with pytest.raises(httpx.TransportError):
            order(proxy.url)
        retry = order(proxy.url)
    assert (retry.status_code, retry.json(), host.runs) == (200, {"run": 1}, 1)
    assert retry.headers["idempotent-replayed"] == "true"


@SERVERS
def test_a_client_that_times_out_gets_its_response_later(serve: Serve, server: Server) -> None:
    finish = threading.Event()
    host = Provider(may_finish=finish)
    url = serve(wrapped(host, wait=20.0), server=server).url
    with pytest.raises(httpx.ReadTimeout):
        order(url, timeout=httpx.Timeout(20.0, read=0.2))
    assert host.begun.wait(LONGEST_WAIT)
    finish.set()
    assert order(url, timeout=20.0).json() == {"run": 1}
    assert host.runs == 1


@SERVERS
def test_an_exception_has_the_same_response_the_first_and_every_other_time(serve: Serve, server: Server) -> None:
    host = Provider(faults=["raise"])
    url = serve(wrapped(host), server=server).url
    first, second = order(url), order(url)
    assert first.status_code == second.status_code == 500
    assert first.json() == second.json()
    assert first.headers["x-should-retry"] == second.headers["x-should-retry"] == "false"
    assert b"sk-secret" not in first.content
    assert second.headers["idempotent-replayed"] == "true"
    assert host.runs == 1


@SERVERS
def test_of_many_duplicates_at_once_one_runs_and_all_get_its_response(serve: Serve, server: Server) -> None:
    host = Provider(seconds=0.2)
    url = serve(wrapped(host, wait=10.0), server=server).url
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: order(url), range(8)))
    assert [answer.json() for answer in answers] == [{"run": 1}] * 8
    assert host.runs == 1


def test_a_duplicate_that_may_not_wait_gets_a_409_with_retry_after(serve: Serve) -> None:
    finish = threading.Event()
    host = Provider(may_finish=finish)
    url = serve(wrapped(host)).url
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(order, url)
        try:
            assert host.begun.wait(LONGEST_WAIT)
            second = order(url)
        finally:
            finish.set()
        assert (second.status_code, second.headers["retry-after"]) == (409, "1")
        assert second.json()["error"]["code"] == "idempotency_in_progress"
        assert first.result().json() == {"run": 1}


def test_callers_with_the_same_key_never_meet(serve: Serve) -> None:
    host = Provider()
    url = serve(wrapped(host)).url
    assert [order(url, token=token).json()["run"] for token in ("sk-one", "sk-two", "sk-one")] == [1, 2, 1]


def test_a_stream_reaches_the_client_while_it_is_kept(serve: Serve) -> None:
    finish = threading.Event()
    host = Provider(may_finish=finish)
    url = serve(wrapped(host)).url
    body = {"stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers=KEY, timeout=LONGEST_WAIT) as answer:
        pieces = answer.iter_raw()
        first = next(pieces)  # the app has not sent the rest
        finish.set()
        whole = first + b"".join(pieces)
    assert whole.endswith(b"data: [DONE]\n\n")
    replay = httpx.post(f"{url}/v1/chat/completions", json=body, headers=KEY, timeout=LONGEST_WAIT)
    assert replay.content == whole
    assert replay.headers["content-type"] == answer.headers["content-type"]
    assert host.runs == 1


def test_a_broken_stream_is_replayed_as_the_first_caller_saw_it(serve: Serve) -> None:
    host = Provider(faults=["raise"])
    url = serve(wrapped(host)).url
    answers = [
        httpx.post(f"{url}/v1/chat/completions", json={"stream": True}, headers=KEY, timeout=LONGEST_WAIT).content
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert b'"error"' in answers[0]
    assert b"sk-secret" not in answers[0]
    assert host.runs == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(flexmw.JobNotFound, "job_not_found"), (lambda: TimeoutError("x"), "upstream_timeout")],
)
def test_what_an_app_raises_is_replayed_with_its_own_code(
    serve: Serve, error: Callable[[], Exception], code: str
) -> None:
    host = Provider()
    app = host.app()

    @app.post("/raise")
    async def _() -> None:
        host.next()
        raise error()

    url = serve(Envelope().asgi(Idempotency().asgi(app))).url
    first, second = (httpx.post(f"{url}/raise", headers=KEY, timeout=LONGEST_WAIT) for _ in range(2))
    assert first.json()["error"]["code"] == code
    assert second.json() == first.json()
    assert second.status_code == first.status_code
    assert host.runs == 1


_APP = """
import asyncio, os, sys
from pathlib import Path
from flexmw.idempotency import Idempotency

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await receive()
    with Path(os.environ["RUNS"]).open("a") as runs:
        runs.write("run\\n")
    if scope["path"] == "/slow":
        await asyncio.sleep(60)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})

app = Idempotency(storage=os.environ["STORAGE"], lease=1.0).asgi(app)
"""


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_killed_worker_leaves_the_key_unknown_and_kept_responses_in_place(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/keys.db" if kind == "sqlite" else request.getfixturevalue("redis_url")
    (tmp_path / "killed.py").write_text(_APP)
    runs = tmp_path / "runs.txt"

    def start() -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "uvicorn", "killed:app", "--port", "0", "--app-dir", str(tmp_path)]
        environment = {"RUNS": str(runs), "STORAGE": url, "PYTHONPATH": str(Path(flexmw.__file__).parent.parent)}
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert child.stderr is not None
        for line in child.stderr:
            if "running on" in line:
                return child, line.split("running on ")[1].split()[0]
        raise AssertionError("the server did not start")

    def post(at: str, path: str) -> httpx.Response:
        return httpx.post(at + path, headers={"Idempotency-Key": f'"{path}"', "Host": "service"}, timeout=LONGEST_WAIT)

    def lost(at: str, path: str) -> None:
        with pytest.raises(httpx.TransportError):
            post(at, path)

    child, at = start()
    with child:
        assert post(at, "/fast").content == b"done"
        slow = threading.Thread(target=lost, args=(at, "/slow"))
        slow.start()
        while runs.read_text().count("run") < 2:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        slow.join(LONGEST_WAIT)
    child, at = start()
    with child:
        try:

            def given_up() -> httpx.Response | None:
                response = post(at, "/slow")
                code = response.json()["error"]["code"]
                assert code in ("idempotency_in_progress", "idempotency_unknown")
                return response if code == "idempotency_unknown" else None

            answer = eventually(given_up)
            assert (answer.status_code, answer.headers["x-should-retry"]) == (409, "false")
            assert post(at, "/fast").headers["idempotent-replayed"] == "true"
        finally:
            child.send_signal(signal.SIGKILL)
    assert runs.read_text().count("run") == 2


def test_no_task_is_left_behind(serve: Serve) -> None:
    host = Provider(seconds=0.1)
    tasks: list[set[str]] = []
    app = wrapped(host, wait=20.0)

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/tasks":
            tasks.append({task.get_name() for task in asyncio.all_tasks()})
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
        else:
            await app(scope, receive, send)

    with proxy_to(serve(counting).port, "pass", "gone", "lost", "half", begun=lambda: host.runs) as proxy:
        httpx.get(f"{proxy.url}/tasks", timeout=LONGEST_WAIT)
        for number in range(3):
            with pytest.raises(httpx.TransportError):
                order(proxy.url, key=f"k{number}")
        assert [order(proxy.url, key=f"k{number}").status_code for number in range(3)] == [200] * 3

        def none_left() -> bool:
            httpx.get(f"{proxy.url}/tasks", timeout=LONGEST_WAIT)
            return len(tasks[-1]) == len(tasks[0])

        eventually(none_left)  # the task of a response may outlive the response for a moment
