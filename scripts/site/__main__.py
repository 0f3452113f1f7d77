"""The command ``python -m scripts.site FOLDER``."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.site.layout import SETTINGS, BadSite, laid_out
from scripts.site.reference import reference_pages

__all__ = ["main"]

_STYLE = Path(__file__).parent / "site.css"


def main(arguments: list[str] | None = None) -> int:
    """Build the site into ``FOLDER/site``. The folder is emptied first.

    :return: 0, or 1 where a page or a link is wrong: each fault has a line on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m scripts.site", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the input and the site are written")
    folder: Path = parser.parse_args(arguments).folder
    try:
        files = laid_out(reference_pages())
    except BadSite as error:
        sys.stderr.write(f"{error}\n")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    for path, content in files.items():
        file = folder / "docs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    shutil.copy(_STYLE, folder / "docs" / _STYLE.name)
    shutil.copy(SETTINGS, folder / SETTINGS.name)
    return subprocess.run(  # noqa: S603 - the generator, by its module, on the folder just written
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "-f", str(folder / SETTINGS.name)],
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
