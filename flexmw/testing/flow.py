"""Conformance check for the client side of a component: :func:`check_flow`, for any test runner.

>>> import flexmw
>>> check_flow(flexmw.Retry())

The check runs the flow in memory first, then on the real transports of httpx and httpx2, sync and async, against a
server on the loopback interface. One ``AssertionError`` names every fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from flexmw.contract.exception_slots import chain_of
from flexmw.errors import ConfigError
from flexmw.kit.built_response import is_built
from flexmw.kit.effects import Emit, Resume, RunBlocking, Send, Sleep
from flexmw.testing.clock import FakeClock
from flexmw.testing.declared import blocking_calls, declaration, report, require_side
from flexmw.testing.played import MAX_EFFECTS, Played, fresh, play, play_body, request_of, response_of, result_of
from flexmw.testing.transports import compare

__all__ = ["FLOW_CHECKS", "check_flow"]

_LIBRARIES: Final = ("httpx", "httpx2")
_ERRORS: Final = ("ConnectError", "ReadTimeout", "ReadError", "RemoteProtocolError")
_STATUSES: Final = (400, 401, 409, 429, 500, 503)
_ENDS: Final = (KeyboardInterrupt, asyncio.CancelledError)
_NOT_GIVEN: Final = (
    "not a response that it was given; flexmw.build_response makes one of its own that works on every transport"
)
_STORED_RESPONSE: Final = (
    "the second of two equal calls got the response object of the first, which has been read: store the bytes of "
    "flexmw.read, and return a new flexmw.build_response"
)

Make = Callable[[], Any]
Check = Callable[[Make, Any], list[str]]


def check_flow(component: Any) -> None:
    """Check a component against what a caller and a server rely on.

    Each check uses a fresh copy of the component. The real transports are those of httpx and httpx2, whichever are
    installed. The function may be called inside a running event loop.

    :raises AssertionError: the component has faults; the message names each one.
    :raises ConfigError: the component has no client side, or neither library is installed.
    """
    require_side(component, "flow", "client")
    libraries = [import_module(name) for name in _LIBRARIES if find_spec(name) is not None]
    if not libraries:
        raise ConfigError("check_flow()", component, "httpx or httpx2 to be installed")
    faults = list(declaration(component))

    def make() -> Any:
        return fresh(component)

    if not hasattr(component, "around"):
        for library in libraries:
            with blocking_calls() as blocking:
                faults += _play_all(make, library)
            faults += [f"blocks: flow() calls {call}; yield flexmw.Sleep or flexmw.Send instead" for call in blocking]
    if not faults:
        faults += [f"transports: {fault}" for fault in compare(component, libraries)]
    report(component, faults)


def _play_all(make: Make, library: Any) -> list[str]:
    faults: list[str] = []
    for name, check in FLOW_CHECKS.items():
        try:
            faults += [f"{name}: {fault}" for fault in check(make, library)]
        except Exception as error:
            faults.append(f"{name}: {type(error).__name__}: {error}")
        if faults and check is _good_response:
            break
    return faults


def _good_response(make: Make, library: Any) -> list[str]:
    faults: list[str] = []
    for method in ("GET", "POST"):
        faults += _sent_once(play(make(), [200], request_of(library, method)), f"a {method}")
    return faults


def _streamed_request(make: Make, library: Any) -> list[str]:
    """Faults at a request whose body is not in memory."""
    request = request_of(library, "POST", content=iter([b"{", b"}"]))
    return _sent_once(play(make(), [200], request), "a POST from a stream")


def _sent_once(played: Played, label: str) -> list[str]:
    if played.faults:
        return played.faults
    if played.error is not None:
        return [f"{label} that got a 200 ended with {played.error!r}"]
    if played.count(Send) != 1 and not (played.count(Send) == 0 and is_built(played.response)):
        return [*_returned(played), f"{label} that got a 200 was sent {played.count(Send)} times"]
    return _returned(played)


def _repeated_request(make: Make, library: Any) -> list[str]:
    """Faults of the second of two equal calls, which a component may respond to by itself."""
    component = make()
    first = play(component, [200], request_of(library, "GET", path="/v1/repeated"))
    second = play(component, [200], request_of(library, "GET", path="/v1/repeated"))
    if first.faults or second.faults:
        return first.faults or second.faults
    earlier = [*first.responses, first.response]
    if second.response is not None and any(second.response is response for response in earlier):
        return [_STORED_RESPONSE]
    return _returned(second)


def _error_responses(make: Make, library: Any) -> list[str]:
    faults: list[str] = []
    for status in _STATUSES:
        for headers in ((), (("retry-after", "1"),)):
            request = request_of(library, "GET")
            response = response_of(request, status, headers)
            played = play(make(), [response, status], request)
            faults += [f"on a {status}: {fault}" for fault in played.faults or _returned(played)]
    return faults


def _transport_errors(make: Make, library: Any) -> list[str]:
    faults: list[str] = []
    for name in _ERRORS:
        error = getattr(library, name)("broken")
        played = play(make(), [error], request_of(library, "GET"))
        if played.faults:
            faults += played.faults
        elif played.error is None and not is_built(played.response):
            faults.append(f"a transport that always raises {name} ended with the response {played.response!r}")
        elif played.error is not None and not _is_from(played.error, error):
            faults.append(
                f"{name} of the transport became an unrelated {played.error!r}; raise it, or raise ... from it"
            )
    return faults


def _one_execution(make: Make, library: Any) -> list[str]:
    faults: list[str] = []
    for outcome in (500, library.ReadTimeout("no response"), library.ReadError("lost")):
        played = play(make(), [outcome], request_of(library, "POST"))
        if (sent := played.count(Send)) > 1:
            cause = outcome if isinstance(outcome, int) else type(outcome).__name__
            faults.append(f"a POST without a key was sent {sent} times on {cause}: it may be executed as often")
    return faults


def _cancellation(make: Make, library: Any) -> list[str]:
    faults: list[str] = []
    for end in _ENDS:
        for script in ([end()], [429, end()]):
            played = play(make(), script, request_of(library, "GET"))
            sends = played.count(Send)
            if sends < len(script):
                continue
            after = played.effects[_last_send(played, len(script)) + 1 :]
            if played.error is not script[-1]:
                faults.append(f"{end.__name__} did not come out of the flow (raised: {played.error!r})")
            if any(isinstance(effect, (Send, Sleep)) for effect in after):
                faults.append(f"it went on after {end.__name__}")
    return faults


def _closing(make: Make, library: Any) -> list[str]:
    flow = make().flow(request_of(library, "GET"))
    next(flow)
    try:
        flow.close()
    except RuntimeError as error:
        return [f"it cannot be closed while it waits ({error}): do not catch BaseException around a yield"]
    return []


def _broken_bodies(make: Make, library: Any) -> list[str]:
    """Faults of the flows that continue a body, for a component that yields ``Resume``."""
    faults: list[str] = []
    for method in ("GET", "POST"):
        component = make()
        played = play(component, [200], request_of(library, method))
        for effect in played.effects:
            if isinstance(effect, Resume):
                for end in (library.ConnectError("refused"), *(end() for end in _ENDS)):
                    broken = library.ReadError("broken")
                    faults += _broken_body(play_body(component, effect, broken, [end]), broken, end)
    return faults


def _broken_body(played: Played | None, broken: Exception, end: BaseException) -> list[str]:
    if played is None:
        return []
    if played.faults:
        return [f"in the flow that continues a body: {fault}" for fault in played.faults]
    if played.error is None:
        return [f"a body whose continuation always raises {end!r} went on with {played.response!r}"]
    is_right = _is_from(played.error, broken) if isinstance(end, Exception) else played.error is end
    if not is_right:
        return [f"a body broken by {broken!r} became an unrelated {played.error!r} when {end!r} was raised"]
    return []


def _interleaved(make: Make, library: Any) -> list[str]:
    component = make()
    requests = [request_of(library, "GET", f"{host}.test") for host in ("a", "b")]
    responses = [response_of(request, 200) for request in requests]
    flows = [component.flow(request) for request in requests]
    sends = [_up_to_send(flow, component) for flow in flows]
    faults: list[str] = []
    for request, send in zip(requests, sends, strict=True):
        if not isinstance(send, Send) or send.request.url.host != request.url.host:
            faults.append(f"with two calls at once, the call to {request.url.host} yielded {send!r}")
    waiting: list[tuple[int, Any]] = [(1, responses[1]), (0, responses[0])]
    while waiting:
        place, outcome = waiting.pop(0)
        try:
            effect = flows[place].send(outcome)
        except StopIteration as done:
            if done.value is not responses[place]:
                faults.append(
                    "with two calls at once, one got the other's response: keep state in the flow, not on self"
                )
        else:
            waiting.append((place, result_of(effect)))
    return faults


def _up_to_send(flow: Any, component: Any) -> Any:
    """Run a flow up to its first effect other than ``RunBlocking``, ``Sleep`` and ``Emit``, and return that effect."""
    effect, clock = next(flow), getattr(component, "clock", None)
    for _ in range(MAX_EFFECTS):
        if isinstance(effect, Sleep) and isinstance(clock, FakeClock):
            clock.sleep(effect.seconds)
        elif not isinstance(effect, (Emit, RunBlocking)):
            break
        effect = flow.send(result_of(effect))
    return effect


def _returned(played: Played) -> list[str]:
    """Faults of the returned response: neither the transport nor ``build_response`` made it, or it was discarded."""
    if played.error is not None:
        return []
    if is_built(played.response):
        return []
    if not any(played.response is response for response in played.responses):
        return [f"the flow returned {played.response!r}, {_NOT_GIVEN}"]
    if any(played.response is response for response in played.discarded):
        return ["the response that it returned was discarded before"]
    return []


def _is_from(error: BaseException, source: Exception) -> bool:
    return any(raised is source for raised in chain_of(error))


def _last_send(played: Played, number: int) -> int:
    return [place for place, effect in enumerate(played.effects) if isinstance(effect, Send)][number - 1]


FLOW_CHECKS: Final[Mapping[str, Check]] = {
    "good response": _good_response,
    "streamed request": _streamed_request,
    "repeated request": _repeated_request,
    "error responses": _error_responses,
    "transport errors": _transport_errors,
    "one execution": _one_execution,
    "cancellation": _cancellation,
    "closing": _closing,
    "broken bodies": _broken_bodies,
    "interleaved calls": _interleaved,
}
"""The checks. The messages of its faults begin with the name of a check."""
