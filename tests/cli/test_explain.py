"""``flexmw explain``: what differs from the defaults, which store, and what becomes of each status."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from flexmw.cli import main

FILE = """
[envelope]
timeout_status = 504

[ratelimit]
rates = ["10/minute"]
storage = "redis://user:sw0rdfish@127.0.0.1:1/0"
pepper = "sa1t"

[idempotency]

[retry]

[profile.prod.retry]
attempts = 5
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    tmp_path.joinpath("flexmw.toml").write_text(FILE)
    return tmp_path


def test_only_what_differs_from_the_defaults_is_shown_and_every_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "envelope(timeout_status=504)" in lines
    assert "ratelimit(rates=['10/minute'], storage='redis://***@127.0.0.1:1/0', pepper='***')" in lines
    assert "idempotency(storage='memory://')" in lines
    assert "retry()" in lines
    assert lines.index("a bare error of the app becomes") < lines.index("a call that meets this is")


def test_every_option_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--all", "--set", "ratelimit=false"]) == 0
    shown = capsys.readouterr().out
    assert "retry(attempts=3, deadline=None," in shown
    assert "pepper=None" in shown
    assert "--all" not in shown
    assert "from flexmw.toml, --set ratelimit\n" in shown


def test_file_profile_and_overrides_are_named_without_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    override = "ratelimit.storage=redis://:hunter2@127.0.0.1:1"
    assert main(["explain", "--profile", "prod", "--set", override, "--set", "retry.deadline=30"]) == 0
    shown = capsys.readouterr().out
    assert "from flexmw.toml, profile prod, --set ratelimit.storage, retry.deadline; options that have" in shown
    assert "retry(attempts=5, deadline=30)" in shown
    assert "hunter2" not in shown


def test_without_a_file_the_defaults_are_explained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.joinpath("flexmw.toml").unlink()
    assert main(["explain", "--set", "ratelimit.rates=10/minute"]) == 0
    shown = capsys.readouterr().out
    assert "from the defaults, without a file, --set ratelimit.rates; options that have" in shown
    assert "  ratelimit(rates=['10/minute'], storage='memory://')\n" in shown
    assert main(["explain", "--profile", "prod"]) == 2
    assert "--profile = 'prod': expected a file that has the profile" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [80, 100])
def test_every_line_fits_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["explain", "--all"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= columns


def test_what_depends_on_key_origins_has_a_column_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    shown = capsys.readouterr().out
    assert "POST with a key  to key_origins\n" in shown
    assert "500                   sent again  given back  given back       sent again\n" in shown
    assert "Retry(key_origins=...), which is empty: name the origins that honour Idempotency-Key" in shown
    assert main(["explain", "--json", "--set", 'retry.key_origins=["https://a.example"]']) == 0
    shown = json.loads(capsys.readouterr().out)
    by_outcome = dict(zip((row["outcome"] for row in shown["client"]), shown["client_key_origins"], strict=True))
    assert by_outcome["500"] == {"to key_origins": "sent again"}
    assert by_outcome["401"] == {"to key_origins": "given back"}
    changes = {each["name"]: each["changed"] for each in shown["components"]}
    assert changes["retry"] == ["key_origins"]
    assert changes["idempotency"] == []


def test_calls_that_nobody_has_made_are_not_logged(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):  # at which httpx2 logs each request
        assert main(["explain"]) == 0
    assert capsys.readouterr().err == ""
    assert not caplog.records
    assert all(logging.getLogger(name).propagate for name in ("flexmw", "httpx", "httpx2"))
