"""Rate limiting: exact numbers from one store command, headers that never lie.

>>> from flexmw.ratelimit import RateLimit
>>> RateLimit("10/minute", "1000/day", strategy="gcra").rates
('10/minute', '1000/day')
>>> RateLimit("10 a minute")
Traceback (most recent call last):
    ...
flexmw.errors.ConfigError: RateLimit(*rates) = '10 a minute': expected rates such as '10/minute', '5 per 2 hour' or \
['10/minute', '1000/day']
"""

from __future__ import annotations

from flexmw.ratelimit.component import RateLimit
from flexmw.ratelimit.core import Decision
from flexmw.ratelimit.flow import Pace
from flexmw.ratelimit.keys import Caller
from flexmw.ratelimit.tickets import settle

__all__ = ["Caller", "Decision", "Pace", "RateLimit", "settle"]
