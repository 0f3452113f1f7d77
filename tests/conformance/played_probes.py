"""Play a probe without a network: responses are made by a function of the request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flexmw.conformance.probes import PROBES
from flexmw.conformance.runner import Runner
from flexmw.conformance.target import Target
from flexmw.conformance.values import Probe, Request, Response, Row
from flexmw.contract import ErrorBody

__all__ = ["BY_ID", "error", "judge"]

BY_ID = {probe.id: probe for probe in PROBES}


def error(status: int, code: str | None = "c", type: str = "invalid_request_error", **headers: str) -> Response:
    """An error of the contract; ``_`` in the name of a header stands for ``-``."""
    fields = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    body = ErrorBody(message="No.", type=type, code=code).encode()
    return Response(status=status, headers=fields, body=body, seconds=1_800_000_000.0)


def judge(probe: str | Probe, respond: Callable[[Request], Response], **fields: Any) -> Row:
    """The row of one probe; it never waits for real."""
    target = Target(**{"has_key": True, "model": "m", **fields})
    runner = Runner(target, respond, sleep=lambda seconds: None)
    return runner.judge(BY_ID[probe] if isinstance(probe, str) else probe)
