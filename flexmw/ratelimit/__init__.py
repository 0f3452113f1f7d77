"""Rate limiting: limits of each caller, decided exactly in one store command and reported on every response.

>>> from flexmw.ratelimit import RateLimit
>>> RateLimit("10/minute", "1000/day", strategy="gcra").rates
('10/minute', '1000/day')
>>> RateLimit("10 a minute")
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: RateLimit(*rates) = '10 a minute': expected rates such as '10/minute', '5 per 2 hour' or \
['10/minute', '1000/day']

Public: the names in ``__all__``, and the module ``limits_storage``. The other modules of this package are private.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from flexmw.ratelimit.callers import Caller
from flexmw.ratelimit.component import RateLimit
from flexmw.ratelimit.core import Decision
from flexmw.ratelimit.cost import settle
from flexmw.ratelimit.ledger import Ledger
from flexmw.ratelimit.usage import Usage, UsageReader

__all__ = ["Caller", "Decision", "Ledger", "RateLimit", "Usage", "UsageReader", "settle"]


def __getattr__(name: str) -> Any:
    if name != "Pace":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("flexmw.ratelimit.Pace has moved: import flexmw.Pace", DeprecationWarning, stacklevel=2)
    return import_module("flexmw.pace").Pace
