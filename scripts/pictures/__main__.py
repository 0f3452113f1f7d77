"""The command ``python -m scripts.pictures``: write each picture that has changed, and name it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from scripts.pictures import FOLDER
from scripts.pictures.chaos import chaos
from scripts.pictures.diagrams import idempotency_table, request_path, retry_table, stream

__all__ = ["PICTURES", "main"]

PICTURES: Final[dict[str, Callable[[], str]]] = {
    "request-path.svg": request_path,
    "retry.svg": retry_table,
    "idempotency.svg": idempotency_table,
    "stream.svg": stream,
    "chaos.svg": chaos,
}


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        file, picture = FOLDER / name, draw()
        if not file.exists() or file.read_text("utf-8") != picture:
            file.write_text(picture, "utf-8")
            sys.stdout.write(f"written: {file.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
