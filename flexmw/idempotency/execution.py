"""The execution that a handler runs in: its key, its attempt, and recovery points to resume from.

>>> import anyio
>>> async def pay() -> str:
...     return "charge-1"
>>> async def handler() -> str:
...     run = execution()
...     return await run.step("charge", pay)      # not paid again when the key is run again
>>> anyio.run(handler)
'charge-1'

Recovery points follow Brandur Leach's "Implementing Stripe-like Idempotency Keys in Postgres".
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final, TypeVar

import anyio

from flexmw.errors import ConfigError

__all__ = ["Execution", "Recorder", "current", "execution"]

T = TypeVar("T")

Recorder = Callable[[dict[str, Any]], Awaitable[None]]
MOST_STEPS: Final = 64 * 1024
"""Length of the steps of one execution as JSON, in characters, at most."""

_NO_STEPS: Final[Mapping[str, Any]] = MappingProxyType({})


class Execution:
    """One attempt to carry out a request. The component makes it; :func:`execution` returns it.

    :param key: the caller's idempotency key; ``None`` without one.
    :param attempt: the number of the attempt, from 1. It is above 1 when an earlier attempt was refused (by a 429, for
        example), or when its outcome is unknown and the key runs again.
    :param steps: what earlier attempts recorded, by name.
    :param record: writes the steps to the store; ``None`` stores nothing.
    :param owner: the request that the execution belongs to.
    """

    __slots__ = ("_lock", "_record", "_steps", "attempt", "key", "owner")

    def __init__(
        self,
        key: str | None = None,
        attempt: int = 1,
        steps: Mapping[str, Any] | None = None,
        record: Recorder | None = None,
        owner: object = None,
    ) -> None:
        self.key, self.attempt, self.owner = key, attempt, owner
        self._steps, self._record = steps or _NO_STEPS, record
        self._lock: anyio.Lock | None = None

    @property
    def steps(self) -> Mapping[str, Any]:
        """What this attempt and earlier ones have recorded, by name."""
        return MappingProxyType(self._steps)

    async def record(self, name: str, value: Any = True) -> None:
        """Record a value for later attempts. The value is in the store when this method returns.

        A sync handler calls ``anyio.from_thread.run(execution().record, name, value)``.

        :param name: the name of the step.
        :param value: a value that JSON can hold.

        :raises ConfigError: for a value that JSON cannot hold or steps of more than 64 KiB together.
        :raises RuntimeError: when another attempt has taken the key over. This attempt must stop.
        """
        if self._lock is None:
            self._lock = anyio.Lock()
        async with self._lock:
            await self._add(name, value)

    async def _add(self, name: str, value: Any) -> None:
        steps = {**self._steps, name: value}
        try:
            text = json.dumps(steps)
        except (TypeError, ValueError):
            raise ConfigError(f"execution().record({name!r}, ...)", value, "a value that JSON can hold") from None
        if len(text) > MOST_STEPS:
            raise ConfigError(
                f"execution().record({name!r}, ...)", f"{len(text)} characters", f"at most {MOST_STEPS} in all"
            )
        if self._record is not None:
            # A copy: the handler may change a value later, and the outcome is written with the steps.
            await self._record(json.loads(text))
        self._steps = steps

    async def step(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Return what an earlier attempt recorded under ``name``; without it, run ``work()`` and record its result.

        The process can die between the end of the work and the record. If the work accepts an idempotency key, give it
        one, such as ``f"{run.key}:{name}"``.
        """
        if name in self._steps:
            return self._steps[name]  # type: ignore[no-any-return]
        result = await work()
        await self.record(name, result)
        return result

    def __repr__(self) -> str:
        shown = None if self.key is None else "***"  # a repr ends in logs
        return f"Execution(key={shown!r}, attempt={self.attempt}, steps={list(self._steps)})"


current: ContextVar[Execution | None] = ContextVar("flexmw.execution", default=None)


def execution() -> Execution:
    """The execution that this code runs in.

    A request without a key, and an app without the component, get a new execution that stores nothing. A handler can
    therefore always call this function.
    """
    return current.get() or Execution()
