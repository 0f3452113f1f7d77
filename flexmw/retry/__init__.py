"""Retry: recover everything that is provably safe, execute nothing twice.

>>> import httpx, flexmw
>>> from flexmw.retry import Retry
>>> with flexmw.wrap_client(httpx.Client(), Retry(attempts=3, max_retry_after=10.0)) as client:
...     pass

Public: the names in ``__all__``. The modules of this package are private.
"""

from __future__ import annotations

from flexmw.retry.body import rewinder
from flexmw.retry.component import Retry
from flexmw.retry.core import Outcome
from flexmw.retry.deadline import call_ends, deadline_of
from flexmw.retry.limits import limit_attempts
from flexmw.retry.outcome import outcome_of, set_outcome
from flexmw.retry.overrides import retry_options
from flexmw.retry.sdk_count import sdk_retry_count

__all__ = [
    "Outcome",
    "Retry",
    "call_ends",
    "deadline_of",
    "limit_attempts",
    "outcome_of",
    "retry_options",
    "rewinder",
    "sdk_retry_count",
    "set_outcome",
]
