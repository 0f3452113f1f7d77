"""What is wrong with a file of ``sqlite:///file``, and what its owner can do."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from stat import S_ISREG
from typing import Final

from flexmw.errors import ConfigError

__all__ = ["check_owner", "expected_of"]

_DEFAULT: Final = "a file that can be opened and written ({}): check the folder and its permissions"
_EXPECTED: Final = {
    sqlite3.SQLITE_NOTADB: "an SQLite database, or no file: this file holds something else ({}). Name another file",
    sqlite3.SQLITE_CORRUPT: "an SQLite database that is intact ({}). Restore the file, or move it away to begin anew",
    sqlite3.SQLITE_READONLY: "a file that can be written ({}): check the permissions of the file and of its folder",
    sqlite3.SQLITE_BUSY: "a file that no other program keeps locked ({}). End that program, or name another file",
    sqlite3.SQLITE_FULL: "a disk with room for the file ({})",
    sqlite3.SQLITE_IOERR: "a disk that can be read and written ({}): SQLite needs a local disk that has locks",
}
"""For the primary code of an error of SQLite, what would be right. The message of SQLite stands in the braces."""

_MAX_NAMED: Final = 3


def expected_of(error: sqlite3.Error | OSError) -> str:
    """What would be right, as words that follow "expected"."""
    text = getattr(error, "strerror", None) or error  # without the path, which the message names already
    return _EXPECTED.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, _DEFAULT).format(text)


def check_owner(path: Path, option: str) -> None:
    """Refuse the database of another program: the store would add its tables, and switch the file to a write-ahead log.

    A file without tables is taken, and so is one that has tables of flexmw. What cannot be read is not judged here.

    :raises ConfigError: the message begins with ``option``, and names tables of the other program.
    """
    try:
        mode = path.stat().st_mode  # `is_file()` hides a name that is too long from Python 3.14 on
    except (FileNotFoundError, NotADirectoryError):
        return
    if not S_ISREG(mode):
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("select name from sqlite_master where type = 'table' order by name").fetchall()
    except sqlite3.Error:
        return
    names = [str(name) for (name,) in rows if not str(name).startswith("sqlite_")]
    if names and not any(name.startswith("flexmw_") for name in names):
        shown = ", ".join(names[:_MAX_NAMED]) + (", ..." if len(names) > _MAX_NAMED else "")
        raise ConfigError(option, str(path), f"a file of its own: this one is another program's (its tables: {shown})")
