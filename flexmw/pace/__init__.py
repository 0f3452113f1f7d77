"""Client-side pacing: delay requests until the server will admit them, judged by its rate-limit headers.

>>> from flexmw.pace import Pace
>>> Pace(max_wait=30.0)
Pace(patience=5.0, max_wait=30.0, key=None)

Public: the names in ``__all__``. The modules of this package are private.
"""

from __future__ import annotations

from flexmw.pace.component import Pace

__all__ = ["Pace"]
