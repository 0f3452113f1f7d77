"""``flexmw keys``: the keys of a real store, left behind by a real stack."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import flexmw
from flexmw.cli import main
from flexmw.cli.keys import age
from flexmw.testing import FakeClock
from flexmw.testing.visit import Visit, http_scope


async def works(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture
def storage(tmp_path: Path) -> str:
    """A store in which the key ``order-1`` is done."""
    url = f"sqlite:///{tmp_path / 'keys.db'}"
    app = flexmw.wrap_app(works, flexmw.Idempotency(storage=url, labels=("key", "path")))
    visit = Visit(http_scope("POST", [(b"idempotency-key", b"order-1")]))
    anyio.run(visit.run, app)
    assert visit.status == 201
    return url


@pytest.fixture
def listed(storage: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def keys(*arguments: str) -> Any:
        assert main(["keys", "--storage", storage, "--json", *arguments]) == 0
        return json.loads(capsys.readouterr().out)

    return keys


def test_keys_are_listed_by_state_and_name(listed: Callable[..., Any]) -> None:
    assert listed() == [], "nothing runs, and nothing is unknown"
    found = listed("--state", "done")
    assert [(each["key"], each["what"], each["status"]) for each in found] == [("order-1", "POST /flexmw-check", 201)]
    assert listed("--state", "done", "--key", "order-2") == []


def test_a_table_is_for_people(storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "--storage", storage, "--state", "done"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["state", "request", "key", "claimed", "status", "id"]
    assert row.split()[:4] == ["done", "POST", "/flexmw-check", "order-1"]


def test_a_key_that_has_a_response_is_only_freed_by_force(
    storage: str, listed: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (key,) = listed("--state", "done")
    assert main(["keys", "--storage", storage, "--run", key["id"]]) == 2
    assert "force settles it" in capsys.readouterr().err
    assert main(["keys", "--storage", storage, "--run", key["id"], "--force"]) == 0
    capsys.readouterr()
    assert listed("--state", "done") == []


@pytest.mark.parametrize(
    ("option", "said"), [("--response", ""), ("--answer", "flexmw keys: --answer is now --response\n")]
)
def test_a_response_can_be_given(
    storage: str, listed: Callable[..., Any], capsys: pytest.CaptureFixture[str], option: str, said: str
) -> None:
    (key,) = listed("--state", "done")
    given = [option, key["id"], "--body", '{"id": 7}', "--status", "202", "--force"]
    assert main(["keys", "--storage", storage, *given]) == 0
    assert capsys.readouterr().err == said
    assert [each["status"] for each in listed("--state", "done")] == [202]
    visit = Visit(http_scope("POST", [(b"idempotency-key", b"order-1")]))
    anyio.run(visit.run, flexmw.wrap_app(works, flexmw.Idempotency(storage=storage)))
    assert (visit.status, visit.body) == (202, b'{"id":7}')


def test_the_store_can_come_from_the_file(storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "flexmw.toml"
    file.write_text(f'[idempotency]\nstorage = "{storage}"\n')
    assert main(["keys", "--config", str(file), "--state", "done", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["key"] == "order-1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--storage URL, or a file"),
        (["--storage", "ftp://x"], "ftp://x"),
        (["--run", "a", "--response", "b"], "one of the two"),
        (["--storage", "memory://", "--response", "a", "--body", "{"], "valid JSON"),
        (["--storage", "memory://", "--response", "a", "--status", "999"], "the status of a response"),
        (["--storage", "memory://"], "sqlite or redis"),
    ],
)
def test_what_cannot_be_done_is_named(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["keys", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_store_in_memory_is_nobody_elses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "flexmw.toml"
    file.write_text("[idempotency]\n")
    assert main(["keys", "--config", str(file)]) == 2
    assert "sqlite or redis" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named_and_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kyes.db"
    assert main(["keys", "--storage", f"sqlite:///{path}"]) == 2
    assert f"no process has kept keys in {path}" in capsys.readouterr().err
    assert not path.exists()


def test_a_store_that_does_not_respond_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"redis://user:hunter2@127.0.0.1:{taken.getsockname()[1]}"
        assert main(["keys", "--storage", url]) == 2
        assert main(["keys", "--storage", url, "--run", "a"]) == 2
    said = capsys.readouterr().err
    assert said.count("expected a store that responds (ConnectionError") == 2
    assert "hunter2" not in said


def test_keys_under_another_prefix_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'keys.db'}"
    app = flexmw.wrap_app(works, flexmw.Idempotency(storage=url, prefix="shop", labels=("key",)))
    anyio.run(Visit(http_scope("POST", [(b"idempotency-key", b"order-1")])).run, app)
    file = tmp_path / "flexmw.toml"
    file.write_text(f'[idempotency]\nstorage = "{url}"\nprefix = "shop"\n')
    for arguments in (["--config", str(file)], ["--storage", url, "--prefix", "shop"]):
        assert main(["keys", *arguments, "--state", "done", "--json"]) == 0
        assert [each["key"] for each in json.loads(capsys.readouterr().out)] == ["order-1"]


def test_a_key_without_a_label_is_found_with_the_pepper_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, file = f"sqlite:///{tmp_path / 'keys.db'}", tmp_path / "flexmw.toml"
    file.write_text(f'[idempotency]\nstorage = "{url}"\npepper = "of this deployment"\n')
    app = flexmw.Stack.load(str(file)).wrap_app(works)
    anyio.run(Visit(http_scope("POST", [(b"idempotency-key", b"order-1")])).run, app)
    assert main(["keys", "--config", str(file), "--state", "done", "--key", "order-1"]) == 0
    _, row = capsys.readouterr().out.splitlines()
    state, request, key, *_ = row.split()
    assert (state, request, key[0], len(key)) == ("done", "-", "#", 13)
    assert main(["keys", "--config", str(file), "--state", "done", "--key", key]) == 0
    assert row in capsys.readouterr().out
    assert main(["keys", "--storage", url, "--state", "done", "--key", "order-1"]) == 0
    assert "no such key in state done; is the pepper that of the app" in capsys.readouterr().out


@pytest.fixture
def three(tmp_path: Path) -> str:
    """A store with the keys ``order-1`` and ``order-2``, one of which two callers have used."""
    url = f"sqlite:///{tmp_path / 'keys.db'}"
    app = flexmw.wrap_app(works, flexmw.Idempotency(storage=url, labels=("key",)))

    async def visit() -> None:
        for key, caller in ((b"order-1", b"Bearer a"), (b"order-2", b"Bearer a"), (b"order-2", b"Bearer b")):
            await Visit(http_scope("POST", [(b"idempotency-key", key), (b"authorization", caller)])).run(app)

    anyio.run(visit)
    return url


def test_ids_are_short_and_their_beginning_is_enough(three: str, capsys: pytest.CaptureFixture[str]) -> None:
    keys = ["keys", "--storage", three]
    assert main([*keys, "--state", "done", "--json"]) == 0
    first, *shared = json.loads(capsys.readouterr().out)
    assert len(first["short_id"]) == 12
    assert first["id"].endswith(first["short_id"] + first["id"][-28:])
    assert [each["short_id"] for each in shared] == [each["id"] for each in shared], "one key of two callers"
    assert main([*keys, "--state", "done"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(f"  {first['short_id']}")
    assert main([*keys, "--run", first["short_id"][:6], "--force"]) == 0
    assert main([*keys, "--response", shared[0]["id"], "--status", "202", "--force"]) == 0
    assert main([*keys, "--run", shared[1]["id"][:-3], "--force"]) == 0
    capsys.readouterr()
    assert main([*keys, "--state", "done", "--json"]) == 0
    assert [(each["id"], each["status"]) for each in json.loads(capsys.readouterr().out)] == [(shared[0]["id"], 202)]


@pytest.mark.parametrize("option", ["--run", "--response", "--stop"])
def test_an_id_that_is_not_that_of_one_key_is_refused(
    option: str, three: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for start, words in (
        ("fle", "the id of a key, or at least 4 characters of its beginning"),
        ("flexmw:idempotency", "one key; 3 begin so: flexmw:idempotency:{"),
        ("flexmw:idempotency:nothing", "the id of a key in this store, as listed, or its beginning"),
    ):
        assert main(["keys", "--storage", three, option, start]) == 2
        assert words in capsys.readouterr().err


def test_keys_are_found_by_their_beginning(three: str, capsys: pytest.CaptureFixture[str]) -> None:
    keys = ["keys", "--storage", three, "--state", "done", "--json", "--key"]
    for text, number in (("order-*", 3), ("order-2*", 2), ("order-2", 2), ("order", 0), ("*", 3)):
        assert main([*keys, text]) == 0
        shown = capsys.readouterr().out
        assert len(json.loads(shown)) == number
    assert main(["keys", "--storage", three, "--key", "charge-*"]) == 0
    assert "where Idempotency(labels=...) keeps the keys" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h"), (3661, "1 h 1 min"), (90_000, "1 d 1 h"), (-3, "0 s")],
)
def test_an_age_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_a_table_shows_how_long_ago_each_key_was_claimed(
    storage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["keys", "--storage", storage, "--state", "done", "--json"]) == 0
    (key,) = json.loads(capsys.readouterr().out)
    monkeypatch.setattr("flexmw.cli.keys.SYSTEM", FakeClock(now=key["at"] + 7260))
    assert main(["keys", "--storage", storage, "--state", "done"]) == 0
    assert "  2 h 1 min ago  201 " in capsys.readouterr().out
