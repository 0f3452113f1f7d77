"""Programs that show flexmw at work: start with `python -m examples.gateway`."""

from __future__ import annotations
