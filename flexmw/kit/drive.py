"""Flow drivers: run the flows of a client's components, sync or async.

``chain`` nests the components into one flow. ``drive`` and ``adrive`` run that flow and perform its effects.

>>> class Twice:
...     def flow(self, request):
...         yield Discard((yield Send(request)))
...         return (yield Send(request))
>>> effects = chain([Twice()], "request")
>>> [type(next(effects)).__name__, type(effects.send("response")).__name__, type(effects.send(None)).__name__]
['Send', 'Discard', 'Send']
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from functools import partial
from types import GeneratorType
from typing import Any, Final, NamedTuple, NoReturn, Protocol, TypeVar

from flexmw.errors import ConfigError
from flexmw.kit.effects import Discard, Effect, Emit, Flow, Follow, Observer, Request, Response, Resume, Send

__all__ = ["Sends", "adrive", "arun", "chain", "drive", "run", "taken_over"]

_E = TypeVar("_E")
_R = TypeVar("_R")

_FLOWS: Final = (GeneratorType, Generator)
"""The concrete type comes first because ``isinstance`` is fastest for it; the abstract class admits a generator that
is not a Python function, such as one compiled by Cython."""


class Sends(Protocol):
    """A component with a client side.

    It may have a method ``is_idle()``. A transport leaves a component out of a call that begins while it is idle.
    """

    def flow(self, request: Request) -> Flow: ...


class _Begun(NamedTuple):
    """How far a flow is, for :func:`_nested` to go on with it.

    :param resume: gives the next effect, or raises what the flow raised.
    :param value: the argument of ``resume``.
    :param response: the response that the flow was given; ``None`` where it was given none.
    """

    resume: Callable[[Any], Effect]
    value: Any = None
    response: Response | None = None


def chain(components: Sequence[Sends], request: Request, observers: tuple[Observer, ...] = ()) -> Flow:
    """Nest components into one flow, whose effects are for the transport.

    A ``Send`` of a component runs the flow of the next component inward; the ``Send`` of the innermost component is
    yielded. A response that a component was given, and neither returned nor discarded, is discarded for it, also when
    the component raises.

    :param components: outermost first.
    :param observers: called with the events of the transport and of the components inside.
    :raises ConfigError: a component's ``flow`` is not a generator, or returns no response.
    """
    if not components:
        return _transported(request, observers)
    component = components[0]
    flow: Any = component.flow(request)
    _check(flow, component)
    return _nested(flow, component, components[1:], observers)


def _check(flow: Any, component: Sends) -> None:
    if not isinstance(flow, _FLOWS):
        if isinstance(flow, Coroutine):
            flow.close()
        raise ConfigError(f"{type(component).__name__}.flow()", flow, "a generator: flow() must yield its effects")


def _transported(request: Request, observers: tuple[Observer, ...]) -> Flow:
    """The flow of a request that no further component sees."""
    received: Response = yield Send(request, _all_of(observers))
    return received


def _nested(
    flow: Any,
    component: Sends,
    inner: Sequence[Sends],
    observers: tuple[Observer, ...],
    begun: _Begun | None = None,
) -> Flow:
    """The flow of one component around the components further inward.

    :param flow: the flow of the component, of its request or of the body of its response.
    :param begun: how far the flow is, if it has begun.
    """
    send: Callable[[Any], Effect] = flow.send
    resume, value, given = begun or _Begun(send)
    held: list[Response] = [] if given is None else [given]
    while True:
        try:
            effect = resume(value)
        except StopIteration as done:
            response: Response | None = done.value
            if response is None:
                yield from _discard(held)
                raise ConfigError(f"{type(component).__name__}.flow()", None, "to return a response") from None
            if len(held) != 1 or held[0] is not response:
                yield from _discard([other for other in held if other is not response], response)
            return response
        except BaseException:
            yield from _discard(held)
            raise
        resume, value = send, None
        try:
            if isinstance(effect, Send):
                if inner or observers:
                    observe = effect.observe
                    seen = (*observers, observe) if observe is not None else observers
                    value = yield from chain(inner, effect.request, seen)
                    if effect.on_end is not None:
                        value = yield Follow(value, effect.on_end)
                else:
                    value = yield effect
                if not held or not _contains(held, value):
                    held.append(value)
            elif isinstance(effect, Emit):
                for observe in observers:
                    observe(effect.event, effect.details)
            elif isinstance(effect, Resume):
                value = yield Resume(
                    effect.response, _nested_again(effect.again, component, inner, observers), effect.tap
                )
            else:
                if isinstance(effect, Discard):
                    held = [other for other in held if other is not effect.response]
                value = yield effect
        except GeneratorExit:
            flow.close()
            raise
        except BaseException as error:
            resume, value = flow.throw, error


def _nested_again(
    again: Callable[[Exception | None], Flow | None],
    component: Sends,
    inner: Sequence[Sends],
    observers: tuple[Observer, ...],
) -> Callable[[Exception | None], Flow | None]:
    """The function of a ``Resume`` whose flows are nested as the flow of the component's request is."""

    def nested(error: Exception | None) -> Flow | None:
        flow = again(error)
        return None if flow is None else _nested(flow, component, inner, observers)

    return nested


