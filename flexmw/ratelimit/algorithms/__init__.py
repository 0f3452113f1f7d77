"""The rate-limiting algorithms. A new algorithm is one module in this package and one entry in :data:`ALGORITHMS`.

>>> from flexmw.ratelimit.rates import parse_rates
>>> rate = parse_rates("2/minute")[0]
>>> algorithm, state, now_us = ALGORITHMS["sliding-window-counter"], None, 0
>>> for _ in range(3):
...     wait_us = algorithm.wait(state, now_us, rate, 1)
...     if not wait_us:
...         state = algorithm.take(state, now_us, rate, 1)
...     print(wait_us, algorithm.remaining(state, now_us, rate))
0 1
0 0
60000001 0

Private: nothing in this package is for use outside flexmw.
"""

from __future__ import annotations

from typing import Final

from flexmw.ratelimit.algorithms.base import Algorithm, RedisScript, State, States
from flexmw.ratelimit.algorithms.fixed_window import FIXED_WINDOW
from flexmw.ratelimit.algorithms.gcra import GCRA
from flexmw.ratelimit.algorithms.moving_window import MOVING_WINDOW
from flexmw.ratelimit.algorithms.sliding_window import SLIDING_WINDOW

__all__ = ["ALGORITHMS", "Algorithm", "RedisScript", "State", "States"]

ALGORITHMS: Final[dict[str, Algorithm]] = {
    algorithm.name: algorithm for algorithm in (SLIDING_WINDOW, FIXED_WINDOW, MOVING_WINDOW, GCRA)
}
"""Every algorithm by the name that ``RateLimit(strategy=...)`` takes. Names are those of ``limits``, and ``gcra``."""
