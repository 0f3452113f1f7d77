"""The command line: ``flexmw``, or ``python -m flexmw``. See :mod:`flexmw.cli`."""

from __future__ import annotations

import sys

from flexmw.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
