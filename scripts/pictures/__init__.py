"""Draw the pictures of the documentation as SVG: ``python -m scripts.pictures``.

``tests/test_pictures.py`` compares the files in ``docs/pictures`` with what this package draws. The decision tables are
read from the code that decides, and the picture of the chaos runs from their output in ``docs/pictures/chaos.txt``::

    python -m benchmarks.chaos --store redis --keys 4000 --seconds 15 --processes 4 > docs/pictures/chaos.txt
    python -m benchmarks.chaos --streams --store redis --seconds 10 --processes 4 >> docs/pictures/chaos.txt
    python -m scripts.pictures
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["COMMAND", "FOLDER"]

COMMAND: Final = "python -m scripts.pictures"
FOLDER: Final = Path(__file__).parents[2] / "docs" / "pictures"