def drive(flow: Generator[_E, Any, _R], perform: Callable[[_E], object]) -> _R:
    """Run a flow in this thread, and return its response.

    Any generator that yields what is to be done can be run, such as that of a store's commands.

    What ``perform`` raises is raised inside the flow, ``KeyboardInterrupt`` and cancellation included, so that the flow
    can clean up. A flow that catches ``Exception`` does not catch these two.

    :param perform: performs an effect, and returns its result.
    """
    send: Callable[[Any], _E] = flow.send
    resume = send
    value: Any = None
    while True:
        try:
            effect = resume(value)
        except StopIteration as done:
            result: _R = done.value
            return result
        try:
            value = perform(effect)
            resume = send
        except BaseException as error:
            resume, value = flow.throw, error


async def adrive(flow: Generator[_E, Any, _R], perform: Callable[[_E], Awaitable[object]]) -> _R:
    """Run a flow in this task: :func:`drive` with ``await``. Nothing else of a client is written twice."""
    send: Callable[[Any], _E] = flow.send
    resume = send
    value: Any = None
    while True:
        try:
            effect = resume(value)
        except StopIteration as done:
            result: _R = done.value
            return result
        try:
            value = await perform(effect)
            resume = send
        except BaseException as error:
            resume, value = flow.throw, error


def run(components: Sequence[Sends], request: Request, perform: Callable[[Effect], Any]) -> Response:
    """Run the flows of components in this thread: ``drive(chain(components, request), perform)``, made quick.

    Most calls have one component, which sends once and returns the response. The two loops would cost such a call a
    tenth of what the component costs. Any other call goes on in the loops from where it is.
    """
    if len(components) != 1:
        return drive(chain(components, request), perform)
    component = components[0]
    flow: Any = component.flow(request)
    if type(flow) is not GeneratorType:
        _check(flow, component)
    effect: Any = None
    response: Any = None
    try:
        effect = flow.send(None)
        if type(effect) is Send:
            response = perform(effect)
            effect = flow.send(response)
    except BaseException as error:
        if response is not None and type(error) is StopIteration and error.value is response:
            return response  # type: ignore[no-any-return]
        begun = _after_error(flow, effect, response, error)
    else:
        begun = _Begun(partial(_give, effect), None, response)
    return drive(_nested(flow, component, (), (), begun), perform)


async def arun(components: Sequence[Sends], request: Request, perform: Callable[[Effect], Awaitable[Any]]) -> Response:
    """Run the flows of components in this task: :func:`run` with ``await``."""
    if len(components) != 1:
        return await adrive(chain(components, request), perform)
    component = components[0]
    flow: Any = component.flow(request)
    if type(flow) is not GeneratorType:
        _check(flow, component)
    effect: Any = None
    response: Any = None
    try:
        effect = flow.send(None)
        if type(effect) is Send:
            response = await perform(effect)
            effect = flow.send(response)
    except BaseException as error:
        if response is not None and type(error) is StopIteration and error.value is response:
            return response  # type: ignore[no-any-return]
        begun = _after_error(flow, effect, response, error)
    else:
        begun = _Begun(partial(_give, effect), None, response)
    return await adrive(_nested(flow, component, (), (), begun), perform)


def _after_error(flow: Any, effect: Any, response: Any, error: BaseException) -> _Begun:
    """Tell apart what the transport raised, which is for the flow, from what the flow raised.

    :param effect: the first effect of the flow; ``None`` if the flow ended before it.
    :param response: the response to the first effect; ``None`` if the transport raised.
    """
    if effect is None or response is not None:
        return _Begun(partial(_raise, error), None, response)
    if issubclass(type(error), GeneratorExit):  # the task is closed: no effect can be performed any more
        flow.close()
        raise error
    return _Begun(flow.throw, error)


def taken_over(
    flow: Flow, effect: Effect, component: Sends, response: Response | None, error: BaseException | None
) -> Flow:
    """The rest of a flow whose first effect has been performed outside of it.

    :param effect: the first effect, which the flow has yielded.
    :param response: the result of the effect; ``None`` if the transport raised.
    :param error: what the transport raised.
    """
    begun = _Begun(flow.send, response, response) if error is None else _after_error(flow, effect, None, error)
    return _nested(flow, component, (), (), begun)


def _give(effect: Effect, _: object) -> Effect:
    return effect


def _raise(error: BaseException, _: object) -> NoReturn:
    raise error


def _discard(responses: Sequence[Response], returned: Response | None = None) -> Generator[Effect, Any, None]:
    """Discard every response, also if one of the discards is cancelled. After a cancellation the caller gets no
    response, so ``returned`` is discarded as well."""
    for place, response in enumerate(responses, 1):
        try:
            yield Discard(response)
        except GeneratorExit:
            raise
        except BaseException:
            yield from _discard([*responses[place:], *([] if returned is None else [returned])])
            raise


def _contains(held: Sequence[Response], response: Response) -> bool:
    return any(other is response for other in held)


def _all_of(observers: tuple[Observer, ...]) -> Observer | None:
    if len(observers) < 2:
        return observers[0] if observers else None

    def observe(event: str, details: Mapping[str, Any]) -> None:
        for observer in observers:
            observer(event, details)

    return observe
