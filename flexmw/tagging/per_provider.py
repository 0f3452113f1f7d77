"""What all components of a process share that record to one OpenTelemetry provider, for as long as the provider lives.

>>> class Provider: pass
>>> shared, provider = PerProvider(list), Provider()
>>> shared.of(provider) is shared.of(provider), shared.of(provider) is shared.of(Provider())
(True, False)
"""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any, Generic, TypeVar
from weakref import ref

from flexmw.kit.forked import fork_safe

__all__ = ["PerProvider"]

T = TypeVar("T")


class PerProvider(Generic[T]):
    """Values by provider. Providers are told apart by identity: logfire's have no hash.

    :param make: makes the value of a provider that is not known yet.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = fork_safe(RLock())  # the garbage collector may call _forget while this thread holds the lock
        self._values: dict[int, tuple[Callable[[], Any], T]] = {}

    def of(self, provider: Any) -> T:
        """The value of a provider. One that no weak reference can be made to is kept for ever."""
        with self._lock:
            known = self._values.get(id(provider))
            if known is not None and known[0]() is provider:
                return known[1]
            value, place = self._make(), id(provider)

            def forget(gone: ref[Any]) -> None:
                with self._lock:
                    if (entry := self._values.get(place)) is not None and entry[0] is gone:
                        del self._values[place]

            try:
                get: Callable[[], Any] = ref(provider, forget)
            except TypeError:

                def get() -> Any:
                    return provider

            self._values[place] = get, value
            return value
