"""``flexmw run``: a real server process around an app that knows nothing of flexmw."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from flexmw.cli import main
from flexmw.cli.run import imported
from tests.waiting import LONGEST_WAIT

ROOT = Path(__file__).parents[2]

APP = """
from fastapi import FastAPI

app = FastAPI()
not_an_app = 3

USERS = {"sk-free": "ada", "wo0dpecker": "bob"}

def make():
    return FastAPI(root_path="/made")

def users():
    return USERS

async def coming():
    return app

def needs(something):
    return app
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    name = f"served_{tmp_path.name.replace('-', '_')}"
    tmp_path.joinpath(f"{name}.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def module(folder: Path) -> str:
    return next(folder.glob("served_*.py")).stem


@contextmanager
def running(folder: Path, *arguments: str) -> Generator[str]:
    """The URL of ``flexmw run`` on a free port; ended, and waited for, with the block."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "flexmw", "run", *arguments, "--port", "0"],
        cwd=folder,
        env=environ,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    try:
        seen = ""
        for line in process.stderr:
            seen += line
            if found := re.search(r"running on (http://\S+)", line):
                break
        else:
            pytest.fail(f"flexmw run ended: {seen}")
        yield found[1]
    finally:
        process.terminate()
        process.communicate(timeout=LONGEST_WAIT)


def test_an_untouched_app_keeps_the_contract(folder: Path) -> None:
    with running(folder, f"{module(folder)}:app") as url:
        response = httpx2.get(f"{url}/nowhere", trust_env=False, timeout=LONGEST_WAIT)
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert response.headers["x-request-id"]


def test_a_factory_is_called_and_the_file_of_the_folder_is_read(folder: Path) -> None:
    folder.joinpath("flexmw.toml").write_text('[envelope]\n\n[ratelimit]\nrates = ["1/minute"]\n')
    with running(folder, f"{module(folder)}:make") as url:
        statuses = [httpx2.get(f"{url}/nowhere", trust_env=False, timeout=LONGEST_WAIT).status_code for _ in range(2)]
    assert statuses == [404, 429]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("served", "module:attribute, such as 'main:app'"),
        ("no_such_module_at_all:app", "a module that can be imported"),
        ("{}:qqqq", "('qqqq' is missing)"),
        ("{}:ap", "'ap' is missing; did you mean 'app'?)"),
        ("{}:not_an_app", "an ASGI app, or a function that makes one; this is a value of type int"),
    ],
)
def test_what_is_no_app_is_refused(folder: Path, target: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", target.format(module(folder))]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("USERS", "this is a value of type dict"),
        ("users", "it returns a value of type dict"),
        ("users()", "it returns a value of type dict"),
        ("coming", "it returns a value of type coroutine"),
        ("USERS.sk", "'sk' is missing"),
    ],
)
def test_no_message_shows_a_value_of_the_module(
    folder: Path, attribute: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uvicorn.run", lambda *given, **options: pytest.fail("it is served"))
    assert main(["run", f"{module(folder)}:{attribute}"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert not [secret for secret in ("sk-free", "ada", "wo0dpecker", "bob") if secret in error]


def test_keys_in_the_memory_of_several_processes_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[int] = []
    monkeypatch.setattr("uvicorn.run", lambda *given, workers, **options: served.append(workers))
    file = folder / "flexmw.toml"
    run = ["run", f"{module(folder)}:app", "--workers"]
    file.write_text("[idempotency]\n")
    assert main([*run, "3"]) == 2
    assert "--workers = 3: expected 1, or [idempotency] with a store that all" in capsys.readouterr().err
    assert main([*run, "1"]) == 0
    file.write_text('[idempotency]\nstorage = "sqlite:///keys.db"\n')
    assert main([*run, "3"]) == 0
    file.write_text('[ratelimit]\nrates = ["1/minute"]\n')
    assert main([*run, "2"]) == 0
    assert served == [1, 3, 2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "99999"], "--port = 99999: expected a port from 1 to 65535, or 0 for a free one"),
        (["--port", "-1"], "--port = -1: expected a port"),
        (["--workers", "0"], "--workers = 0: expected at least 1 process"),
    ],
)
def test_a_port_or_number_of_processes_that_cannot_be_is_refused(
    folder: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uvicorn.run", lambda *given, **options: pytest.fail("it is served"))
    assert main(["run", f"{module(folder)}:app", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_port_that_is_taken_is_a_2_like_all_that_could_not_be_done(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        arguments = [sys.executable, "-m", "flexmw", "run", f"{module(folder)}:app", "--port", port]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            arguments, cwd=folder, env=environ, capture_output=True, text=True, timeout=LONGEST_WAIT, check=False
        )
    assert done.returncode == 2
    assert "address already in use" in done.stderr


def test_a_file_that_does_not_fit_is_refused_before_anything_is_served(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "wrong.toml"
    file.write_text("[envelope]\nnull_parm = true\n")
    assert main(["run", f"{module(folder)}:app", "--config", str(file)]) == 2
    error = capsys.readouterr().err
    assert f"{file}, line 2" in error
    assert "null_parm" in error


def test_an_import_that_fails_inside_the_app_is_the_apps_own_error(folder: Path) -> None:
    folder.joinpath("served_broken.py").write_text("import a_module_that_is_not_there\n")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        imported("served_broken:app")


def test_without_uvicorn_the_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["run", f"{module(folder)}:app"]) == 2
    assert "pip install 'flexmw[cli]'" in capsys.readouterr().err


def test_explain_shows_what_the_file_makes_of_each_status(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.joinpath("flexmw.toml").write_text("[envelope]\ntimeout_status = 504\n\n[retry]\nattempts = 1\n")
    assert main(["explain", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in shown["components"]] == ["envelope", "retry"]
    becomes = {row["status"]: (row["becomes"], row["code"]) for row in shown["server"]}
    assert becomes["401"] == ("401", "invalid_api_key")
    assert becomes["a timeout is raised"] == ("504", "upstream_timeout")
    assert becomes["any other exception"] == ("500", "internal_error")
    assert {row["GET"] for row in shown["client"]} == {"given back"}


def test_explain_shows_what_is_sent_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.joinpath("flexmw.toml").write_text('[retry]\nkey_origins = ["https://api.invalid"]\n')
    assert main(["explain", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["server"] == []
    rows = {row.pop("outcome"): row for row in shown["client"]}
    assert rows["500"] == {"GET": "sent again", "POST": "given back", "POST with a key": "sent again"}
    assert set(rows["429"].values()) == set(rows["no connection"].values()) == {"sent again"}
    assert set(rows["401"].values()) == {"given back"}


def test_explain_waits_on_a_simulated_clock(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    folder.joinpath("flexmw.toml").write_text("[retry]\n\n[pace]\n")
    assert main(["explain", "--json"]) == 0
    rows = {row["outcome"]: row for row in json.loads(capsys.readouterr().out)["client"]}
    assert rows["503 with Retry-After"]["POST"] == "sent again"
    assert waits == []


def test_explain_masks_secrets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.joinpath("flexmw.toml").write_text(
        '[ratelimit]\nrates = ["1/minute"]\nstorage = "redis://user:sw0rdfish@127.0.0.1:1/0"\n'
    )
    assert main(["explain"]) == 0
    shown = capsys.readouterr().out
    assert "ratelimit(" in shown
    assert "sw0rdfish" not in shown
