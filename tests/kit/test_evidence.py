"""How far an attempt came."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

import flexmw
from flexmw.kit.effects import Emit
from flexmw.kit.evidence import Evidence


class Telling:
    """A component that tells those further outward of something."""

    name = "telling"
    api = 1

    def flow(self, request: Any) -> Any:
        yield Emit("acme.looked", {})
        return (yield flexmw.Send(request))


def test_an_event_of_a_component_is_no_report_of_the_transport() -> None:
    evidence = Evidence()
    evidence.observe("acme.looked", {})
    evidence.observe("flexmw.retry.scheduled", {})
    assert evidence.sent is None


def test_a_lost_response_stays_ambiguous_whatever_components_further_inward_emit() -> None:
    sent: list[Any] = []

    def lose(request: Any) -> Any:
        sent.append(request)
        raise httpx.ReadError("lost", request=request)

    client = httpx.Client(
        transport=flexmw.httpx.Transport(flexmw.Retry(), Telling(), transport=httpx.MockTransport(lose))
    )
    with client, pytest.raises(httpx.ReadError) as caught:
        client.post("http://api.test/")
    outcome: Any = caught.value.flexmw  # type: ignore[attr-defined]
    assert (len(sent), outcome.outcome) == (1, "ambiguous")
