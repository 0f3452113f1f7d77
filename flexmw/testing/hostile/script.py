"""The script of the server: one fault for every request, a list of faults, or a function that chooses one.

>>> script = Script(["503", "rst"], then="ok")
>>> script.for_request(), script.for_request(), script.for_request()
(Response(status=503, headers=(), body=None, retry='none', wait=1.0, executes=None), Drop(when='read', how='rst'), \
Response(status=200, headers=(), body=None, retry='none', wait=1.0, executes=None))
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TypeAlias

from flexmw.errors import ConfigError
from flexmw.testing.hostile.faults import fault
from flexmw.testing.hostile.received import Received
from flexmw.testing.hostile.response import ConnectionFault, Fault

__all__ = ["Chooser", "Plan", "Script", "ScriptLike", "request_fault"]

Plan: TypeAlias = "str | Fault | ConnectionFault"
Chooser: TypeAlias = Callable[[Received], "str | Fault | None"]
ScriptLike: TypeAlias = "Plan | Sequence[Plan] | Chooser"


class Script:
    """The source of faults for the connections and requests of all threads.

    A request takes the next fault of a request from the list. A new connection takes the next entry of the list if
    that is a fault of a connection. After the list comes ``then``.
    """

    def __init__(self, script: ScriptLike, *, then: Plan) -> None:
        self._lock = Lock()
        self._then = _plan(then)
        self._always: Fault | ConnectionFault | Chooser | None = None
        self._queue: deque[Fault | ConnectionFault] = deque()
        if isinstance(script, (str, Fault, ConnectionFault)):
            self._always = _plan(script)
        elif callable(script):
            self._always = script
        else:
            self._queue.extend(map(_plan, script))

    @property
    def plans(self) -> list[Fault | ConnectionFault]:
        """The faults that are known in advance."""
        always = self._always if isinstance(self._always, (Fault, ConnectionFault)) else self._then
        return [*self._queue, always, self._then]

    def for_connection(self) -> ConnectionFault | None:
        """Return the fault of a new connection; ``None``: it is served."""
        with self._lock:
            if self._queue:
                if not isinstance(plan := self._queue[0], ConnectionFault):
                    return None
                self._queue.popleft()
                return plan
        last = self._always or self._then
        return last if isinstance(last, ConnectionFault) else None

    def for_request(self) -> Fault | Chooser:
        """Return the fault of a request whose head was read, or the function that chooses one."""
        with self._lock:
            for index, plan in enumerate(self._queue):
                if isinstance(plan, Fault):
                    del self._queue[index]
                    return plan
        last = self._always or self._then
        return request_fault("ok") if isinstance(last, ConnectionFault) else last


def request_fault(choice: str | Fault | ConnectionFault | None) -> Fault:
    """Return the fault that a function has chosen; ``None`` is a good response.

    :raises ConfigError: the choice is not a fault of a request.
    """
    plan = _plan("ok" if choice is None else choice)
    if isinstance(plan, ConnectionFault):
        raise ConfigError("script", choice, "a fault of a request: connection faults can only be named in advance")
    return plan


def _plan(value: Plan) -> Fault | ConnectionFault:
    if isinstance(value, str):
        return fault(value)
    if isinstance(value, (Fault, ConnectionFault)):
        return value
    raise ConfigError("script", value, "names of faults, faults, a list of both, or a function from a request to one")
