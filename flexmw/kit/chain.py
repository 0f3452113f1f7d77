"""Run a client's components around one request: each ``Send`` of a component runs the next component inward.

``chain`` nests the flows of the components into one flow. ``run`` and ``arun`` also perform the effects of that flow,
sync or async.

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
from typing import Any, Final, NamedTuple, NoReturn, Protocol

from flexmw.errors import ConfigError
from flexmw.kit.drive import adrive, drive
from flexmw.kit.effects import (
    WITHHELD,
    Discard,
    Effect,
    Emit,
    Flow,
    Follow,
    Observer,
    Request,
    Response,
    Resume,
    Send,
)

__all__ = ["Sends", "arun", "chain", "run", "taken_over"]

_FLOWS: Final = (GeneratorType, Generator)
"""The concrete type comes first because ``isinstance`` is fastest for it; the abstract class admits a generator that
is not a Python function, such as one compiled by Cython."""


class Sends(Protocol):
    """A component with a client side.

    It may have a method ``is_idle()``. A transport leaves a component out of a call that begins while it is idle.
    """

    def flow(self, request: Request) -> Flow: ...


class _Begun(NamedTuple):
    """The state of a flow that has begun, from which :func:`_nested` runs the rest of the flow.

    :param resume: a function that returns the next effect, or raises what the flow raised.
    :param value: the argument of ``resume``.
    :param response: the response that the flow has received; ``None`` if it has received none.
    """

    resume: Callable[[Any], Effect]
    value: Any = None
    response: Response | None = None


def chain(components: Sequence[Sends], request: Request, observers: tuple[Observer, ...] = ()) -> Flow:
    """Nest components into one flow, whose effects are for the transport.

    A ``Send`` of a component runs the flow of the next component inward; the ``Send`` of the innermost component is
    yielded. A component should return or discard each response that it receives. A response that it neither returns nor
    discards is discarded here, also when the component raises.

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
    """Send a request from the innermost component to the transport."""
    received: Response = yield Send(request, _all_of(observers))
    return received


def _nested(
    flow: Any,
    component: Sends,
    inner: Sequence[Sends],
    observers: tuple[Observer, ...],
    begun: _Begun | None = None,
) -> Flow:
    """Run the flow of one component around the components further inward.

    :param flow: the flow of the component, for its request or for the body of its response.
    :param begun: the state of the flow, if it has begun.
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
                yield from _discard([unused for unused in held if unused is not response], response)
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
                    held = [kept for kept in held if kept is not effect.response]
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
    """Wrap the function of a ``Resume``: the flows that it returns are nested like the flow of the request."""

    def nested(error: Exception | None) -> Flow | None:
        flow = again(error)
        return None if flow is None else _nested(flow, component, inner, observers)

    return nested


def run(components: Sequence[Sends], request: Request, perform: Callable[[Effect], Any]) -> Response:
    """Run the flows of components in this thread: a faster ``drive(chain(components, request), perform)``.

    Most calls have one component, which sends once and returns the response. The loops of ``chain`` and ``drive`` add a
    tenth to the cost of the component of such a call, so these two steps are written out here. Any other call continues
    in the loops.
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
    """The state of a flow after an error: an error of the transport is raised in the flow, an error of the flow leaves
    the flow.

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
    """Return the rest of a flow whose first effect the caller has performed.

    :param effect: the first effect, which the flow has yielded.
    :param response: the result of the effect; ``None`` if the transport raised.
    :param error: the error that the transport raised.
    """
    begun = _Begun(flow.send, response, response) if error is None else _after_error(flow, effect, None, error)
    return _nested(flow, component, (), (), begun)


def _give(effect: Effect, _: object) -> Effect:
    return effect


def _raise(error: BaseException, _: object) -> NoReturn:
    raise error


def _discard(responses: Sequence[Response], returned: Response | None = None) -> Generator[Effect, Any, None]:
    """Discard every response, also if a discard is cancelled. After a cancellation the caller gets no response, so
    ``returned`` is discarded as well."""
    for place, response in enumerate(responses, 1):
        try:
            yield Discard(response)
        except GeneratorExit:
            raise
        except BaseException:
            yield from _discard([*responses[place:], *([] if returned is None else [returned])])
            raise


def _contains(held: Sequence[Response], response: Response) -> bool:
    return any(kept is response for kept in held)


def _all_of(observers: tuple[Observer, ...]) -> Observer | None:
    if len(observers) < 2:
        return observers[0] if observers else None

    def observe(event: str, details: Mapping[str, Any]) -> None:
        for place, observer in enumerate(observers):
            try:
                observer(event, details)
            except BaseException:
                for inner in observers[place + 1 :]:
                    inner(WITHHELD, {"event": event})
                raise

    return observe
