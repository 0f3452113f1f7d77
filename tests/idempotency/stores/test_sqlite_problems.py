"""A file that a sqlite store cannot use is named with what would be right."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import flexmw
from flexmw.idempotency import open_store
from flexmw.idempotency.stores.sqlite_problems import expected_of


def fault(path: Path) -> str:
    with pytest.raises(flexmw.ConfigError) as caught:
        open_store(f"sqlite:///{path}")
    return str(caught.value)


def test_a_file_that_is_no_database_is_named_without_advice_about_permissions(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("what is written here is no database, and it is long enough to be read as one\n" * 20)
    assert "this file holds something else (file is not a database). Name another file" in fault(path)
    assert "permissions" not in fault(path)


def test_a_folder_that_does_not_exist_is_a_matter_of_the_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert "check the folder and its permissions" in fault(tmp_path / "nowhere" / "keys.db")
    assert "(File name too long): check the folder" in fault(tmp_path / f"{'n' * 300}.db")
    assert not caplog.messages  # no file was begun
    assert "check the folder and its permissions" in fault(tmp_path)


def test_the_database_of_another_program_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        for name in ("users", "orders", "items", "prices"):
            connection.execute(f"create table {name} (id integer primary key autoincrement)")
        connection.commit()
    before = path.read_bytes()
    assert "a file of its own: this one is another program's (its tables: items, orders, prices, ...)" in fault(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["shop.db"]


def test_an_empty_file_and_a_file_that_has_keys_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    path.touch()
    for _ in range(2):
        open_store(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table mine (id integer)")
    open_store(f"sqlite:///{path}")


def test_a_file_that_another_program_keeps_locked_is_named(tmp_path: Path) -> None:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    assert expected_of(error).startswith("a file that no other program keeps locked (database is locked)")
    assert expected_of(sqlite3.Error("odd")) == (
        "a file that can be opened and written (odd): check the folder and its permissions"
    )


def test_a_new_file_is_named_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="flexmw.idempotency")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        open_store("sqlite:///keys.db")
    assert [record.getMessage() for record in caplog.records] == [
        f"storage: the keys are kept in a new file, {tmp_path / 'keys.db'}"
    ]
