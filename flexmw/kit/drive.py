"""Run flows: ``chain`` nests the components of a client into one flow, and the two drivers perform its effects.

>>> class Twice:
...     def flow(self, request):
...         yield Discard((yield Send(request)))
...         return (yield Send(request))
>>> effects = chain([Twice()], "request")
>>> [type(next(effects)).__name__, type(effects.send("answer")).__name__, type(effects.send(None)).__name__]
['Send', 'Discard', 'Send']
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from types import GeneratorType
from typing import Any, Final, Protocol

from flexmw.errors import ConfigError
from flexmw.kit.effects import Discard, Effect, Emit, Flow, Observer, Request, Response, Send

__all__ = ["Sends", "adrive", "chain", "drive"]


_FLOWS: Final = (GeneratorType, Generator)
"""The abstract class takes longer to ask, and is what one written in another way is."""


class Sends(Protocol):
    """A component with a client face."""

    def flow(self, request: Request) -> Flow: ...


def chain(components: Sequence[Sends], request: Request, watching: tuple[Observer, ...] = ()) -> Flow:
    """One flow out of many: each component's ``Send`` runs the rest inward; what is left are the transport's effects.

    An answer that a component was given and neither returned nor discarded is discarded for it, also when it raises.
    """
    if not components:
        response: Response = yield Send(request, _all_of(watching))
        return response
    flow: Any = components[0].flow(request)
    if not isinstance(flow, _FLOWS):
        if isinstance(flow, Coroutine):
            flow.close()
        raise ConfigError(f"{type(components[0]).__name__}.flow()", flow, "a generator: flow() must yield its effects")
    inner = components[1:]
    held: list[Response] = []
    resume: Callable[[Any], Effect] = flow.send
    value: Any = None
    while True:
        try:
            effect = resume(value)
        except StopIteration as done:
            answer: Response | None = done.value
            if answer is None:
                yield from _discard(held)
                raise ConfigError(f"{type(components[0]).__name__}.flow()", None, "to return an answer") from None
            if held != [answer]:
                yield from _discard([response for response in held if response is not answer], answer)
            return answer
        except BaseException:
            yield from _discard(held)
            raise
        try:
            outcome: Any = None
            match effect:
                case Send():
                    if inner or watching:
                        seen = (*watching, effect.observe) if effect.observe else watching
                        outcome = yield from chain(inner, effect.request, seen)
                    else:
                        outcome = yield effect
                    if not held or all(response is not outcome for response in held):
                        held.append(outcome)
                case Emit():
                    for observe in watching:
                        observe(effect.event, effect.details)
                case Discard():
                    held = [response for response in held if response is not effect.response]
                    yield effect
                case _:
                    outcome = yield effect
        except GeneratorExit:
            flow.close()
            raise
        except BaseException as error:
            resume, value = flow.throw, error
        else:
            resume, value = flow.send, outcome


def drive(flow: Flow, perform: Callable[[Effect], object]) -> Response:
    """Run a flow in this thread: ``perform`` does what each effect asks for. Returns the flow's answer.

    Whatever ``perform`` raises is thrown into the flow, KeyboardInterrupt and cancellation included, so that a flow
    can put things in order; one that catches ``Exception`` does not hold them up.
    """
    resume: Callable[[Any], Effect] = flow.send
    value: Any = None
    while True:
        try:
            effect = resume(value)
        except StopIteration as done:
            answer: Response = done.value
            return answer
        try:
            outcome = perform(effect)
        except BaseException as error:
            resume, value = flow.throw, error
        else:
            resume, value = flow.send, outcome


async def adrive(flow: Flow, perform: Callable[[Effect], Awaitable[object]]) -> Response:
    """The same in this task. The two stand side by side: nothing else of a client is written twice."""
    resume: Callable[[Any], Effect] = flow.send
    value: Any = None
    while True:
        try:
            effect = resume(value)
        except StopIteration as done:
            answer: Response = done.value
            return answer
        try:
            outcome = await perform(effect)
        except BaseException as error:
            resume, value = flow.throw, error
        else:
            resume, value = flow.send, outcome


def _discard(responses: Sequence[Response], answer: Response | None = None) -> Generator[Effect, Any, None]:
    """Discard them all, also when one discarding is cancelled; then nobody gets the ``answer``, and it goes too."""
    for place, response in enumerate(responses, 1):
        try:
            yield Discard(response)
        except GeneratorExit:
            raise
        except BaseException:
            yield from _discard([*responses[place:], *([] if answer is None else [answer])])
            raise


def _all_of(watching: tuple[Observer, ...]) -> Observer | None:
    if len(watching) < 2:
        return watching[0] if watching else None

    def observe(event: str, details: Mapping[str, Any]) -> None:
        for each in watching:
            each(event, details)

    return observe
