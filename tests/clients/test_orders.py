"""Components of a client in any order: what each sees of the attempts of a Retry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import httpx
import pytest
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

import flexmw
from flexmw import Pace, Retry, Tagging
from flexmw.kit.effects import RESENDS
from flexmw.testing import FakeClock, HostileServer
from tests.clients.wires import WIRES, Wire
from tests.conftest import Telemetry
from tests.waiting import LONGEST_WAIT


@dataclass(frozen=True, kw_only=True)
class Witness:
    """Writes down what it is handed, and marks it."""

    name: ClassVar[str] = "test.witness"
    api: ClassVar[int] = 1
    order: ClassVar[flexmw.Order] = flexmw.Order()
    seen: list[tuple[int | None, str | None]] = field(default_factory=list)

    def flow(self, request: flexmw.Request) -> flexmw.Flow:
        self.seen.append((request.extensions.get(RESENDS), request.headers.get("x-mark")))
        request.headers["x-mark"] = str(len(self.seen))
        response: flexmw.Response = yield flexmw.Send(request)
        return response


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_a_component_inside_retry_sees_every_attempt_anew(wire: Wire) -> None:
    clock, inside, outside = FakeClock(), Witness(), Witness()
    with HostileServer(["503", "503"]) as server:
        [result] = wire.call("GET", server.url, outside, Retry(clock=clock), inside, clock=clock)
        assert [request.header("x-mark") for request in server.requests] == ["1", "2", "3"]
    assert result.status_code == 200
    assert outside.seen == [(None, None)]
    assert inside.seen == [(None, "1"), (1, "1"), (2, "1")], "each attempt begins with the caller's own headers"


@pytest.mark.parametrize(
    "components",
    [
        lambda clock: (Tagging(), Retry(clock=clock)),
        lambda clock: (Tagging(), Pace(clock=clock), Retry(clock=clock)),
        lambda clock: (Retry(clock=clock), Pace(clock=clock), Tagging()),
        lambda clock: (Retry(clock=clock), Tagging()),
    ],
    ids=["tagging-retry", "tagging-pace-retry", "retry-pace-tagging", "retry-tagging"],
)
def test_resends_are_counted_wherever_tagging_stands(in_memory_telemetry: Telemetry, components: Any) -> None:
    clock = FakeClock()
    client = httpx.Client(timeout=LONGEST_WAIT, trust_env=False)
    HTTPXClientInstrumentor.instrument_client(client, tracer_provider=in_memory_telemetry.tracer_provider)
    with HostileServer(["503:seconds=1", "429"]) as server, flexmw.wrap_client(client, *components(clock), clock=clock):
        assert client.post(server.url, json={}).status_code == 200
    resends = [(span.attributes or {}).get("http.request.resend_count") for span in in_memory_telemetry.spans]
    assert resends == [None, 1, 2]
