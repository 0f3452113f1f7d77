"""Client side of Tagging: the flow of one call.

While no OpenTelemetry provider is configured, calls pass through untouched. One call per second checks whether a
provider has been configured since. Calls inside of ``suppress_instrumentation()`` pass through untouched as well:
exporters use it for their own requests, so that telemetry does not make telemetry.
"""

from __future__ import annotations

from flexmw.kit.effects import Flow, Follow, Request, Response, Send
from flexmw.tagging.call import CallTelemetry
from flexmw.tagging.instruments.suppression import is_suppressed
from flexmw.tagging.settings import Settings

__all__ = ["tagging_flow"]


def tagging_flow(settings: Settings, request: Request) -> Flow:
    """Send ``request`` once and observe its attempts, the components further inward, and the end of the body."""
    otel = settings.otel
    if not (otel.live or otel.due()) or is_suppressed():
        unobserved: Response = yield Send(request)
        return unobserved
    call = CallTelemetry(settings, request)
    call.enter()
    try:
        response: Response = yield Send(request, call.on_event)
    except BaseException as error:
        call.leave(error)
        call.finish(error)
        raise
    call.leave(None)
    call.status, call.outcome = response.status_code, response.extensions.get("flexmw")
    followed: Response = yield Follow(response, call.finish, call.tap(response))
    return followed
