"""`python -m examples.gateway` as a program: its ready line, its end, and what it says to bad arguments."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import openai
import pytest

import flexmw
from examples.gateway import __main__ as program
from examples.gateway.catalogue import Catalogue
from examples.gateway.processes import ROOT
from examples.gateway.serve import Backend, Running
from tests.waiting import LONGEST_WAIT, eventually


@contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The program in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.gateway", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def announced(process: subprocess.Popen[str]) -> dict[str, str]:
    """What the program says of itself when it is ready."""
    assert process.stdout is not None
    url, upstream, _, key, *_ = [process.stdout.readline().split() for _ in range(6)]
    return {"url": url[-1], "upstream": upstream[-1], "key": key[2]}


def is_listening(url: str) -> bool:
    try:
        httpx2.get(f"{url}/work", timeout=LONGEST_WAIT)
    except httpx2.ConnectError:
        return False
    except httpx2.TransportError:  # it takes the connection, and is just ending
        return True
    return True


def test_the_program_serves_and_leaves_no_orphan_however_it_ends(tmp_path: Path) -> None:
    ends = {signal.SIGTERM: 0, signal.SIGINT: 0, signal.SIGKILL: -signal.SIGKILL}
    with ExitStack() as stack:
        folders = {by: tmp_path / by.name for by in ends}
        for folder in folders.values():
            folder.mkdir()
        processes = {by: stack.enter_context(started(folder)) for by, folder in folders.items()}
        for by, process in processes.items():
            said = announced(process)
            with openai.OpenAI(base_url=f"{said['url']}/v1", api_key=said["key"], max_retries=0) as sdk:
                assert sdk.completions.create(model="alice-2gram", prompt="the Queen", max_tokens=5).choices[0].text
            assert is_listening(said["upstream"])
            process.send_signal(by)
            assert process.wait(LONGEST_WAIT) == ends[by]
            if by == signal.SIGKILL:  # a parent that is killed cannot wait for its child
                eventually(lambda: not is_listening(said["upstream"]))  # noqa: B023
            assert not is_listening(said["upstream"])
            assert process.stderr is not None
            assert process.stderr.read() == ""
            assert (folders[by] / "gateway.db").exists()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


@pytest.fixture
def _same_handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        program.main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "http"], "'http' is not a port: expected a number from 0 to 65535"),
        (["--port", "70000"], "'70000' is not a port"),
        (["--upstream", "localhost:1234"], "'localhost:1234' is not a base URL: expected one such as http://"),
        (["--timeout", "soon"], "'soon' is not a number of seconds"),
        (["--timeout", "inf"], "'inf' is not a number of seconds"),
        (["--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_a_bad_argument_is_named(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert words in complaint(capsys, *arguments)


@pytest.mark.usefixtures("_same_handlers")
def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str], taken_port: int) -> None:
    assert f"port {taken_port}: Address already in use; choose another" in complaint(capsys, "--port", str(taken_port))


@pytest.mark.usefixtures("_same_handlers")
@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("mysql://localhost", "expected sqlite:///gateway.db"),
        ("sqlite:///no/such/folder/gateway.db", "unable to open database file"),
        ("redis://127.0.0.1:1", "expected the URL of a redis server that runs"),
    ],
)
def test_a_storage_that_cannot_work_is_named(
    capsys: pytest.CaptureFixture[str], models: Backend, storage: str, words: str
) -> None:
    said = complaint(capsys, "--port", "0", "--upstream", models.url, "--storage", storage)
    assert f"storage {storage}: " in said
    assert words in said


@pytest.mark.usefixtures("_same_handlers")
def test_an_upstream_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/gateway.db"
    said = complaint(capsys, "--port", "0", "--upstream", "http://127.0.0.1:1/v1/", "--storage", storage)
    assert "upstream http://127.0.0.1:1 " in said


@pytest.mark.usefixtures("_same_handlers")
def test_an_upstream_that_wants_a_key_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, running: Running
) -> None:
    storage = f"sqlite:///{tmp_path}/gateway.db"
    said = complaint(capsys, "--port", "0", "--upstream", running.url, "--storage", storage)
    assert "does not accept the gateway's own key" in said


@pytest.mark.parametrize("listing", [None, [], {"data": None}, {"data": [{"name": "m"}]}, {"data": ["m"]}])
def test_an_upstream_that_lists_no_models_is_a_bad_setting(listing: object) -> None:
    with pytest.raises(flexmw.ConfigError, match="GET /v1/models"):
        Catalogue(store=None).stock(listing)  # type: ignore[arg-type]
