"""Options of one call, as a protocol: :class:`flexmw.Retry` has these attributes.

With the protocol, :mod:`flexmw.retry.flow` need not import the component, which imports the flow.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, Literal, Protocol

from flexmw.kit.clock import Clock
from flexmw.retry.core import Outcome, Refused503

__all__ = ["EXTENSION", "OVERRIDES", "UNSET", "RetryOptions"]

EXTENSION: Final = "flexmw.retry"
"""The request extension with the policy of one call: a Retry, a mapping of options, or None to switch Retry off."""

UNSET: Final[Any] = object()

OVERRIDES: Final[ContextVar[Any]] = ContextVar("flexmw.retry_options", default=UNSET)
"""The value that :func:`flexmw.retry_options` sets for the calls inside its block; :data:`UNSET` elsewhere."""


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
    def on_retry(self) -> Callable[[Outcome, float, str], object] | None: ...
    @property
    def reread(self) -> bool: ...
    @property
    def resume(self) -> int | Literal["replay"]: ...
    @property
    def resume_patience(self) -> float: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def random(self) -> Callable[[], float]: ...
