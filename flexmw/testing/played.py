"""Flow player: run a flow in memory, without a network and without waiting.

>>> import flexmw, httpx
>>> played = play(flexmw.Retry(), [503, 200], httpx.Request("GET", "https://api.test/"))
>>> played.response.status_code, played.count(flexmw.Send), played.count(flexmw.Sleep)
(200, 2, 1)
"""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from contextvars import copy_context
from dataclasses import dataclass, field, is_dataclass, replace
from itertools import count
from threading import Thread
from typing import Any, Final, TypeAlias, get_args

from flexmw.errors import ConfigError
from flexmw.kit.clock import Clock
from flexmw.kit.effects import Discard, Effect, Follow, Read, Replace, Resume, RunBlocking, Send, Skip, Sleep
from flexmw.testing.clock import FakeClock
from flexmw.testing.unread import body_of, finish, misuse, put_body, unread_response

__all__ = [
    "CALL_SECONDS",
    "MAX_EFFECTS",
    "Endless",
    "Outcome",
    "Played",
    "fresh",
    "play",
    "play_body",
    "request_of",
    "response_of",
    "result_of",
]

MAX_EFFECTS: Final = 1000
"""A flow that yields more effects is assumed to be endless."""

CALL_SECONDS: Final = 5.0
"""A function of a ``RunBlocking`` that runs longer, in seconds, is assumed to be endless."""

Outcome: TypeAlias = "int | Any | BaseException"
"""What a ``Send`` results in: a status, a response of the request's library, or an exception that the transport
raises."""

_EFFECTS: Final = get_args(Effect)

_numbers: Final = count()
"""The end of the path of each request: no check finds what an earlier check has stored."""


class Endless(Exception):
    """The function of a ``RunBlocking`` did not end in time."""


@dataclass(slots=True)
class Played:
    """What a flow did.

    :ivar effects: the effects that the flow yielded, in order.
    :ivar responses: the responses that the flow got.
    :ivar response: the response that the flow returned.
    :ivar error: the exception that the flow raised.
    :ivar faults: one sentence for each rule that the flow broke.
    """

    effects: list[Any] = field(default_factory=list[Any])
    responses: list[Any] = field(default_factory=list[Any])
    response: Any = None
    error: BaseException | None = None
    faults: list[str] = field(default_factory=list[str])

    @property
    def answer(self) -> Any:
        """The old name of ``response``."""
        warnings.warn("Played.answer is now Played.response", DeprecationWarning, stacklevel=2)
        return self.response

    def count(self, kind: type) -> int:
        """Return the number of effects of one class."""
        return sum(isinstance(effect, kind) for effect in self.effects)

    @property
    def discarded(self) -> list[Any]:
        return [effect.response for effect in self.effects if isinstance(effect, Discard)]


def fresh(component: Any, clock: Clock | None = None) -> Any:
    """Return a copy of the component without what it has learned.

    A component with an option ``clock`` that holds a :class:`~flexmw.kit.clock.Clock` gets a clock of its own, and
    sleeping moves that clock.
    """
    if not is_dataclass(component) or isinstance(component, type):
        return copy.copy(component)
    options = {"clock": clock or FakeClock()} if hasattr(getattr(component, "clock", None), "asleep") else {}
    return replace(component, **options)


def play(component: Any, outcomes: Iterable[Outcome], request: Any) -> Played:
    """Run the flow of a component, and return what it did.

    A ``Sleep`` takes no time. It moves the component's ``clock`` if that is a :class:`~flexmw.testing.FakeClock`. As on
    a transport, the body of a response to a status has not been read while the flow runs; afterwards a test can read
    it.

    :param outcomes: the result of each ``Send``, in order; the last one is the result of all further ones.
    :param request: a request of httpx or httpx2.
    :raises ConfigError: ``outcomes`` is empty.
    """
    played = Played()
    script = list(outcomes)
    if not script:
        raise ConfigError("play(outcomes=...)", outcomes, "at least one outcome")
    flow: Any = component.flow(request)
    if not inspect.isgenerator(flow):
        if inspect.iscoroutine(flow):
            flow.close()
        played.faults.append(f"flow() returned {type(flow).__name__}, not a generator: it must yield its effects")
        return played
    return _play(flow, script, getattr(component, "clock", None), played)


def play_body(component: Any, effect: Resume, error: Exception | None, outcomes: Iterable[Outcome]) -> Played | None:
    """Run the flow that continues a body where it ends; ``None`` where the body is not continued.

    :param component: the component that yielded the effect.
    :param error: what broke the body; ``None`` for its clean end.
    :param outcomes: as for :func:`play`.
    """
    flow = effect.again(error)
    return None if flow is None else _play(flow, list(outcomes), getattr(component, "clock", None), Played())


