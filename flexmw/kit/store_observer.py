"""Observe the operations of stores that a request causes, without the stores knowing of the request.

Tagging sets an observer while it serves a request. What runs for the request inherits it: the stores of limiters and of
idempotency keys call it after each operation, with the component, the operation, its duration and its error. A process
without such stores needs no observer, and a context variable that is set makes each later one of the request cost more:
a component whose store will report says so when it is made (:func:`expect_reports`).

>>> seen = []
>>> with observing(lambda *operation: seen.append(operation)):
...     report("ratelimit", "decide", 0.001, None)
>>> report("ratelimit", "decide", 0.001, None), seen
(None, [('ratelimit', 'decide', 0.001, None)])
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeAlias

__all__ = ["StoreObserver", "expect_reports", "observer", "observing", "report", "reports_expected"]

StoreObserver: TypeAlias = Callable[[str, str, float, BaseException | None], None]
"""Called with the component, the operation, its duration in seconds, and what it raised."""

observer: Final[ContextVar[StoreObserver | None]] = ContextVar("flexmw.store_observer", default=None)
"""The observer of the current request; ``None``: nobody observes."""

reports_expected = False
"""True once a component of this process has a store that reports. Read it as an attribute of the module."""


def expect_reports() -> None:
    """Say that a store of this process will report. A component calls this when it is made, before any request."""
    global reports_expected
    reports_expected = True


@contextmanager
def observing(function: StoreObserver) -> Generator[None]:
    """Call ``function`` with each operation of a store inside the context."""
    token = observer.set(function)
    try:
        yield
    finally:
        observer.reset(token)


def report(component: str, operation: str, seconds: float, error: BaseException | None) -> None:
    """Report an operation to the observer, if there is one."""
    observe = observer.get()
    if observe is not None:
        observe(component, operation, seconds, error)
