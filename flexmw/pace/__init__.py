"""Client-side pacing: delay requests until the server's rate-limit headers say that they will be admitted.

>>> from flexmw.pace import Pace
>>> Pace(max_wait=30.0)
Pace(patience=5.0, max_wait=30.0)
"""

from __future__ import annotations

from flexmw.pace.component import Pace

__all__ = ["Pace"]
