"""Fall back to another upstream without a second execution, for any httpx or httpx2 client.

>>> import flexmw, httpx
>>> fallback = Fallback(
...     Upstream("https://api.example.com/v1"),
...     Upstream("https://api.example.net/v1", headers={"authorization": "Bearer another-key"}),
... )
>>> client = flexmw.wrap_client(httpx.Client(base_url="https://api.example.com/v1"), fallback, flexmw.Retry())
>>> client.close()

Written against flexmw's public names only: what it does, any plugin can do.

Public: the names in ``__all__``. The modules of this package are private.
"""

from __future__ import annotations

from flexmw_fallback._component import Fallback
from flexmw_fallback._outcome import FallbackOutcome, Tried
from flexmw_fallback._preamble import PreambleEvent
from flexmw_fallback._upstream import Upstream

__all__ = ["Fallback", "FallbackOutcome", "PreambleEvent", "Tried", "Upstream"]
