"""Mechanics without policy: the shared exchange, flows and their two drivers, clocks, checked options.

Public: the modules ``clock``, ``events``, ``forked`` and ``options``. The other modules of this package are private.
"""

from __future__ import annotations

__all__: list[str] = []
