"""A flow's calls that block: allowed, in a thread of their own, as long as they end."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

import flexmw
from flexmw.kit.effects import Flow, Response, RunBlocking, Send
from flexmw.testing import check_flow, played
from tests.waiting import LONGEST_WAIT


def test_a_component_may_ask_a_store_in_a_call() -> None:
    check_flow(flexmw.Pace(storage="redis://127.0.0.1:1"))


@dataclass(frozen=True)
class _Endless:
    name: ClassVar[str] = "acme.endless"
    api: ClassVar[int] = 1
    order: ClassVar[flexmw.Order] = flexmw.Order()

    ends: threading.Event

    def flow(self, request: Any) -> Flow:
        yield RunBlocking(lambda: self.ends.wait(LONGEST_WAIT))
        response: Response = yield Send(request)
        return response


def test_a_call_that_does_not_end_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(played, "CALL_SECONDS", 0.05)
    component = _Endless(threading.Event())
    try:
        with pytest.raises(AssertionError, match="a RunBlocking must end soon"):
            check_flow(component)
    finally:
        component.ends.set()
