"""``flexmw plugins`` in this process, with distributions that a test declares."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from flexmw.cli import main
from flexmw.idempotency.stores.open import installed_stores
from flexmw.ratelimit.usage_readers import load_reader
from flexmw.registry import dialects, installed
from tests.plugins.conftest import Declared
from tests.waiting import LONGEST_WAIT

GOOD = """
from typing import ClassVar
import flexmw
class Thing:
    name, api, order = "acme.thing", 1, flexmw.Order()
    def __init__(self, *, size: int, word: str = "x") -> None: ...
    def asgi(self, app): return app
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Declared]:
    monkeypatch.syspath_prepend(str(tmp_path))
    installed.cache_clear()
    dialects.cache_clear()
    installed_stores.cache_clear()
    yield Declared(tmp_path)
    installed.cache_clear()
    dialects.cache_clear()
    installed_stores.cache_clear()
    for name in [name for name in sys.modules if name.startswith("acme_cli_")]:
        del sys.modules[name]


def test_a_table_and_the_built_in_names(here: Declared, capsys: pytest.CaptureFixture[str]) -> None:
    here.add("acme-thing", "acme.thing", "acme_cli_thing:Thing")
    assert main(["plugins"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "built in: tagging, envelope, ratelimit, idempotency, pace, retry"
    assert any(line.split() == ["acme.thing", "acme_cli_thing:Thing", "acme-thing", "0.1"] for line in lines)
    assert "acme_cli_thing" not in sys.modules


def test_load_names_the_broken_and_keeps_the_good(here: Declared, capsys: pytest.CaptureFixture[str]) -> None:
    here.add("acme-thing", "acme.thing", "acme_cli_good:Thing", source=GOOD)
    assert main(["plugins", "--load"]) == 0
    here.add("acme-broken", "acme.broken", "acme_cli_broken:Thing", source="1 / 0\n")
    installed.cache_clear()
    capsys.readouterr()
    assert main(["plugins", "--load", "--json"]) == 1
    faults = {each["name"]: each["fault"] for each in json.loads(capsys.readouterr().out)}
    assert faults["acme.thing"] is None
    assert "failed to import: ZeroDivisionError" in faults["acme.broken"]


def test_stores_are_listed_by_the_scheme_of_their_urls(here: Declared, capsys: pytest.CaptureFixture[str]) -> None:
    here.add("acme-store", "acme", "acme_cli_store:open_url", group="flexmw.stores")
    assert main(["plugins", "--stores"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("built in: memory, sqlite, redis")
    assert lines[-1].split() == ["acme", "acme_cli_store:open_url", "acme-store", "0.1"]
    assert main(["plugins", "--stores", "--load"]) == 1
    assert "broken: plugin 'acme' (acme_cli_store:open_url, from acme-store 0.1)" in capsys.readouterr().out


def test_readers_of_usage_are_listed_and_loaded_by_name(here: Declared, capsys: pytest.CaptureFixture[str]) -> None:
    source = (
        "class Reader:\n    marker = b''\n"
        "    def read(self, value, usage): return usage\n"
        "    def has_output(self, data): return True\n"
        "    def estimate(self, value, path): ...\n"
    )
    here.add("acme-usage", "acme", "acme_cli_usage:Reader", source=source, group="flexmw.usage")
    assert main(["plugins", "--usage", "--load"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "built in: openai, anthropic, google, cohere, bedrock"
    assert lines[-1].split() == ["acme", "acme_cli_usage:Reader", "acme-usage", "0.1"]
    assert type(load_reader("acme", "usage")).__name__ == "Reader"
    here.add("acme-bad", "bad", "acme_cli_bad:Thing", source="class Thing: ...\n", group="flexmw.usage")
    here.add("acme-own", "openai", "acme_cli_own:Thing", source="class Thing: ...\n", group="flexmw.usage")
    assert main(["plugins", "--usage", "--load"]) == 1
    out = capsys.readouterr().out
    assert "lacks a member of flexmw.ratelimit.UsageReader" in out
    assert "has the name of a built-in reader" in out


def test_the_schema_leaves_the_broken_out_and_says_so(here: Declared, capsys: pytest.CaptureFixture[str]) -> None:
    here.add("acme-thing", "acme.thing", "acme_cli_sized:Thing", source=GOOD)
    here.add("acme-broken", "acme.broken", "acme_cli_away:Thing")
    assert main(["schema"]) == 1
    shown = capsys.readouterr()
    properties = json.loads(shown.out)["properties"]
    assert properties["acme.thing"]["required"] == ["size"]
    assert "acme.broken" not in properties
    assert "left out: plugin 'acme.broken'" in shown.err


def test_a_reader_that_leaves_early_is_no_crash() -> None:
    command = f"{sys.executable} -m flexmw explain | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=LONGEST_WAIT, check=False)
    assert done.stdout == "server, outermost first\n"
    assert "Traceback" not in done.stderr


def test_load_tries_dialects_too(here: Declared, capsys: pytest.CaptureFixture[str]) -> None:
    good = "from flexmw.envelope import OpenAI\n"
    here.add("acme-good", "acme.good", "acme_cli_same:OpenAI", source=good, group="flexmw.dialects")
    assert main(["plugins", "--dialects", "--load"]) == 0
    here.add("acme-away", "acme.away", "acme_cli_no_such:Thing", group="flexmw.dialects")
    dialects.cache_clear()
    capsys.readouterr()
    assert main(["plugins", "--dialects", "--load"]) == 1
    broken = "broken: plugin 'acme.away' (acme_cli_no_such:Thing, from acme-away 0.1): failed to import"
    assert broken in capsys.readouterr().out


def test_load_flags_names_that_no_application_can_use(here: Declared, capsys: pytest.CaptureFixture[str]) -> None:
    here.add("acme-thing", "acme.thing", "acme_cli_named:Thing", source=GOOD)
    here.add("acme-evil", "envelope", "acme_cli_evil:Thing", source="raise SystemExit('taken over')\n")
    here.add("acme-bare", "acmebad", "acme_cli_bare:Thing", source=GOOD)
    here.add("acme-other", "acme.other", "acme_cli_other:Thing", source=GOOD)
    misspelt = GOOD.replace("acme.thing", "acme.misspelt").replace("flexmw.Order()", "flexmw.Order(after=('envelop',))")
    here.add("acme-misspelt", "acme.misspelt", "acme_cli_misspelt:Thing", source=misspelt)
    assert main(["plugins", "--load", "--json"]) == 1
    faults = {each["name"]: each["fault"] for each in json.loads(capsys.readouterr().out)}
    assert faults["acme.thing"] is None
    assert "from acme-evil 0.1): has the name of a built-in component and is ignored" in faults["envelope"]
    assert "has a name without a dot, and those are flexmw's own" in faults["acmebad"]
    assert "names a component that calls itself 'acme.thing'" in faults["acme.other"]
    assert "did you mean 'envelope'?" in faults["acme.misspelt"]


def test_load_flags_stores_that_no_url_can_name(here: Declared, capsys: pytest.CaptureFixture[str]) -> None:
    source = "def open_url(url, options): ...\n"
    for scheme, module in (("acme", "good"), ("redis", "evil"), ("acme_store", "odd"), ("Acme", "upper")):
        target = f"acme_cli_{module}_store:open_url"
        here.add(f"acme-{module}", scheme, target, source=source, group="flexmw.stores")
    assert main(["plugins", "--stores", "--load", "--json"]) == 1
    faults = {each["name"]: each["fault"] for each in json.loads(capsys.readouterr().out)}
    assert faults["acme"] is None
    assert "has the scheme of a built-in store and is ignored" in faults["redis"]
    assert all("is no URL scheme in lower case" in faults[name] for name in ("acme_store", "Acme"))
