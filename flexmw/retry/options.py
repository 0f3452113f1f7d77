"""The options of one call as :mod:`flexmw.retry.flow` reads them.

:class:`flexmw.Retry` has these attributes. The protocol keeps the flow free of the component that starts it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from flexmw.kit.clock import Clock
from flexmw.retry.core import Refused503

__all__ = ["RetryOptions"]


class RetryOptions(Protocol):
    """See :class:`flexmw.Retry` for the meaning of each option."""

    @property
    def attempts(self) -> int: ...
    @property
    def deadline(self) -> float | None: ...
    @property
    def max_retry_after(self) -> float: ...
    @property
    def jitter(self) -> float: ...
    @property
    def idempotent(self) -> bool: ...
    @property
    def auto_key(self) -> bool: ...
    @property
    def key_origins(self) -> tuple[str, ...]: ...
    @property
    def budget_ratio(self) -> float: ...
    @property
    def budget_per_second(self) -> float: ...
    @property
    def refused_503(self) -> Refused503: ...
    @property
    def classify(self) -> Callable[[Any, bytes], object] | None: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def random(self) -> Callable[[], float]: ...