def _play(flow: Any, script: list[Outcome], clock: Any, played: Played) -> Played:
    given = tuple(script)
    _run(flow, script, clock, played)
    if not any(played.error is outcome for outcome in given):
        fault = misuse(played.responses, played.error)
        played.faults += [fault] if fault else []
    finish(played.responses)
    return played


def _run(flow: Any, script: list[Outcome], clock: Any, played: Played) -> None:
    outcome: Any = None
    step: Any = flow.send
    while True:
        try:
            effect = step(outcome)
        except StopIteration as done:
            played.response = done.value
            return
        except BaseException as error:
            played.error = error
            return
        played.effects.append(effect)
        _judge(effect, played)
        step, outcome = flow.send, None
        if played.faults:
            flow.close()
            return
        if isinstance(effect, Send):
            outcome = script.pop(0) if len(script) > 1 else script[0]
            if isinstance(outcome, int):
                outcome = response_of(effect.request, outcome)
            if isinstance(outcome, BaseException):
                step = flow.throw
            else:
                played.responses.append(outcome)
        elif isinstance(effect, Sleep) and isinstance(clock, FakeClock):
            clock.sleep(effect.seconds)
        elif isinstance(effect, RunBlocking):
            try:
                outcome = result_of(effect)
            except Endless as error:
                played.faults.append(str(error))
                flow.close()
                return
            except BaseException as error:
                step, outcome = flow.throw, error
        else:
            outcome = result_of(effect)


def result_of(effect: Any) -> Any:
    """Perform an effect on a response in memory, or a blocking call, and return its result.

    :raises Endless: the call runs longer than :data:`CALL_SECONDS`.
    """
    if isinstance(effect, RunBlocking):
        return _called(effect.function)
    response: Any = getattr(effect, "response", None)
    if isinstance(effect, Read):
        body = body_of(response)
        return body if len(body) <= effect.limit else body[: effect.limit] if effect.partial else None
    if isinstance(effect, Replace):
        put_body(response, effect.body)
    if isinstance(effect, Skip):
        body = body_of(response)
        put_body(response, body[effect.size :])
        if effect.tap is not None:
            effect.tap(body[: effect.size])
        return min(effect.size, len(body))
    return response if isinstance(effect, (Follow, Replace, Resume)) else None


def _called(function: Callable[[], Any]) -> Any:
    """Call a function in another thread, as an async client does."""
    outcome: Future[Any] = Future()
    context = copy_context()

    def run() -> None:
        try:
            outcome.set_result(context.run(function))
        except BaseException as error:
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    if not wait([outcome], CALL_SECONDS).done:
        raise Endless(
            f"it called a function that blocks for more than {CALL_SECONDS:g} seconds: a RunBlocking must end soon"
        )
    return outcome.result()


def _judge(effect: Any, played: Played) -> None:
    if len(played.effects) > MAX_EFFECTS:
        played.faults.append(f"it asked for more than {MAX_EFFECTS} effects: it has no end")
    elif not isinstance(effect, _EFFECTS):
        known = "flexmw.Send, flexmw.Sleep or flexmw.Discard"
        played.faults.append(f"it yielded {effect!r}, which is no effect: yield {known}")
    elif isinstance(effect, Sleep) and not _is_wait(effect.seconds):
        played.faults.append(f"it asked to sleep for {effect.seconds!r} seconds")
    elif isinstance(effect, Send) and not (hasattr(effect.request, "url") and hasattr(effect.request, "headers")):
        played.faults.append(f"it sent {effect.request!r}, which is no request")


def _is_wait(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value >= 0


def response_of(request: Any, status: int, headers: Sequence[tuple[str, str]] = ()) -> Any:
    """Make a response of the library that the request belongs to. Its body has not been read."""
    return unread_response(request, status, headers, b'{"ok":true}')


def request_of(
    library: Any, method: str, host: str = "api.test", *, path: str | None = None, content: Any = None
) -> Any:
    """Make a request, with a small JSON body if the method is POST.

    :param path: the path; each request has one of its own if none is given.
    :param content: another body; an iterator of bytes is an upload from a stream.
    """
    body = {"content": content} if content is not None else {"json": {"n": 1}} if method == "POST" else {}
    return library.Request(method, f"https://{host}{path or f'/v1/things/{next(_numbers)}'}", **body)
